package rpc_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// held is a backend whose unary calls wait, once it says so.
type held struct {
	*backend
	came, goOn chan struct{}
}

func (h *held) Call(ctx context.Context, call *policy.Call, request *wire.Frame, a *upstream.Answer) error {
	if h.goOn != nil && call.Method.FullName == testv1.TestService_Echo_FullMethodName {
		h.came <- struct{}{}
		<-h.goOn
	}
	return h.backend.Call(ctx, call, request, a)
}

type nothing struct{}

func (nothing) Release() {}

func stateOf(t *testing.T, o *rpc.Options, conn upstream.Sender, sd protoreflect.ServiceDescriptor) *rpc.State {
	t.Helper()
	c, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Defaults: policy.Defaults{Deadline: time.Minute, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	return rpc.NewState(rpc.State{Catalogue: c, Conn: conn, Telemetry: o.Telemetry})
}

// swapping is an edge whose methods are those of one of two States.
type swapping struct {
	*edge
	now           atomic.Pointer[rpc.State]
	tests, orders *rpc.State
	held          *held

	mu    sync.Mutex
	infos []string
}

func (s *swapping) saw(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.infos = append(s.infos, what)
}

func startSwapping(t *testing.T, team bool) *swapping {
	s := &swapping{held: &held{backend: &backend{}, came: make(chan struct{}), goOn: make(chan struct{})}}
	s.edge = start(t, func(o *rpc.Options) {
		s.tests = stateOf(t, o, s.held, testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService"))
		s.orders = stateOf(t, o, s.held, orderv1.File_shop_order_v1_order_proto.Services().ByName("OrderService"))
		s.now.Store(s.tests)
		o.Current = func() (*rpc.State, rpc.Releaser) { return s.now.Load(), nothing{} }
		o.Reflection = true
		if !team {
			return
		}
		for _, who := range []string{"a", "b"} {
			o.Unary = append(o.Unary, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				s.saw(who + " " + info.FullMethod)
				return next(ctx, req)
			})
			o.Stream = append(o.Stream, func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				s.saw(who + " " + info.FullMethod + map[bool]string{true: " client"}[info.IsClientStream] + map[bool]string{true: " server"}[info.IsServerStream])
				return next(srv, ss)
			})
		}
	})
	return s
}

func (s *swapping) swap(to *rpc.State) {
	s.now.Store(to)
	s.Offer(to.Catalogue)
}

func say(ctx context.Context, cc *grpc.ClientConn, method string) error {
	out := &wire.Frame{}
	return cc.Invoke(ctx, method, &wire.Frame{Data: []byte{0x0a, 1, 'x'}}, out)
}

// TestMethodsComeAndGo: under one connection, with calls in flight, which end by the
// State that they began with.
func TestMethodsComeAndGo(t *testing.T) {
	s := startSwapping(t, false)
	cc, ctx := s.dial(nil), t.Context()
	done := make(chan error, 1)
	go func() { done <- say(ctx, cc, testv1.TestService_Echo_FullMethodName) }()
	<-s.held.came
	chat, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, testv1.TestService_Chat_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	both := func() error {
		if err := chat.SendMsg(&wire.Frame{Data: []byte{0x0a, 1, 'x'}}); err != nil {
			return err
		}
		return chat.RecvMsg(&wire.Frame{})
	}
	if err := both(); err != nil {
		t.Fatal(err)
	}
	if err := say(ctx, cc, orderv1.OrderService_GetOrder_FullMethodName); status.Code(err) != codes.Unimplemented {
		t.Errorf("not there yet: %v", err)
	}
	s.swap(s.orders)
	if err := say(ctx, cc, orderv1.OrderService_GetOrder_FullMethodName); err != nil {
		t.Errorf("there now: %v", err)
	}
	if err := say(ctx, cc, testv1.TestService_Echo_FullMethodName); status.Code(err) != codes.Unimplemented {
		t.Errorf("gone: %v", err)
	}
	down, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, testv1.TestService_Chat_FullMethodName)
	if err == nil {
		err = down.RecvMsg(&wire.Frame{})
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("gone: %v", err)
	}
	if err := both(); err != nil {
		t.Errorf("the stream that was open: %v", err)
	}
	_ = chat.CloseSend()
	if err := chat.RecvMsg(&wire.Frame{}); !errors.Is(err, io.EOF) {
		t.Errorf("its end: %v", err)
	}
	close(s.held.goOn)
	if err := <-done; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	checkOwn(t, cc)
	for _, r := range s.requests() {
		if m, _ := r["grpc_method"].(string); r["code"] == "Unimplemented" && m != "" {
			t.Errorf("a label that a caller made up: %v", r)
		}
	}
}

