package server

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	"github.com/sluice-gateway/sluice/services/order/domain"
)

func toProto(o domain.Order) *orderv1.Order {
	out := &orderv1.Order{
		OrderId:    o.ID,
		UserId:     o.UserID,
		Lines:      make([]*orderv1.OrderLine, len(o.Lines)),
		Total:      moneyTo(o.Total),
		State:      orderv1.OrderState(o.State),
		CreateTime: timestamppb.New(o.Created),
		UpdateTime: timestamppb.New(o.Updated),
		Etag:       o.Etag(),
		Note:       o.Note,
	}
	for i, l := range o.Lines {
		out.Lines[i] = &orderv1.OrderLine{Sku: l.SKU, Title: l.Title, Quantity: l.Quantity, Price: moneyTo(l.Price)}
	}
	return out
}

func linesFrom(in []*orderv1.OrderLine) []domain.Line {
	lines := make([]domain.Line, len(in))
	for i, l := range in {
		lines[i] = domain.Line{SKU: l.GetSku(), Title: l.GetTitle(), Quantity: l.GetQuantity(), Price: moneyFrom(l.GetPrice())}
	}
	return lines
}

func moneyTo(m domain.Money) *typev1.Money {
	return &typev1.Money{CurrencyCode: m.Currency, Units: m.Units, Nanos: m.Nanos}
}

func moneyFrom(m *typev1.Money) domain.Money {
	return domain.Money{Currency: m.GetCurrencyCode(), Units: m.GetUnits(), Nanos: m.GetNanos()}
}
