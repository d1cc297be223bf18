package gateway_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

func wantCode(t *testing.T, err error, want codes.Code, part string) {
	t.Helper()
	if status.Code(err) != want || !strings.Contains(status.Convert(err).Message(), part) {
		t.Errorf("got %v, want %v with %q", err, want, part)
	}
}

// TestGRPCKinds calls each of the four kinds.
func TestGRPCKinds(t *testing.T) {
	everyPlace(t, nil, nil, func(t *testing.T, g *gatewaytest.Gateway) {
		c, ctx := testv1.NewTestServiceClient(g.Conn), g.As(t, "ada", "a b")
		echo, err := c.Echo(ctx, &testv1.EchoRequest{Id: "e1", Kinds: &testv1.Kinds{FInt64: -1, RString: []string{"x"}}})
		if err != nil || echo.GetId() != "e1" || echo.GetKinds().GetFInt64() != -1 || echo.GetSubject() != "ada" || strings.Join(echo.GetScopes(), " ") != "a b" {
			t.Errorf("unary: %v, %v", echo, err)
		}
		if got, err := drain(c.Down(ctx, &testv1.DownRequest{Count: 5, Padding: 1000})); err != nil || len(got) != 5 || got[4].GetIndex() != 4 {
			t.Errorf("down: %d messages, %v", len(got), err)
		}
		up, err := c.Up(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := up.Send(&testv1.EchoRequest{Id: strings.Repeat("x", 100)}); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := up.CloseAndRecv(); err != nil || r.GetIndex() != 100 {
			t.Errorf("up: %v, %v", r, err)
		}
		chat, err := c.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b"} { // In lockstep: nothing is held back.
			if err := chat.Send(&testv1.EchoRequest{Id: id}); err != nil {
				t.Fatal(err)
			}
			if m, err := chat.Recv(); err != nil || m.GetId() != id {
				t.Errorf("chat: %v, %v", m, err)
			}
		}
		if err := chat.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("chat ended with %v", err)
		}
	})
}