// checkOwn: health and reflection tell of the methods of now, and of nothing else.
func checkOwn(t *testing.T, cc *grpc.ClientConn) {
	t.Helper()
	typed := grpc.ForceCodecV2(wire.Codec{})
	health := healthpb.NewHealthClient(cc)
	if r, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "shop.order.v1.OrderService"}, typed); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", r, err)
	}
	if r, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "sluice.test.v1.TestService"}, typed); status.Code(err) != codes.NotFound {
		t.Errorf("health of what is gone: %v, %v", r, err)
	}
	st, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(t.Context(), typed)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(symbol string) *reflectionpb.ServerReflectionResponse {
		q := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}}
		if symbol == "" {
			q.MessageRequest = &reflectionpb.ServerReflectionRequest_ListServices{}
		}
		if err := st.Send(q); err != nil {
			t.Fatal(err)
		}
		r, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var names []string
	for _, svc := range ask("").GetListServicesResponse().GetService() {
		names = append(names, svc.GetName())
	}
	if !slices.Contains(names, "shop.order.v1.OrderService") || slices.Contains(names, "sluice.test.v1.TestService") || !slices.Contains(names, "grpc.health.v1.Health") {
		t.Errorf("reflection lists %v", names)
	}
	for symbol, there := range map[string]bool{"shop.order.v1.OrderService": true, "grpc.health.v1.Health": true, "sluice.test.v1.TestService": false} {
		if got := ask(symbol).GetFileDescriptorResponse() != nil; got != there {
			t.Errorf("reflection has %s: %v", symbol, got)
		}
	}
}

// TestTeamSees: a team's interceptors see each call as what it is, the first outermost,
// though grpc-go takes all for streams both ways.
func TestTeamSees(t *testing.T) {
	s := startSwapping(t, true)
	close(s.held.goOn)
	cc := s.dial(nil)
	go func() { <-s.held.came }()
	if err := say(t.Context(), cc, testv1.TestService_Echo_FullMethodName); err != nil {
		t.Fatal(err)
	}
	down, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, testv1.TestService_Down_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(down.SendMsg(&wire.Frame{}), down.CloseSend(), down.RecvMsg(&wire.Frame{})); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a /sluice.test.v1.TestService/Echo", "b /sluice.test.v1.TestService/Echo",
		"a /sluice.test.v1.TestService/Down server", "b /sluice.test.v1.TestService/Down server"}; !slices.Equal(s.infos, want) {
		t.Errorf("saw %q", s.infos)
	}
}

// TestOneMessage: a caller who streams none sends one message, no less and no more, and a
// unary call without it reaches nobody.
func TestOneMessage(t *testing.T) {
	for _, method := range []string{testv1.TestService_Echo_FullMethodName, testv1.TestService_Down_FullMethodName} {
		e := start(t, nil)
		cc := e.dial(nil)
		for n := range 3 {
			st, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if err := st.SendMsg(&wire.Frame{Data: []byte{0x0a, 1, 'x'}}); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			_ = st.CloseSend()
			err = st.RecvMsg(&wire.Frame{})
			if want := map[bool]codes.Code{true: codes.OK, false: codes.Internal}[n == 1]; status.Code(err) != want {
				t.Errorf("%s, %d messages: %v", method, n, err)
			}
		}
		if n := e.backend.count(); method == testv1.TestService_Echo_FullMethodName && n != 1 {
			t.Errorf("%d calls", n)
		}
	}
}
