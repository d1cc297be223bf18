package rpc

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// BenchmarkLease is what patience costs a call.
func BenchmarkLease(b *testing.B) {
	s := &Server{o: Options{Patience: time.Minute}}
	info := &tap.Info{FullMethodName: "/a.B/C"}
	b.ReportAllocs()
	for b.Loop() {
		parent, cancel := context.WithCancel(context.Background()) // The stream's own.
		ctx, err := s.tap(parent, info)
		if err != nil {
			b.Fatal(err)
		}
		arrived(ctx)
		leaseOf(ctx).close()
		cancel()
	}
}

// BenchmarkArrival is what the first checks cost, without the checks.
func BenchmarkArrival(b *testing.B) {
	pass := policy.Chain{{Name: "pass", Check: func(ctx context.Context, _ *policy.Call) (context.Context, error) { return ctx, nil }}}
	s := &Server{o: Options{Arrival: pass}.withDefaults()}
	md := metadata.MD{"authorization": {"Bearer x"}, "user-agent": {"grpc-go"}}
	x := &exchange{observed: &telemetry.Request{ID: "id"}, header: metadata.MD{}}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		x.call = s.newCall(ctx, x, md)
		if _, err := s.arrive(ctx, x); err != nil {
			b.Fatal(err)
		}
	}
}
