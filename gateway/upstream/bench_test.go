package upstream_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// BenchmarkInvoke is what a call costs here: the target answers at once.
func BenchmarkInvoke(b *testing.B) {
	f := connect(b, signer{})
	ctx := f.admit(b, "Echo")
	call, in, a := policy.Admitted(ctx), &wire.Frame{}, &upstream.Answer{}
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Call(ctx, call, in, a); err != nil {
			b.Fatal(err)
		}
		f.observer.done = f.observer.done[:0]
	}
}

// BenchmarkInProcess is a call of a service in this process, which answers at once.
func BenchmarkInProcess(b *testing.B) {
	c := compose(b, "inprocess")
	c.set(getUser, field(1, "ada"))
	ctx := c.admit(b, getUser)
	in, err := proto.Marshal(&userv1.GetUserRequest{UserId: "ada"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var a upstream.Answer
		if err := c.Call(ctx, policy.Admitted(ctx), &wire.Frame{Data: in}, &a); err != nil {
			b.Fatal(err)
		}
		a.Message.Free()
	}
}

// BenchmarkOverview is a composite of three branches and ten orders, whose services
// are in this process, from an edge's bytes to its bytes.
func BenchmarkOverview(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			c := compose(b, kind)
			list := &orderv1.ListOrdersResponse{}
			for i := range 10 {
				price := &typev1.Money{CurrencyCode: "EUR", Units: 12, Nanos: 990000000}
				list.Orders = append(list.Orders, &orderv1.Order{OrderId: fmt.Sprint(i), UserId: "ada", Total: price, Lines: []*orderv1.OrderLine{
					{Sku: "BOOK-1", Title: "Sketch of the Analytical Engine", Quantity: 1, Price: price}, {Sku: "PEN-7", Title: "A pen", Quantity: 12, Price: price},
				}})
			}
			for method, m := range map[string]proto.Message{getUser: &userv1.User{UserId: "ada"}, getProfile: &profilev1.Profile{UserId: "ada"}, listOrders: list} {
				answer, err := proto.Marshal(m)
				if err != nil {
					b.Fatal(err)
				}
				c.set(method, answer)
			}
			ctx := c.admit(b, getOverview)
			in, err := proto.Marshal(overviewOfAda)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				var a upstream.Answer
				if err := c.Call(ctx, policy.Admitted(ctx), &wire.Frame{Data: in}, &a); err != nil {
					b.Fatal(err)
				}
				a.Message.Free()
			}
		})
	}
}

// BenchmarkResilient is BenchmarkInvoke with breaker, bound and budget on, and as an
// edge has it that reads the answer itself; off is without them, in the same run.
func BenchmarkResilient(b *testing.B) {
	for name, o := range map[string]upstream.ServiceOptions{"off": {}, "on": {Resilience: resilient(b, resilience.Options{})}, "canary": {
		Resilience: resilient(b, resilience.Options{}), Canaries: []upstream.Canary{{Name: "next", Target: &backend{}, Percent: 10}},
	}} {
		for _, unread := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/unread=%v", name, unread), func(b *testing.B) {
				f := travel(b, &backend{}, o, func(u *upstream.Options) {
					u.Observer = nil
					if name == "off" {
						u.Services = nil
					}
				})
				in, a, call := &wire.Frame{}, &upstream.Answer{Reads: unread}, &policy.Call{}
				ctx := f.admit(b, "Echo", call)
				b.ReportAllocs()
				for b.Loop() {
					call.Attempts, call.Backend = 0, ""
					if err := f.Call(ctx, call, in, a); err != nil {
						b.Fatal(err)
					}
					a.Read(nil)
				}
			})
		}
	}
}
