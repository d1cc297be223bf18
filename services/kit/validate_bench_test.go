package kit_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	"github.com/sluice-gateway/sluice/services/kit"
)

func goodOrder(lines int) *orderv1.CreateOrderRequest {
	req := &orderv1.CreateOrderRequest{UserId: "ada", RequestId: "r-1", Order: &orderv1.Order{Note: "ring twice"}}
	for i := range lines {
		req.Order.Lines = append(req.Order.Lines, &orderv1.OrderLine{
			Sku: fmt.Sprintf("sku-%d", i), Title: "Thing", Quantity: 2, Price: &typev1.Money{CurrencyCode: "EUR", Units: 1},
		})
	}
	return req
}

// orderBomb is a message of about 1 MiB with as many wrong values as fit.
func orderBomb() *orderv1.CreateOrderRequest {
	req := &orderv1.CreateOrderRequest{UserId: "ada", Order: &orderv1.Order{}}
	for range 349_000 {
		req.Order.Lines = append(req.Order.Lines, &orderv1.OrderLine{})
	}
	return req
}

func linksBomb() *profilev1.UpdateProfileRequest {
	links := make(map[string]string)
	for i := range 65_000 {
		links[fmt.Sprintf("link-%d", i)] = ""
	}
	return &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada", Links: links}}
}

func BenchmarkValidate(b *testing.B) {
	validate, err := kit.NewValidate()
	if err != nil {
		b.Fatal(err)
	}
	for _, bm := range []struct {
		name string
		req  proto.Message
		ok   bool
	}{
		{"order of 3 lines", goodOrder(3), true},
		{"order of 100 lines", goodOrder(100), true},
		{"order of 349,000 empty lines", orderBomb(), false},
		{"profile of 65,000 links", linksBomb(), false},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := validate(bm.req); (err == nil) != bm.ok {
					b.Fatal(err)
				}
			}
		})
	}
}
