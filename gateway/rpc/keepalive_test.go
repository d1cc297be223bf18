package rpc_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// TestStockClients: clients that ping as often as their libraries let them, with a stream
// on which nothing is said and without, keep their connection although every other write is
// late. Time is simulated.
func TestStockClients(t *testing.T) {
	for name, p := range map[string]keepalive.ClientParameters{
		"with calls":    {Time: 10 * time.Second},
		"without calls": {Time: 10 * time.Second, PermitWithoutStream: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := bufconn.Listen(1 << 16)
				e := startOn(t, l, nil)
				var dials atomic.Int32
				cc := e.dial(nil, grpc.WithKeepaliveParams(p), grpc.WithIdleTimeout(0), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					dials.Add(1)
					c, err := l.DialContext(ctx)
					return &jittery{Conn: c}, err
				}))
				ctx, cancel := context.WithCancel(t.Context())
				st, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, chat)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(st.SendMsg(&wire.Frame{}), st.RecvMsg(&wire.Frame{})); err != nil {
					t.Fatal(err)
				}
				if p.PermitWithoutStream {
					cancel()
				}
				ended := make(chan error, 1)
				go func() { ended <- st.RecvMsg(&wire.Frame{}) }()
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				select {
				case err := <-ended:
					if !p.PermitWithoutStream {
						t.Error(err)
					}
				default:
				}
				cancel()
				if n := dials.Load(); n != 1 {
					t.Errorf("%d connections", n)
				}
				_ = cc.Close()
				e.GRPC().Stop()
				synctest.Wait()
			})
		})
	}
}

// jittery delays every other write.
type jittery struct {
	net.Conn
	n int
}

func (c *jittery) Write(p []byte) (int, error) {
	if c.n++; c.n%2 == 0 {
		time.Sleep(300 * time.Millisecond)
	}
	return c.Conn.Write(p)
}
