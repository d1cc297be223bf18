package rpc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/rpc"
)

func reflecting(o *rpc.Options) { o.Reflection = true }

var listServices = &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}

// reflection opens a reflection stream that has been answered once.
func reflection(t *testing.T, e *edge) reflectionpb.ServerReflection_ServerReflectionInfoClient {
	t.Helper()
	st, err := reflectionpb.NewServerReflectionClient(e.dial(nil, grpc.WithDefaultCallOptions(grpc.CallContentSubtype("proto")))).ServerReflectionInfo(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(listServices); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestHealthNames: a name that is not offered is answered at once and not kept,
// and a long message is not looked at.
func TestHealthNames(t *testing.T) {
	e := start(t, nil)
	cc := e.dial(nil)
	for name, want := range map[string]codes.Code{
		"": codes.OK, "sluice.test.v1.TestService": codes.OK, "nothing.Here": codes.NotFound, strings.Repeat("x", 1<<20): codes.ResourceExhausted,
	} {
		in := &healthpb.HealthCheckRequest{Service: name}
		if _, err := healthpb.NewHealthClient(cc).Check(soon(t), in); status.Code(err) != want {
			t.Errorf("Check %.30q: %v", name, err)
		}
		ctx, cancel := context.WithCancel(soon(t))
		st, err := healthpb.NewHealthClient(cc).Watch(ctx, in)
		if err == nil {
			_, err = st.Recv()
		}
		cancel()
		if status.Code(err) != want {
			t.Errorf("Watch %.30q: %v", name, err)
		}
	}
	if n := e.refusals("message_bytes"); n != 2 {
		t.Errorf("%d messages are counted", n)
	}
}

// TestReflectionIsBounded: one admitted call gives so many answers, for so long.
func TestReflectionIsBounded(t *testing.T) {
	e := start(t, reflecting)
	st := reflection(t, e)
	var err error
	n := 1
	for ; err == nil && n < 2000; n++ {
		_ = st.Send(listServices)
		_, err = st.Recv()
	}
	if n != 1001 || reasonOf(err) != "TOO_MANY_MESSAGES" || e.refusals("reflection_messages") != 1 {
		t.Errorf("after %d answers: %v", n-1, err)
	}

	e = start(t, func(o *rpc.Options) { o.Reflection, o.ReflectionTime = true, 50*time.Millisecond })
	st, err = reflectionpb.NewServerReflectionClient(e.dial(nil)).ServerReflectionInfo(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a stream that is too old: %v", err)
	}
}

// TestDrainEndsTheGatewaysOwnStreams: neither a Watch nor a reflection stream
// holds up the end, and the Watch hears of it.
func TestDrainEndsTheGatewaysOwnStreams(t *testing.T) {
	e := start(t, reflecting)
	st := reflection(t, e)
	w, err := healthpb.NewHealthClient(e.dial(nil)).Watch(soon(t), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := w.Recv(); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatal(r, err)
	}
	e.Drain()
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.GRPC().GracefulStop()
	}()
	if r, err := w.Recv(); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("the watch hears %v, %v", r, err)
	}
	if _, err := st.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the reflection stream ends with %v", err)
	}
	select {
	case <-done:
	case <-time.After(15 * time.Second): // The streams' own end is that of their contexts, later.
		t.Fatal("the server does not end")
	}
}
