package aggregator

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
)

// noop answers every call with an empty message at once, so that the benchmark
// sees the fan-out and nothing else.
type noop struct{ grpc.ClientConnInterface }

func (noop) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return nil }

func BenchmarkGetUserOverview(b *testing.B) {
	s, err := New(Options{Users: noop{}, Orders: noop{}, Profiles: noop{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	req := &bffv1.GetUserOverviewRequest{UserId: "ada"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.GetUserOverview(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}
