package upstream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// place is a backend that answers every call.
type place struct {
	addr   string
	health *health.Server
	calls  atomic.Int64
	code   atomic.Uint32 // what it answers
	hold   atomic.Int64  // how long it takes, in nanoseconds
	stop   func()
	drain  func()
}

// serve runs one on addr, or a free port.
func serve(t *testing.T, addr string) *place {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &place{addr: l.Addr().String(), health: health.NewServer()}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		s.calls.Add(1)
		select {
		case <-time.After(time.Duration(s.hold.Load())):
		case <-ss.Context().Done():
		}
		if c := codes.Code(s.code.Load()); c != codes.OK {
			return status.Error(c, "as told")
		}
		return ss.SendMsg(&wire.Frame{})
	}))
	healthpb.RegisterHealthServer(srv, s.health)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	s.stop = func() {
		srv.Stop()
		<-done
	}
	s.drain = func() {
		srv.GracefulStop()
		<-done
	}
	t.Cleanup(s.stop)
	return s
}

func remoteOf(t *testing.T, o upstream.RemoteOptions) upstream.Balanced {
	t.Helper()
	target, err := upstream.Remote(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	return target.(upstream.Balanced)
}

func endpointsOf(servers ...*place) (all []discovery.Backend) {
	for i, s := range servers {
		all = append(all, discovery.Backend{Addr: s.addr, Weight: i + 1})
	}
	return all
}

func send(t testing.TB, target upstream.Target, p *balance.Pick) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if p != nil {
		ctx = balance.WithPick(ctx, p)
	}
	return invoke(ctx, target, "/x.Y/Z", &wire.Frame{}, &wire.Frame{})
}

// until waits for backends whose states are these, by address.
func until(t *testing.T, target upstream.Balanced, want ...string) {
	t.Helper()
	var got string
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		got = ""
		for i, b := range target.Backends() {
			if i > 0 {
				got += " "
			}
			got += b.State
		}
		if got == fmt.Sprint(want)[1:len(fmt.Sprint(want))-1] {
			return
		}
	}
	t.Fatalf("the backends are %s, and never %v", got, want)
}

// load calls without a pause until it is stopped, and then says how many failed.
func load(t *testing.T, target upstream.Target) (stop func() (calls, failed int64, last error)) {
	var wg sync.WaitGroup
	var calls, failed atomic.Int64
	var last atomic.Value
	ctx, cancel := context.WithCancel(context.Background())
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := send(t, target, nil); err != nil {
					failed.Add(1)
					last.Store(err)
				}
				calls.Add(1)
			}
		})
	}
	return func() (int64, int64, error) {
		cancel()
		wg.Wait()
		err, _ := last.Load().(error)
		return calls.Load(), failed.Load(), err
	}
}

// catalogue stands in for Consul: it says where backends are.
type catalogue struct {
	mu    sync.Mutex
	index int
	addrs []string
}

func (c *catalogue) set(servers ...*place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	c.addrs = nil
	for _, s := range servers {
		c.addrs = append(c.addrs, s.addr)
	}
}

func (c *catalogue) registry(t *testing.T) *discovery.Registry {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			c.mu.Lock()
			if fmt.Sprint(c.index) != r.URL.Query().Get("index") {
				break
			}
			c.mu.Unlock()
			time.Sleep(5 * time.Millisecond)
		}
		if r.Context().Err() != nil {
			return
		}
		defer c.mu.Unlock()
		var entries []map[string]any
		for _, a := range c.addrs {
			addr, _ := net.ResolveTCPAddr("tcp", a)
			entries = append(entries, map[string]any{"Node": map[string]any{}, "Service": map[string]any{"Address": addr.IP.String(), "Port": addr.Port}})
		}
		w.Header().Set("X-Consul-Index", fmt.Sprint(c.index))
		_ = json.NewEncoder(w).Encode(entries)
	}))
	t.Cleanup(srv.Close)
	d, err := discovery.New(discovery.Options{Consul: &discovery.ConsulOptions{Address: srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
