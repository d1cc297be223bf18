package store

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	"github.com/sluice-gateway/sluice/services/order/domain"
)

// marshalLines returns the stored form of lines: an Order with nothing else. The
// contract's compatibility rules (buf breaking) keep old rows readable.
func marshalLines(lines []domain.Line) ([]byte, error) {
	m := &orderv1.Order{Lines: make([]*orderv1.OrderLine, len(lines))}
	for i, l := range lines {
		m.Lines[i] = &orderv1.OrderLine{
			Sku: l.SKU, Title: l.Title, Quantity: l.Quantity,
			Price: &typev1.Money{CurrencyCode: l.Price.Currency, Units: l.Price.Units, Nanos: l.Price.Nanos},
		}
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("marshal lines: %w", err)
	}
	return raw, nil
}

func unmarshalLines(raw []byte) ([]domain.Line, error) {
	var m orderv1.Order
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("unmarshal lines: %w", err)
	}
	lines := make([]domain.Line, len(m.GetLines()))
	for i, l := range m.GetLines() {
		lines[i] = domain.Line{
			SKU: l.GetSku(), Title: l.GetTitle(), Quantity: l.GetQuantity(),
			Price: domain.Money{Currency: l.GetPrice().GetCurrencyCode(), Units: l.GetPrice().GetUnits(), Nanos: l.GetPrice().GetNanos()},
		}
	}
	return lines, nil
}