func drain(st grpc.ServerStreamingClient[testv1.EchoResponse], err error) (all []*testv1.EchoResponse, _ error) {
	for err == nil {
		var m *testv1.EchoResponse
		if m, err = st.Recv(); err == nil {
			all = append(all, m)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

// TestGRPCErrors: what leaks over neither edge. TestScenario compares details.
func TestGRPCErrors(t *testing.T) {
	everyPlace(t, nil, nil, func(t *testing.T, g *gatewaytest.Gateway) {
		c, ctx := testv1.NewTestServiceClient(g.Conn), g.As(t, "ada", "")
		for name, tc := range map[string]struct {
			req  *testv1.EchoRequest
			want codes.Code
			text string
		}{
			"bare":                 {&testv1.EchoRequest{BareError: true}, codes.Internal, "internal error"},
			"panic":                {&testv1.EchoRequest{Panic: true}, codes.Internal, "internal error"},
			"internal":             {&testv1.EchoRequest{FailCode: 13, FailMessage: "hunter2"}, codes.Internal, "internal error"},
			"unknown":              {&testv1.EchoRequest{FailCode: 2, FailMessage: "hunter2"}, codes.Internal, "internal error"},
			"data loss":            {&testv1.EchoRequest{FailCode: 15, FailMessage: "hunter2"}, codes.Internal, "internal error"},
			"unauthenticated":      {&testv1.EchoRequest{FailCode: 16, FailMessage: "hunter2"}, codes.Internal, "internal error"},
			"unavailable":          {&testv1.EchoRequest{FailCode: 14, FailMessage: "10.0.0.7"}, codes.Unavailable, "the service is unavailable, try again"},
			"unimplemented":        {&testv1.EchoRequest{FailCode: 12, FailMessage: "v3"}, codes.Unimplemented, "the service does not offer this method"},
			"the service's own":    {&testv1.EchoRequest{FailCode: 4, FailMessage: "hunter2"}, codes.DeadlineExceeded, "the service did not answer in time"},
			"a code of no meaning": {&testv1.EchoRequest{FailCode: 42, FailMessage: "hunter2"}, codes.Internal, "internal error"},
			"not found":            {&testv1.EchoRequest{FailCode: 5, FailMessage: "no such thing"}, codes.NotFound, "no such thing"},
			"answer too large":     {&testv1.EchoRequest{Padding: 17 << 20}, codes.Internal, "the service sent an answer that the gateway cannot read"},
		} {
			_, err := c.Echo(ctx, tc.req)
			if got := status.Convert(err); got.Code() != tc.want || got.Message() != tc.text {
				t.Errorf("%s: %v, want %v %q", name, err, tc.want, tc.text)
			}
		}
		got, err := drain(c.Down(ctx, &testv1.DownRequest{Count: 2, Panic: true}))
		wantCode(t, err, codes.Internal, "internal error")
		if len(got) != 2 {
			t.Errorf("%d messages before the panic", len(got))
		}
	})
}

// TestGRPCDeadlines: the shorter of the client's and the rule's holds, and the
// service is told when it has passed or the client has gone.
func TestGRPCDeadlines(t *testing.T) {
	srv := &gatewaytest.Server{Ended: make(chan error, 10)}
	everyPlace(t, srv, func(c *configv1.Config) { override(c, "Echo", &configv1.MethodOverride{Deadline: seconds(0.4)}) },
		func(t *testing.T, g *gatewaytest.Gateway) {
			c, slow := testv1.NewTestServiceClient(g.Conn), &testv1.EchoRequest{Delay: seconds(30)}
			for _, d := range []time.Duration{24 * time.Hour, time.Second, 200 * time.Millisecond} {
				_, err := c.Echo(within(t, g.As(t, "ada", ""), d), slow)
				wantCode(t, err, codes.DeadlineExceeded, "")
				if ended := outcomeOf(t, srv); ended == nil {
					t.Errorf("%v: the service was not told", d)
				}
			}
			_, err := c.Echo(g.As(t, "ada", ""), slow)
			wantCode(t, err, codes.DeadlineExceeded, "the service did not answer in time")
			outcomeOf(t, srv)
			r, err := c.Echo(within(t, g.As(t, "ada", ""), 300*time.Millisecond), &testv1.EchoRequest{})
			if err != nil || r.GetDeadlineMs() > 300 {
				t.Errorf("the service has %d ms, %v", r.GetDeadlineMs(), err)
			}
			ctx, cancel := context.WithCancel(g.As(t, "ada", ""))
			time.AfterFunc(50*time.Millisecond, cancel)
			_, err = c.Echo(ctx, slow)
			wantCode(t, err, codes.Canceled, "")
			if ended := outcomeOf(t, srv); !errors.Is(ended, context.Canceled) {
				t.Errorf("the service saw %v", ended)
			}
		})
}

// outcomeOf is what the service saw of a call that waited.
func outcomeOf(t *testing.T, srv *gatewaytest.Server) error {
	t.Helper()
	select {
	case err := <-srv.Ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the service was not told")
		return nil
	}
}

func within(t *testing.T, ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}

// TestGRPCStreamBounds: silence and age end a stream; a client's cancel reaches
// the service.
func TestGRPCStreamBounds(t *testing.T) {
	srv := &gatewaytest.Server{Ended: make(chan error, 10)}
	everyPlace(t, srv, func(c *configv1.Config) {
		override(c, "Down", &configv1.MethodOverride{StreamIdle: seconds(0.3), StreamMaxAge: seconds(0.6)})
		override(c, "Chat", &configv1.MethodOverride{StreamIdle: seconds(0.3)})
		override(c, "Up", &configv1.MethodOverride{StreamIdle: seconds(0.3)})
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		c, ctx := testv1.NewTestServiceClient(g.Conn), g.As(t, "ada", "")
		got, err := drain(c.Down(ctx, &testv1.DownRequest{Count: 2, Gap: seconds(30)}))
		wantCode(t, err, codes.DeadlineExceeded, "silent")
		if ended := outcomeOf(t, srv); len(got) != 1 || !errors.Is(ended, context.Canceled) {
			t.Errorf("%d messages; the service saw %v", len(got), ended)
		}
		got, err = drain(c.Down(ctx, &testv1.DownRequest{Count: 10000, Gap: seconds(0.05)}))
		wantCode(t, err, codes.DeadlineExceeded, "maximum age")
		if outcomeOf(t, srv); len(got) < 2 {
			t.Errorf("%d messages", len(got))
		}
		chat, err := c.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = chat.Recv()
		wantCode(t, err, codes.DeadlineExceeded, "silent")
		up, err := c.Up(ctx)
		if err != nil {
			t.Fatal(err)
		}
		err = up.RecvMsg(&testv1.EchoResponse{})
		wantCode(t, err, codes.DeadlineExceeded, "silent")

		leaving, cancel := context.WithCancel(ctx)
		st, err := c.Down(leaving, &testv1.DownRequest{Count: 2, Gap: seconds(30)})
		if err == nil {
			_, err = st.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if ended := outcomeOf(t, srv); !errors.Is(ended, context.Canceled) {
			t.Errorf("the service saw %v", ended)
		}
	})
}

// TestGRPCTooLarge: a message larger than its method takes, alone and in a
// stream, has its own status.
func TestGRPCTooLarge(t *testing.T) {
	everyPlace(t, nil, func(c *configv1.Config) {
		override(c, "Echo", &configv1.MethodOverride{MaxRequestBytes: 10_000})
		override(c, "Up", &configv1.MethodOverride{MaxRequestBytes: 10_000})
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		c, ctx := testv1.NewTestServiceClient(g.Conn), g.As(t, "ada", "")
		for _, n := range []int{20_000, 5 << 20} { // Beyond the method's bound, and the server's.
			large := &testv1.EchoRequest{FailMessage: strings.Repeat("x", n)}
			_, err := c.Echo(ctx, large)
			wantCode(t, err, codes.ResourceExhausted, "larger than")
			up, err := c.Up(ctx)
			if err != nil {
				t.Fatal(err)
			}
			_ = up.Send(&testv1.EchoRequest{})
			_ = up.Send(large)
			_, err = up.CloseAndRecv()
			wantCode(t, err, codes.ResourceExhausted, "larger than")
		}
		if _, err := c.Echo(ctx, &testv1.EchoRequest{FailMessage: strings.Repeat("x", 9_000)}); err != nil {
			t.Error(err)
		}
	})
}

// TestGRPCMetadata: nothing a caller sends as metadata reaches a service, and
// what the gateway sends is what it says.
func TestGRPCMetadata(t *testing.T) {
	everyPlace(t, nil, nil, func(t *testing.T, g *gatewaytest.Gateway) {
		c := testv1.NewTestServiceClient(g.Conn)
		ctx := metadata.AppendToOutgoingContext(g.As(t, "ada", "x"), "x-sluice-assertion", "forged", "x-user-id", "root", "cookie", "c=1",
			"x-forwarded-for", "6.6.6.6", "grpcgateway-authorization", "forged", "bin-bin", "\x00\xff", "x-request-id", "mine-1")
		var header metadata.MD
		r, err := c.Echo(ctx, &testv1.EchoRequest{}, grpc.Header(&header))
		if err != nil {
			t.Fatal(err)
		}
		allowed := map[string]bool{"x-sluice-assertion": true, "x-request-id": true, "traceparent": true, "tracestate": true,
			":authority": true, "content-type": true, "user-agent": true, "grpc-accept-encoding": true}
		for k, v := range r.GetMetadata() {
			if !allowed[k] || strings.Contains(v, "forged") || strings.Contains(v, "root") {
				t.Errorf("the service got %s: %s", k, v)
			}
		}
		if r.GetSubject() != "ada" || r.GetMetadata()["x-request-id"] != "mine-1" || header.Get("x-request-id")[0] != "mine-1" {
			t.Errorf("%v, %v", r, header)
		}
		if strings.Contains(r.GetMetadata()["user-agent"], "127.0.0.1") || strings.Contains(r.GetMetadata()[":authority"], g.Addrs().GRPC) {
			t.Errorf("the caller's authority went on: %v", r.GetMetadata())
		}
	})
}

// TestGRPCRequestID: every answer says which request it was, failures too.
func TestGRPCRequestID(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	c := testv1.NewTestServiceClient(g.Conn)
	as, nobody := g.As(t, "ada", ""), t.Context()
	large := &testv1.EchoRequest{FailMessage: strings.Repeat("x", 2<<20)}
	for name, call := range map[string]func(*metadata.MD) error{
		"unary": func(md *metadata.MD) error { _, err := c.Echo(as, &testv1.EchoRequest{}, grpc.Header(md)); return err },
		"unary that fails": func(md *metadata.MD) error {
			_, err := c.Echo(as, &testv1.EchoRequest{FailCode: 5}, grpc.Header(md))
			return err
		},
		"unary without token": func(md *metadata.MD) error {
			_, err := c.Echo(nobody, &testv1.EchoRequest{}, grpc.Header(md))
			return err
		},
		"unary too large": func(md *metadata.MD) error {
			_, err := c.Nothing(as, &testv1.NothingRequest{}, grpc.Header(md))
			return err
		},
		"stream": func(md *metadata.MD) error {
			_, err := drain(c.Down(as, &testv1.DownRequest{Count: 1}, grpc.Header(md)))
			return err
		},
		"stream that fails": func(md *metadata.MD) error {
			_, err := drain(c.Down(as, &testv1.DownRequest{FailCode: 5}, grpc.Header(md)))
			return err
		},
		"stream without token": func(md *metadata.MD) error {
			_, err := drain(c.Down(nobody, &testv1.DownRequest{}, grpc.Header(md)))
			return err
		},
		"client stream too large": func(md *metadata.MD) error {
			up, err := c.Up(as, grpc.Header(md))
			if err == nil {
				_ = up.Send(large)
				_, err = up.CloseAndRecv()
			}
			return err
		},
	} {
		var md metadata.MD
		err := call(&md)
		if ids := md.Get("x-request-id"); len(ids) != 1 || len(ids[0]) != 32 {
			t.Errorf("%s: %v (%v)", name, md, err)
		}
		if strings.Contains(name, " ") == (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGRPCOffer: health is public, reflection only where it is on, and what is
// not there is UNIMPLEMENTED.
func TestGRPCOffer(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	for _, service := range []string{"", testService} {
		if r, err := healthpb.NewHealthClient(g.Conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service}); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, r, err)
		}
	}
	if services, err := reflected(t, g.Conn); err != nil || !strings.Contains(services, testService) {
		t.Errorf("with --demo: %s, %v", services, err)
	}
	for _, m := range []string{"/" + testService + "/Nope", "/no.Such/Thing", "/shop.user.v1.UserService/GetUser"} {
		err := rawConn(t, g).Invoke(g.As(t, "ada", ""), m, &wire.Frame{}, &wire.Frame{})
		wantCode(t, err, codes.Unimplemented, "")
	}
	plain := startWithIssuer(t)
	_, err := reflected(t, plain)
	wantCode(t, err, codes.Unimplemented, "")
	if _, err := healthpb.NewHealthClient(plain).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
}

func reflected(t *testing.T, cc *grpc.ClientConn) (string, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		return "", err
	}
	if err := st.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	r, err := st.Recv()
	return r.String(), err
}
