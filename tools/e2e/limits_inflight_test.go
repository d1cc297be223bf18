package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
)

// watchOrder has the class stream. Over gRPC it ends after the first state.
func watchOrder(id string) method {
	return method{"/v1/orders/" + id + ":watch", func(ctx context.Context, cc grpc.ClientConnInterface, o ...grpc.CallOption) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, err := orderv1.NewOrderServiceClient(cc).WatchOrder(ctx, &orderv1.WatchOrderRequest{OrderId: id}, o...)
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}}
}

// watchers open watches that stay open.
type watchers struct {
	caller
	order string
}

// open opens a watch over an edge, which is in flight when it returns: its first
// state has come.
func (w watchers) open(t *testing.T, edge string) (end func()) {
	t.Helper()
	end, err := w.try(t, edge)
	if err != nil {
		t.Fatalf("watch over %s: %v", edge, err)
	}
	return end
}

// reopen waits until there is a place, and takes it.
func (w watchers) reopen(t *testing.T, when, edge string) (end func()) {
	t.Helper()
	eventually(t, patience, func() (err error) {
		if end, err = w.try(t, edge); err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		return nil
	})
	return end
}

func (w watchers) try(t *testing.T, edge string) (end func(), err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	if edge == "REST" {
		err = w.tryREST(ctx)
	} else {
		var s grpc.ServerStreamingClient[orderv1.Order]
		s, err = orderv1.NewOrderServiceClient(w.g.conn).WatchOrder(
			metadata.AppendToOutgoingContext(ctx, strings.ToLower(w.header), w.value), &orderv1.WatchOrderRequest{OrderId: w.order})
		if err == nil {
			_, err = s.Recv()
		}
	}
	if err != nil {
		cancel()
	}
	return cancel, err
}

func (w watchers) tryREST(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, "GET", w.g.url+watchOrder(w.order).path, nil)
	if err != nil {
		return err
	}
	req.Header.Set(w.header, w.value)
	res, err := manyClient.Do(req) //nolint:bodyclose // It ends with ctx.
	if err != nil {
		return err
	}
	if res.StatusCode != 200 {
		return errors.New(res.Status)
	}
	_, err = bufio.NewReader(res.Body).ReadString('\n')
	return err
}

// oneTooMany: both edges refuse another watch, and say which bound is reached.
func (w watchers) oneTooMany(t *testing.T, when, limit string) {
	t.Helper()
	for edge, ask := range w.both(watchOrder(w.order)) {
		r := once(t, when+", "+edge, ask, codes.ResourceExhausted, "TOO_MANY_IN_FLIGHT")
		if r.limit != limit || r.retry != time.Second || r.status != 0 && r.retryAfter != "1" {
			t.Errorf("%s, %s: %v, want limit %s", when, edge, r, limit)
		}
	}
}

// byHand opens a watch over REST on a connection of its own.
func (w watchers) byHand(t *testing.T) (*net.TCPConn, error) {
	addr := strings.TrimPrefix(w.g.url, "http://")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n\r\n", watchOrder(w.order).path, addr, w.header, w.value); err != nil {
		return nil, err
	}
	status, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return nil, err
	}
	if !strings.Contains(status, " 200 ") {
		return nil, errors.New(status)
	}
	return c.(*net.TCPConn), nil // In flight; what is not read yet does not matter.
}

// TestCallsInFlight: watches over REST and gRPC, by token and by API key, count
// together for one caller, and those of all callers for the method. However a
// watch ends, its place is free again.
func TestCallsInFlight(t *testing.T) {
	t.Parallel()
	key, line := newAPIKey(t, "ci", "ada", "")
	rootKey, root := newAPIKey(t, "back-office", "root", "")
	root["scopes"] = []string{"admin"}
	g := startGateway(t, setup{config: keyed(object{"stream": object{"max_in_flight_per_caller": 4, "max_in_flight_per_method": 6}}, line, root)})
	token := g.token(t)
	id := place(t, g, token, "watched")
	byToken, byKey := watchers{withBearer(g, token), id}, watchers{withKey(g, key), id}
	other := watchers{withKey(g, rootKey), id}
	const ofCaller, ofMethod = "stream-in-flight-caller", "stream-in-flight-method"
	full := func(when string) {
		t.Helper()
		byToken.oneTooMany(t, when, ofCaller)
		byKey.oneTooMany(t, when, ofCaller)
	}

	ends := []func(){byToken.open(t, "REST"), byKey.open(t, "gRPC"), byKey.open(t, "REST"), byToken.open(t, "gRPC")}
	full("four watches")
	otherEnds := other.open(t, "REST")
	other.open(t, "gRPC")
	other.oneTooMany(t, "six watches", ofMethod)
	otherEnds()
	other.reopen(t, "another caller's watch has ended", "gRPC")()

	for i, end := range ends {
		end()
		edge := []string{"gRPC", "REST"}[i%2]
		ends[i] = byKey.reopen(t, "cancelled", edge)
		full("cancelled, and opened again")
	}
	for name, client := range clientsThatDie {
		ends[0]()
		var die func()
		eventually(t, patience, func() (err error) {
			die, err = client(t, byKey)
			return err
		})
		full(name + ": before")
		die()
		ends[0] = byToken.reopen(t, name, "REST")
		full(name + ": opened again")
	}
	// The order is cancelled: all its watches end well.
	g.rest(t, "POST", "/v1/orders/"+id+":cancel", token, "{}").want(t, 200, &order{})
	id = place(t, g, token, "watched next")
	byToken.order, byKey.order = id, id
	for i := range 4 {
		byToken.reopen(t, "the watches have ended", []string{"REST", "gRPC"}[i%2])
	}
	full("four watches of another order")
	if n := sample(t, g, "sluice_limit_decisions_total", `limit="`+ofCaller+`"`, `outcome="refused"`); n < 20 {
		t.Errorf("the metric tells of %v refusals", n)
	}
}

// clientsThatDie open a watch and end as they do when their machine ends them. An
// error means that there was no place.
var clientsThatDie = map[string]func(t *testing.T, w watchers) (die func(), err error){
	"grpcurl, killed": func(t *testing.T, w watchers) (func(), error) {
		p := start(t, nil, "grpcurl", "-plaintext", "-H", strings.ToLower(w.header)+": "+w.value, "-d", `{"order_id":"`+w.order+`"}`, w.g.grpcAddr, "shop.order.v1.OrderService/WatchOrder")
		for deadline := time.Now().Add(patience); !strings.Contains(p.stdout.String(), placed); time.Sleep(10 * time.Millisecond) {
			select {
			case <-p.exited:
				return nil, errors.New(p.stderr.String())
			default:
			}
			if time.Now().After(deadline) {
				return nil, errors.New("grpcurl prints nothing")
			}
		}
		return p.kill, nil
	},
	"a connection, closed": func(t *testing.T, w watchers) (func(), error) {
		c, err := w.byHand(t)
		return func() { c.Close() }, err
	},
	"a connection, reset": func(t *testing.T, w watchers) (func(), error) {
		c, err := w.byHand(t)
		return func() { _ = c.SetLinger(0); c.Close() }, err
	},
}
