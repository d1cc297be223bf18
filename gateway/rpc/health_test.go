package rpc_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	_ "google.golang.org/grpc/health" // A client that watches.
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/rpc"
)

// says is where a watcher says it calls from.
func says(o *rpc.Options) {
	o.Client = func(peer netip.Addr, headers func(string) []string) netip.Addr {
		if v := headers("x-from"); len(v) > 0 {
			return netip.MustParseAddr(v[0])
		}
		return peer
	}
}

// watchFrom opens a watch, and returns what comes first: nil, or its error.
func watchFrom(ctx context.Context, cc *grpc.ClientConn, addr string) error {
	st, err := healthpb.NewHealthClient(cc).Watch(metadata.AppendToOutgoingContext(ctx, "x-from", addr), &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	_, err = st.Recv()
	return err
}

func TestHealthWatchesAreBounded(t *testing.T) {
	e := start(t, says)
	refused := func(err error) {
		t.Helper()
		if status.Code(err) != codes.ResourceExhausted || reasonOf(err) != "TOO_MANY_IN_FLIGHT" {
			t.Errorf("got %v", err)
		}
	}
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	var conns []*grpc.ClientConn // Of 250 streams each.
	for range 6 {
		conns = append(conns, e.dial(nil, grpc.WithDefaultCallOptions()))
	}
	const of = 32
	for i := range of {
		if err := watchFrom(ctx, conns[i%2], "2001:db8::"+[]string{"1", "2"}[i%2]); err != nil {
			t.Fatalf("watch %d: %v", i+1, err)
		}
	}
	refused(watchFrom(ctx, conns[1], "2001:db8::3")) // Of the same /64, over another connection.
	for i := of; i < 1024; i++ {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(i / of)}).String()
		if err := watchFrom(ctx, conns[i/200], from); err != nil {
			t.Fatalf("watch %d: %v", i+1, err)
		}
	}
	refused(watchFrom(ctx, conns[5], "198.51.100.1"))
	if n := e.refusals("health_watches"); n != 2 {
		t.Errorf("%d refusals are counted", n)
	}
	if r, err := healthpb.NewHealthClient(conns[5]).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("Check: %v, %v", r, err)
	}
	if r, err := healthpb.NewHealthClient(conns[5]).List(ctx, &healthpb.HealthListRequest{}); err != nil || len(r.GetStatuses()) == 0 {
		t.Errorf("List: %v, %v", r, err)
	}
	cancel() // All of them end, and leave room.
	again := soon(t)
	eventually(t, "a watch after all have ended", func() bool { return watchFrom(again, conns[5], "2001:db8::1") == nil })
}

func TestHealthWatchEnds(t *testing.T) {
	e := start(t, func(o *rpc.Options) { o.HealthWatchTime = 50 * time.Millisecond })
	ctx := soon(t)
	cc := e.dial(nil)
	for range 3 * 32 { // More than may be open at once.
		st, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := st.Recv(); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("%v, %v", r, err)
		}
		if _, err := st.Recv(); !errors.Is(err, io.EOF) {
			t.Fatalf("it ends with %v", err)
		}
	}
	for _, r := range e.requests() {
		if r["status"] != "OK" {
			t.Fatalf("logged as %v", r)
		}
	}
}

// A client that watches is told when we go away, and watches again when its
// watch has ended.
func TestHealthWatchingClient(t *testing.T) {
	e := start(t, func(o *rpc.Options) { o.HealthWatchTime = 50 * time.Millisecond })
	cc := e.dial(nil, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}`))
	cc.Connect()
	watches := func() (n int) {
		for _, r := range e.requests() {
			if r["grpc_method"] == "grpc.health.v1.Health/Watch" {
				n++
			}
		}
		return n
	}
	eventually(t, "a client that watches again", func() bool { return watches() >= 3 })
	if _, err := invoke(soon(t), cc, echo, 10, grpc.WaitForReady(true)); err != nil {
		t.Errorf("a call of a client that watches: %v", err)
	}
	e.Drain()
	eventually(t, "a client that knows", func() bool { return cc.GetState() == connectivity.TransientFailure })
	eventually(t, "the next watch, and the same", func() bool { return watches() >= 6 })
	if got := cc.GetState(); got == connectivity.Ready {
		t.Errorf("the client is %v", got)
	}
}
