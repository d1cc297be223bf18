package aggregator

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// noop answers every call with an empty message at once, so that the benchmark
// sees the fan-out and nothing else.
type noop struct{}

func (noop) Call(context.Context, string, []byte) ([]byte, error) { return nil, nil }

// stored answers every call with a copy of the bytes that belong to its method.
type stored struct{ answers map[string][]byte }

func (s stored) Call(_ context.Context, method string, _ []byte) ([]byte, error) {
	return bytes.Clone(s.answers[method]), nil
}

// shop is a user, a profile and so many orders.
func shop(tb testing.TB, orders int) stored {
	tb.Helper()
	list := &orderv1.ListOrdersResponse{NextPageToken: "more"}
	for i := range orders {
		price := &typev1.Money{CurrencyCode: "EUR", Units: 12, Nanos: 990000000}
		list.Orders = append(list.Orders, &orderv1.Order{
			OrderId: fmt.Sprintf("order-%d", i), UserId: "ada", State: orderv1.OrderState_ORDER_STATE_PAID, Total: price,
			Lines: []*orderv1.OrderLine{
				{Sku: "BOOK-1", Title: "Sketch of the Analytical Engine", Quantity: 1, Price: price},
				{Sku: "PEN-7", Title: "A pen", Quantity: 12, Price: price},
			},
			CreateTime: timestamppb.New(time.Unix(1700000000, 1)), UpdateTime: timestamppb.New(time.Unix(1700000001, 2)), Etag: "1",
		})
	}
	s := stored{answers: map[string][]byte{}}
	for method, m := range map[string]proto.Message{
		getUser:    &userv1.User{UserId: "ada", Email: "ada@example.com", DisplayName: "Ada Lovelace", CreateTime: timestamppb.New(time.Unix(1700000000, 0))},
		getProfile: &profilev1.Profile{UserId: "ada", Bio: "Writes the first program, for a machine that is not built."},
		listOrders: list,
		getOrder:   order1,
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			tb.Fatal(err)
		}
		s.answers[method] = b
	}
	return s
}

// typedOverview is GetUserOverview as if it read what it hands on.
func typedOverview(ctx context.Context, s *Server, list Method[orderv1.ListOrdersRequest, orderv1.ListOrdersResponse], o FanoutOptions) (*bffv1.UserOverview, error) {
	var (
		user    *userv1.User
		profile *profilev1.Profile
		orders  *orderv1.ListOrdersResponse
	)
	f := NewFanout(ctx, o)
	f.Required("user", Fetch(&user, s.getUser, &userv1.GetUserRequest{UserId: "ada"}))
	f.Optional("profile", AbsentIfNotFound(Fetch(&profile, s.getProfile, &profilev1.GetProfileRequest{UserId: "ada"})))
	f.Optional("recent_orders", Fetch(&orders, list, &orderv1.ListOrdersRequest{UserId: "ada", PageSize: 10}))
	partial, err := f.Wait()
	return &bffv1.UserOverview{User: user, Profile: profile, RecentOrders: orders.GetOrders(), Partial: partial}, err
}

// BenchmarkOverview is a composite from its call to its bytes: parsed, or passed
// on; and the fan-out alone.
func BenchmarkOverview(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	run := func(name string, call func() (*bffv1.UserOverview, error)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				answer, err := call()
				if err != nil {
					b.Fatal(err)
				}
				out, err := proto.Marshal(answer)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(out)))
			}
		})
	}
	req := &bffv1.GetUserOverviewRequest{UserId: "ada"}
	for _, n := range []int{10, 100} {
		conn := shop(b, n)
		s := serverOf(b, conn)
		list, err := NewMethod[orderv1.ListOrdersRequest, orderv1.ListOrdersResponse](conn, listOrders)
		if err != nil {
			b.Fatal(err)
		}
		run(fmt.Sprintf("orders=%d/parsed", n), func() (*bffv1.UserOverview, error) {
			return typedOverview(ctx, s, list, FanoutOptions{Logger: quiet})
		})
		run(fmt.Sprintf("orders=%d/passed", n), func() (*bffv1.UserOverview, error) { return s.GetUserOverview(ctx, req) })
	}
	s := serverOf(b, noop{})
	run("fanout", func() (*bffv1.UserOverview, error) { return s.GetUserOverview(ctx, req) })
}

func serverOf(tb testing.TB, conn Branches) *Server {
	tb.Helper()
	s, err := New(Options{Users: conn, Orders: conn, Profiles: conn, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
