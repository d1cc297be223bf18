package upstream

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// TestSilentDeath: a backend that stays connected, and never says anything any more, is
// found by a ping; what the keys say is when. Time is simulated.
func TestSilentDeath(t *testing.T) {
	for name, tc := range map[string]struct {
		keepalive KeepaliveOptions
		within    time.Duration
	}{
		"by default":    {within: pingTime + pingTimeout},
		"as configured": {keepalive: KeepaliveOptions{Time: 30 * time.Second, Timeout: 10 * time.Second}, within: 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, dead := quiet(t), make(chan struct{})
				r := RemoteOptions{Keepalive: tc.keepalive, dial: func(ctx context.Context, _ string) (net.Conn, error) {
					c, err := l.DialContext(ctx)
					return &dying{Conn: c, dead: dead, closed: make(chan struct{})}, err
				}}.over(t, l)
				st, err := r.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/x.Y/Watch", grpc.WaitForReady(true))
				if err != nil {
					t.Fatal(err)
				}
				if err := st.SendMsg(&wire.Frame{}); err != nil {
					t.Fatal(err)
				}
				if err := st.RecvMsg(&wire.Frame{}); err != nil {
					t.Fatal(err)
				}
				close(dead)
				began := time.Now()
				err = st.RecvMsg(&wire.Frame{})
				if took := time.Since(began); status.Code(err) != codes.Unavailable || took > tc.within {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// dying reads nothing any more once the other side is dead.
type dying struct {
	net.Conn
	dead, closed chan struct{}
	once         sync.Once
}

func (c *dying) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.dead:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *dying) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
