package upstream_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestPromptContext: a prompt service runs on the caller's goroutine, under the
// caller's deadline and end, without its values; what it derives from its context
// ends with it, and starts no goroutine.
func TestPromptContext(t *testing.T) {
	type key struct{}
	deadline := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(context.WithValue(t.Context(), key{}, "caller's"), deadline)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "k", "v")
	target := hosted(t, true, func(serving context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		if got, ok := serving.Deadline(); !ok || !got.Equal(deadline) {
			t.Errorf("deadline %v, %v", got, ok)
		}
		if _, ok := metadata.FromOutgoingContext(serving); ok || serving.Value(key{}) != nil || serving.Value(nil) != nil || serving.Value(new(int)) != nil {
			t.Error("the caller's values crossed")
		}
		if md, _ := metadata.FromIncomingContext(serving); len(md) != 1 || md.Get("k")[0] != "v" {
			t.Errorf("metadata %v", md)
		}
		before := runtime.NumGoroutine()
		derived := make([]context.Context, 100) // So many that a goroutine each shows.
		for i := range derived {
			var stop context.CancelFunc
			derived[i], stop = context.WithCancel(context.WithValue(serving, key{}, i))
			defer stop()
		}
		if n := runtime.NumGoroutine() - before; n > len(derived)/2 {
			t.Errorf("%d goroutines for %d contexts", n, len(derived))
		}
		if r.GetId() != "cancel" {
			return &testv1.EchoResponse{}, nil
		}
		cancel()
		for _, d := range derived {
			<-d.Done()
		}
		return nil, status.FromContextError(serving.Err()).Err()
	})
	code(t, invoke(ctx, target, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.OK)
	code(t, invoke(ctx, target, service+"Echo", &testv1.EchoRequest{Id: "cancel"}, &testv1.EchoResponse{}), codes.Canceled)
}
