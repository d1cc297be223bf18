package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// quiet is a server on a network in memory, whose streams say one thing and then nothing.
func quiet(t *testing.T, o ...grpc.ServerOption) *bufconn.Listener {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	srv := grpc.NewServer(append(o, grpc.ForceServerCodecV2(wire.Codec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		if err := ss.SendMsg(&wire.Frame{}); err != nil {
			return err
		}
		<-ss.Context().Done()
		return ss.Context().Err()
	}))...)
	healthpb.RegisterHealthServer(srv, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l
}

func (o RemoteOptions) over(t *testing.T, l *bufconn.Listener) *remote {
	t.Helper()
	o.Endpoints = []discovery.Backend{{Addr: "10.0.0.1:80"}}
	if o.dial == nil {
		o.dial = func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
	}
	r, err := newRemote(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
	return r
}

// TestQuietStreams: a stream on which nothing is said lives as long as it likes, on servers
// that know nothing of the gateway and end connections with too many pings. Time is
// simulated.
func TestQuietStreams(t *testing.T) {
	for name, tc := range map[string]struct {
		server []grpc.ServerOption
		client RemoteOptions
		dies   bool
	}{
		"a stock server":                     {},
		"a stock server, its health watched": {client: RemoteOptions{HealthCheck: &HealthCheckOptions{}}},
		"pings as before":                    {client: RemoteOptions{Keepalive: KeepaliveOptions{Time: 20 * time.Second}}, dies: true},
		"more pings, which are allowed": {client: RemoteOptions{Keepalive: KeepaliveOptions{Time: 20 * time.Second, PermitWithoutStream: true}},
			server: []grpc.ServerOption{grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true})}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := tc.client.over(t, quiet(t, tc.server...))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				st, err := r.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/x.Y/Watch", grpc.WaitForReady(true))
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(st.SendMsg(&wire.Frame{}), st.CloseSend(), st.RecvMsg(&wire.Frame{})); err != nil {
					t.Fatal(err)
				}
				began, ended := time.Now(), make(chan error, 1)
				go func() { ended <- st.RecvMsg(&wire.Frame{}) }()
				select {
				case err := <-ended:
					if !tc.dies || !strings.Contains(err.Error(), "too_many_pings") && status.Code(err) != codes.Unavailable {
						t.Errorf("after %v: %v", time.Since(began), err)
					}
				case <-time.After(24 * time.Hour):
					if tc.dies {
						t.Error("the server does not count pings: this test shows nothing")
					}
					cancel()
					<-ended
				}
			})
		})
	}
}

// TestUnusedConnection: a connection without calls stays a day on a stock server, and the
// calls that come now and then meet one that works.
func TestUnusedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := quiet(t)
		var dials atomic.Int32
		r := RemoteOptions{dial: func(ctx context.Context, _ string) (net.Conn, error) {
			dials.Add(1)
			return l.DialContext(ctx)
		}}.over(t, l)
		for range 48 {
			once(t, r)
			time.Sleep(30*time.Minute + time.Second)
		}
		if n := dials.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func once(t *testing.T, r *remote) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	st, err := r.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/x.Y/Z", grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.SendMsg(&wire.Frame{}), st.CloseSend(), st.RecvMsg(&wire.Frame{})); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := st.RecvMsg(&wire.Frame{}); err == nil || errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// TestIdleTimeout: with it, connections are closed behind the last call, and the next call
// has new ones.
func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := quiet(t)
		var dials, open atomic.Int32
		r := RemoteOptions{IdleTimeout: time.Minute, Deadlines: map[string]time.Duration{"/x.Y/Z": time.Second},
			dial: func(ctx context.Context, _ string) (net.Conn, error) {
				c, err := l.DialContext(ctx)
				if err != nil {
					return nil, err
				}
				dials.Add(1)
				open.Add(1)
				return &closing{Conn: c, open: &open}, nil
			}}.over(t, l)
		if r.Bound("/x.Y/Z") != 0 {
			t.Error("grpc-go is relied upon for a deadline that it does not hold while it looks backends up")
		}
		for i := range 3 {
			once(t, r)
			if dials.Load() != int32(i)+1 || open.Load() != 1 {
				t.Errorf("call %d: %d connections made, %d open", i, dials.Load(), open.Load())
			}
			time.Sleep(59 * time.Second)
			if synctest.Wait(); open.Load() != 1 {
				t.Errorf("%d open before the time is over", open.Load())
			}
			time.Sleep(3 * time.Minute)
			if synctest.Wait(); open.Load() != 0 {
				t.Errorf("%d open behind it", open.Load())
			}
		}
	})
}

// closing counts a connection as open until it is closed first.
type closing struct {
	net.Conn
	once sync.Once
	open *atomic.Int32
}

func (c *closing) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
