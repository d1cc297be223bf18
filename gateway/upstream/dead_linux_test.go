package upstream

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// TestDeadMachines: the kernel is asked to end a connection whose other machine does not
// acknowledge what was sent, and to look after one on which nothing is sent.
func TestDeadMachines(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return ss.SendMsg(&wire.Frame{}) }))
	go func() { _ = srv.Serve(l) }()
	defer srv.Stop()
	conns := make(chan net.Conn, 1)
	r, err := newRemote(RemoteOptions{Endpoints: []discovery.Backend{{Addr: l.Addr().String()}}, dial: func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := discovery.Dial(ctx, addr)
		if err == nil {
			conns <- c
		}
		return c, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.ClientConn.Invoke(ctx, "/x.Y/Z", &wire.Frame{}, &wire.Frame{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	raw, err := (<-conns).(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]struct{ level, option, want int }{
		"user timeout":  {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(pingTimeout / time.Millisecond)},
		"keepalive":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"idle before":   {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 20},
		"between tries": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 2},
	} {
		err := raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
				t.Errorf("%s: %d, %v", name, got, err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}
