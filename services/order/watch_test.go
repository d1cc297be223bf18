package order_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

const (
	placed    = orderv1.OrderState_ORDER_STATE_PLACED
	paid      = orderv1.OrderState_ORDER_STATE_PAID
	shipped   = orderv1.OrderState_ORDER_STATE_SHIPPED
	delivered = orderv1.OrderState_ORDER_STATE_DELIVERED
	cancelled = orderv1.OrderState_ORDER_STATE_CANCELLED
)

type watching = grpc.ServerStreamingClient[orderv1.Order]

// watch starts a watch and waits for its headers, which come before any change.
func watch(t *testing.T, c *kittest.Conn, id string) watching {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := as(c, "ada").WatchOrder(ctx, &orderv1.WatchOrderRequest{OrderId: id})
	if err != nil {
		t.Fatal(err)
	}
	if md, err := stream.Header(); err != nil || len(md.Get("watching")) != 1 {
		t.Fatalf("headers = %v, %v", md, err)
	}
	return stream
}

// next receives one state.
func next(t *testing.T, stream watching, want orderv1.OrderState) *orderv1.Order {
	t.Helper()
	o, err := stream.Recv()
	if err != nil || o.GetState() != want {
		t.Fatalf("received %v, %v, want %s", o.GetState(), err, want)
	}
	return o
}

func wantEnd(t *testing.T, stream watching) {
	t.Helper()
	if o, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("received %v, %v, want the end", o, err)
	}
}

func watchToTheEnd(t *testing.T, c *kittest.Conn) {
	o := place(t, c, "ada")
	stream := watch(t, c, o.GetOrderId())
	wantEqual(t, next(t, stream, placed), o)
	for _, state := range []orderv1.OrderState{paid, shipped, delivered} {
		moved := advance(t, c, o.GetOrderId(), state)
		wantEqual(t, next(t, stream, state), moved) // Etag, times and lines too.
	}
	wantEnd(t, stream)
}

func watchFinal(t *testing.T, c *kittest.Conn) {
	o := place(t, c, "ada")
	if _, err := as(c, "ada").CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: o.GetOrderId()}); err != nil {
		t.Fatal(err)
	}
	stream := watch(t, c, o.GetOrderId())
	next(t, stream, cancelled)
	wantEnd(t, stream)
}

func watchAndLeave(t *testing.T, c *kittest.Conn) {
	o := place(t, c, "ada")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := as(c, "ada").WatchOrder(ctx, &orderv1.WatchOrderRequest{OrderId: o.GetOrderId()})
	if err != nil {
		t.Fatal(err)
	}
	next(t, stream, placed)
	cancel()
	_, err = stream.Recv()
	kittest.WantCode(t, err, codes.Canceled)
	// A deadline ends a watch with its own code. A bare context error would arrive
	// as UNKNOWN in-process.
	late, cancelLate := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancelLate()
	if stream, err = as(c, "ada").WatchOrder(late, &orderv1.WatchOrderRequest{OrderId: o.GetOrderId()}); err != nil {
		t.Fatal(err)
	}
	next(t, stream, placed)
	_, err = stream.Recv()
	kittest.WantCode(t, err, codes.DeadlineExceeded)
}

// watchRaces: watches that begin while the order moves, and read late, see every
// state from their first one on, in order and once.
func watchRaces(t *testing.T, c *kittest.Conn) {
	way := []orderv1.OrderState{placed, paid, shipped, delivered}
	for range 5 {
		o := place(t, c, "ada")
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 2 * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				stream, err := as(c, "ada").WatchOrder(ctx, &orderv1.WatchOrderRequest{OrderId: o.GetOrderId()})
				if err != nil {
					t.Error(err)
					return
				}
				var seen []orderv1.OrderState
				for {
					if i%2 == 0 {
						time.Sleep(10 * time.Millisecond) // A slow client.
					}
					got, err := stream.Recv()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Error(err)
						return
					}
					seen = append(seen, got.GetState())
				}
				if len(seen) == 0 || !slices.Equal(seen, way[len(way)-len(seen):]) {
					t.Errorf("a watch saw %v", seen)
				}
			})
		}
		for _, state := range way[1:] {
			advance(t, c, o.GetOrderId(), state)
		}
		wg.Wait()
	}
}

// watchOther watches at one process what happens at another.
func watchOther(t *testing.T, dsn, transport string) {
	here, there := connect(t, open(t, dsn), transport), connect(t, open(t, dsn), transport)
	const orders = 20 // More than one query of the poller asks for.
	streams := make([]watching, orders)
	ids := make([]string, orders)
	for i := range streams {
		ids[i] = place(t, there, "ada").GetOrderId()
		streams[i] = watch(t, here, ids[i])
		next(t, streams[i], placed)
	}
	for _, id := range ids {
		advance(t, there, id, paid)
		advance(t, there, id, shipped)
	}
	for i, stream := range streams {
		next(t, stream, paid)
		next(t, stream, shipped)
		advance(t, there, ids[i], delivered)
	}
	for _, stream := range streams {
		next(t, stream, delivered)
		wantEnd(t, stream)
	}
}

func watchDrained(t *testing.T, s *kit.Service, transport string) {
	c := connect(t, s, transport)
	o := place(t, c, "ada")
	stream := watch(t, c, o.GetOrderId())
	next(t, stream, placed)
	s.Drain()
	_, err := stream.Recv()
	kittest.WantCode(t, err, codes.Unavailable)
}
