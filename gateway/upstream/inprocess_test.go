package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// echoing is a service whose Echo does what a test says.
type echoing struct {
	testv1.UnimplementedTestServiceServer
	do func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error)
}

func (e echoing) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return e.do(ctx, r)
}

func inProcess(t *testing.T, do func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error)) upstream.Target {
	t.Helper()
	return hosted(t, false, do)
}

func hosted(t *testing.T, prompt bool, do func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error)) upstream.Target {
	t.Helper()
	return upstream.InProcess(upstream.Host{Name: "echo", Prompt: prompt, Logger: slog.New(slog.DiscardHandler), Register: func(r grpc.ServiceRegistrar) {
		testv1.RegisterTestServiceServer(r, echoing{do: do})
	}})
}

// TestInProcessOutcomes: however a handler ends, the call ends, with a status that
// tells nothing of the process; typed and as bytes.
func TestInProcessOutcomes(t *testing.T) {
	type handler = func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error)
	for name, tc := range map[string]struct {
		do   handler
		in   any
		want codes.Code
	}{
		"answers": {func(_ context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			return &testv1.EchoResponse{Id: r.GetId()}, nil
		}, nil, codes.OK},
		"a status": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			return nil, status.Error(codes.Aborted, "")
		}, nil, codes.Aborted},
		"an error": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) { return nil, errors.New("x") }, nil, codes.Unknown},
		"its context": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			return nil, context.DeadlineExceeded
		}, nil, codes.DeadlineExceeded},
		"a panic": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) { panic("x") }, nil, codes.Internal},
		"Goexit": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			runtime.Goexit()
			return nil, nil
		}, nil, codes.Internal},
		"nothing": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) { return nil, nil }, nil, codes.Internal},
		"no UTF-8": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			return &testv1.EchoResponse{Id: "\xff"}, nil
		}, nil, codes.Unknown},
		"too large": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			return &testv1.EchoResponse{Id: string(make([]byte, upstream.MaxMessageBytes))}, nil
		}, nil, codes.ResourceExhausted},
		"never called": {func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) { panic("called") }, &wire.Frame{Data: []byte{0xff}}, codes.Internal},
	} {
		for _, prompt := range []bool{false, true} {
			if prompt && name == "Goexit" { // It would end the test's own goroutine: a prompt service never does.
				continue
			}
			t.Run(fmt.Sprint(name, "/", prompt), func(t *testing.T) {
				target := hosted(t, prompt, tc.do)
				if tc.in == nil {
					tc.in = &testv1.EchoRequest{Id: "ada"}
				}
				var typed testv1.EchoResponse
				var asBytes wire.Frame
				code(t, invoke(t.Context(), target, service+"Echo", tc.in, &typed), tc.want)
				code(t, invoke(t.Context(), target, service+"Echo", tc.in, &asBytes), tc.want)
				if tc.want == codes.OK && (typed.GetId() != "ada" || string(asBytes.Data) != string(field(1, "ada"))) {
					t.Errorf("got %v, %x", &typed, asBytes.Data)
				}
			})
		}
	}
	target := inProcess(t, nil)
	code(t, invoke(t.Context(), target, "/no.Such/Method", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.Unimplemented)
}

// TestInProcessContexts: deadline and cancelling cross, values do not; a handler
// that heeds neither holds up nobody; when the call is done its context is.
func TestInProcessContexts(t *testing.T) {
	type key struct{}
	free, ended := make(chan struct{}), make(chan struct{})
	target := inProcess(t, func(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		if p, ok := peer.FromContext(ctx); !ok || ctx.Value(key{}) != nil || p.Addr.Network() != "inproc" {
			return nil, status.Errorf(codes.FailedPrecondition, "peer %v, value %v", p, ctx.Value(key{}))
		}
		if md, _ := metadata.FromIncomingContext(ctx); len(md["k"]) != 1 || len(md) != 1 {
			return nil, status.Errorf(codes.FailedPrecondition, "metadata %v", md)
		}
		if r.GetId() == "stubborn" {
			<-free
			return &testv1.EchoResponse{}, nil
		}
		context.AfterFunc(ctx, func() { close(ended) })
		return &testv1.EchoResponse{}, nil
	})
	ctx := metadata.AppendToOutgoingContext(context.WithValue(t.Context(), key{}, "v"), "k", "v")
	code(t, invoke(ctx, target, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.OK)
	<-ended
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	code(t, invoke(short, target, service+"Echo", &testv1.EchoRequest{Id: "stubborn"}, &testv1.EchoResponse{}), codes.DeadlineExceeded)
	cancelled, cancel := context.WithCancel(ctx)
	time.AfterFunc(time.Millisecond, cancel)
	code(t, invoke(cancelled, target, service+"Echo", &testv1.EchoRequest{Id: "stubborn"}, &testv1.EchoResponse{}), codes.Canceled)
	close(free)
}

// TestInProcessHeaders: what a handler sets arrives, with errors too; what comes
// too late is told so.
func TestInProcessHeaders(t *testing.T) {
	late := make(chan context.Context, 1)
	target := inProcess(t, func(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		err := errors.Join(
			grpc.SetHeader(ctx, metadata.Pairs("a", "1")), grpc.SetHeader(ctx, metadata.Pairs("a", "2")),
			grpc.SendHeader(ctx, metadata.Pairs("b", "3")), grpc.SetTrailer(ctx, metadata.Pairs("c", "4")), grpc.SetTrailer(ctx, metadata.Pairs("c", "5")))
		if err != nil || grpc.SetHeader(ctx, metadata.Pairs("late", "1")) == nil {
			return nil, status.Errorf(codes.FailedPrecondition, "%v", err)
		}
		if m, ok := grpc.Method(ctx); !ok || m != service+"Echo" {
			return nil, status.Error(codes.FailedPrecondition, m)
		}
		if r.GetId() == "fail" {
			return nil, status.Error(codes.Aborted, "")
		}
		if r.GetId() == "" {
			late <- ctx
		}
		return &testv1.EchoResponse{}, nil
	})
	for id, want := range map[string]codes.Code{"": codes.OK, "fail": codes.Aborted} {
		var header, trailer metadata.MD
		request, err := frameOf(&testv1.EchoRequest{Id: id})
		if err != nil {
			t.Fatal(err)
		}
		code(t, target.Invoke(t.Context(), service+"Echo", request, &wire.Frame{}, &header, &trailer), want)
		if len(header["a"]) != 2 || len(header["b"]) != 1 || len(header["late"]) != 0 || len(trailer["c"]) != 2 {
			t.Errorf("%q: header %v, trailer %v", id, header, trailer)
		}
	}
	if ctx := <-late; grpc.SetHeader(ctx, metadata.Pairs("a", "3")) == nil || grpc.SetTrailer(ctx, metadata.Pairs("c", "6")) == nil {
		t.Error("headers were taken after the call")
	}
}
