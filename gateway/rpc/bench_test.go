package rpc

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// BenchmarkLease is what patience costs a call.
func BenchmarkLease(b *testing.B) {
	s := &Server{o: Options{Patience: time.Minute}}
	client, server := net.Pipe()
	defer client.Close()
	c := &conn{Conn: server, limit: time.Minute, began: time.Now(), streams: map[uint32]*lease{}}
	defer c.Close()
	serving := peer.NewContext(context.Background(), &peer.Peer{LocalAddr: c.LocalAddr()})
	info := &tap.Info{FullMethodName: "/a.B/C"}
	b.ReportAllocs()
	for b.Loop() {
		parent, cancel := context.WithCancel(serving) // The stream's own.
		ctx, err := s.tap(parent, info)
		if err != nil {
			b.Fatal(err)
		}
		l := leaseOf(ctx)
		l.arrived()
		l.close()
		c.over(l)
		c.end(l.stream)
		cancel()
	}
}

// BenchmarkArrival is what the first checks cost, without the checks.
func BenchmarkArrival(b *testing.B) {
	pass := policy.Chain{{Name: "pass", Check: func(ctx context.Context, _ *policy.Call) (context.Context, error) { return ctx, nil }}}
	s := &Server{o: Options{Arrival: pass}.withDefaults()}
	md := metadata.MD{"authorization": {"Bearer x"}, "user-agent": {"grpc-go"}}
	x := &exchange{Context: context.Background(), observed: &telemetry.Request{ID: "id"}, header: metadata.MD{}, state: &State{Arrival: pass}}
	b.ReportAllocs()
	for b.Loop() {
		x.call = s.newCall(x, md)
		if _, err := s.arrive(x); err != nil {
			b.Fatal(err)
		}
	}
}
