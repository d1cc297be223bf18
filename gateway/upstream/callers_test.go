package upstream_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// obliging does what callers ask.
type obliging struct {
	testv1.UnimplementedTestServiceServer
}

func (obliging) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	if r.GetDelay() != nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if r.GetFailCode() != 0 {
		return nil, status.Error(codes.Code(r.GetFailCode()), "as asked") //nolint:gosec // 0 to 16.
	}
	return &testv1.EchoResponse{Id: r.GetId(), Padding: strings.Repeat("x", int(r.GetPadding()))}, nil
}

func (obliging) Old(_ context.Context, r *testv1.Legacy) (*testv1.Legacy, error) { return r, nil }

func (obliging) OldChat(ss grpc.BidiStreamingServer[testv1.Legacy, testv1.Legacy]) error {
	for {
		r, err := ss.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ss.Send(r)
		}
		if err != nil {
			return err
		}
	}
}

func (obliging) Chat(ss grpc.BidiStreamingServer[testv1.EchoRequest, testv1.EchoResponse]) error {
	<-ss.Context().Done()
	return ss.Context().Err()
}

func (obliging) Down(r *testv1.DownRequest, ss grpc.ServerStreamingServer[testv1.EchoResponse]) error {
	switch {
	case r.GetGap() != nil:
		<-ss.Context().Done()
		return ss.Context().Err()
	case r.GetFailCode() != 0:
		return status.Error(codes.Code(r.GetFailCode()), "as asked") //nolint:gosec // 0 to 16.
	}
	return ss.Send(&testv1.EchoResponse{})
}

// pair is a target of two backends, which run the service or, where h is not nil, that.
func pair(t *testing.T, h http.Handler, o ...grpc.ServerOption) upstream.Balanced {
	t.Helper()
	var all []discovery.Backend
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, discovery.Backend{Addr: l.Addr().String()})
		if h != nil {
			protocols := new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
			srv := &http.Server{Handler: h, Protocols: protocols} //nolint:gosec // In a test.
			go func() { _ = srv.Serve(l) }()
			t.Cleanup(func() { _ = srv.Close() })
			continue
		}
		srv := grpc.NewServer(o...)
		testv1.RegisterTestServiceServer(srv, obliging{})
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(srv.Stop)
	}
	target := remoteOf(t, upstream.RemoteOptions{Endpoints: all, Outlier: resilience.OutlierOptions{ConsecutiveFailures: 2, BaseEjection: time.Hour, MaxEjection: time.Hour}})
	until(t, target, "ready", "ready")
	return target
}

// asking makes calls of a kind through a Conn; its error is the caller's.
type asking func(t *testing.T, f *travelling) error

// unary calls a method as an edge does: REST has messages, gRPC bytes.
func unary(edge policy.Edge, method string, in any, limits ...func(context.Context) (context.Context, context.CancelFunc)) asking {
	return func(t *testing.T, f *travelling) error {
		ctx := f.admit(t, method, &policy.Call{Edge: edge, Annotate: func(string, string) {}})
		for _, limit := range limits {
			var cancel context.CancelFunc
			ctx, cancel = limit(ctx)
			defer cancel()
		}
		return f.Invoke(ctx, service+method, in, &wire.Frame{})
	}
}

// streamed opens a stream, sends, and receives until it ends.
func streamed(edge policy.Edge, method string, in []any, limits ...func(context.Context) (context.Context, context.CancelFunc)) asking {
	return func(t *testing.T, f *travelling) error {
		ctx := f.admit(t, method, &policy.Call{Edge: edge, Annotate: func(string, string) {}})
		for _, limit := range append(limits, context.WithCancel) {
			var cancel context.CancelFunc
			ctx, cancel = limit(ctx)
			defer cancel()
		}
		m := f.table.Method(service + method).Descriptor
		st, err := f.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: true}, service+method)
		if err != nil {
			return err
		}
		for _, m := range in {
			if err := st.SendMsg(m); err != nil {
				if m, ok := f.table.Method(service+method), true; ok && !m.Descriptor.IsStreamingClient() {
					return err
				}
				break // Who receives is told.
			}
		}
		_ = st.CloseSend()
		for {
			if err := st.RecvMsg(&wire.Frame{}); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

func leaves(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(5*time.Millisecond, cancel)
	return ctx, cancel
}

func hurries(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 10*time.Millisecond)
}

func raw(m proto.Message) *wire.Frame {
	b, _ := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
	return &wire.Frame{Data: b}
}

// named is the first field that an error names, and why.
func named(err error) string {
	for _, d := range status.Convert(err).Details() {
		if br, ok := d.(*errdetails.BadRequest); ok {
			return br.GetFieldViolations()[0].GetField() + " " + br.GetFieldViolations()[0].GetDescription()
		}
	}
	return ""
}

// TestCallersChooseNothing: of each way in which a call can end, what breakers, outlier
// ejection and the bound on calls make of it. What a caller can bring about at will counts
// against nobody; what is the service's own failure counts everywhere.
func TestCallersChooseNothing(t *testing.T) {
	const rounds = 6
	type counts struct{ requests, failures, ejected bool }
	var nothing, success, failure = counts{}, counts{requests: true}, counts{true, true, true}
	hold := &testv1.EchoRequest{Delay: durationpb.New(time.Hour)}
	deep := []byte{}
	for range 150 {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), deep)
	}
	deep = protowire.AppendBytes(protowire.AppendTag(nil, 8, protowire.BytesType), deep)
	html := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(code)
		})
	}
	type test struct {
		ask    asking
		want   counts
		code   codes.Code
		field  string // that the error names, and why
		reason string
		server []grpc.ServerOption
		html   http.Handler
		rule   policy.Override
		more   func(*upstream.ServiceOptions)
		signer upstream.Signer
	}
	tests := map[string]test{
		"an answer":                     {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{}), want: success},
		"the caller leaves":             {ask: unary(policy.EdgeREST, "Echo", hold, leaves), want: nothing, code: codes.Canceled},
		"the caller's deadline":         {ask: unary(policy.EdgeREST, "Echo", hold, hurries), want: nothing, code: codes.DeadlineExceeded},
		"the rule's deadline":           {ask: unary(policy.EdgeREST, "Echo", hold), want: failure, code: codes.DeadlineExceeded, rule: policy.Override{Deadline: 20 * time.Millisecond}},
		"no required field":             {ask: unary(policy.EdgeREST, "Old", &testv1.Legacy{}), want: nothing, code: codes.InvalidArgument, field: "id is required"},
		"no required field, within":     {ask: unary(policy.EdgeREST, "Old", &testv1.Legacy{Id: proto.String("a"), Choice: &testv1.Legacy_CMessage{CMessage: &testv1.Legacy{}}}), want: nothing, code: codes.InvalidArgument, field: "c_message.id is required"},
		"no required field, in bytes":   {ask: unary(policy.EdgeGRPC, "Old", raw(&testv1.Legacy{Note: proto.String("a")})), want: nothing, code: codes.InvalidArgument, field: "id is required"},
		"text that is none":             {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{Id: "\xff"}), want: nothing, code: codes.InvalidArgument, field: "id must be UTF-8"},
		"text that is none, in bytes":   {ask: unary(policy.EdgeGRPC, "Echo", &wire.Frame{Data: []byte("\x0a\x01\xff")}), want: nothing, code: codes.InvalidArgument, field: "id must be UTF-8"},
		"garbage":                       {ask: unary(policy.EdgeGRPC, "Echo", &wire.Frame{Data: []byte{0xff, 0xff}}), want: nothing, code: codes.InvalidArgument},
		"deeper than other languages":   {ask: unary(policy.EdgeGRPC, "Echo", &wire.Frame{Data: deep}), want: nothing, code: codes.InvalidArgument, field: "inner is nested deeper than 100 messages"},
		"unknown fields":                {ask: unary(policy.EdgeGRPC, "Echo", &wire.Frame{Data: []byte("\xfa\x3f\x01\xff")}), want: success},
		"larger than the service takes": {ask: unary(policy.EdgeGRPC, "Echo", raw(&testv1.EchoRequest{FailMessage: strings.Repeat("x", 2000)})), want: nothing, code: codes.ResourceExhausted, reason: upstream.ReasonTooLarge, server: []grpc.ServerOption{grpc.MaxRecvMsgSize(1000)}},
		"a larger answer than we take":  {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{Padding: upstream.MaxMessageBytes + 1}), want: nothing, code: codes.Internal, reason: upstream.ReasonBadResponse},
		"more metadata than it takes": {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{}), want: nothing, code: codes.Internal, server: []grpc.ServerOption{grpc.MaxHeaderListSize(4096)},
			signer: longWinded{}},
		"413 before the service": {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{}), want: nothing, code: codes.Internal, reason: upstream.ReasonBadResponse, html: html(413)},
		"431 before the service": {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{}), want: nothing, code: codes.Internal, reason: upstream.ReasonBadResponse, html: html(431)},
		"429 before the service": {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{}), want: nothing, code: codes.Unavailable, html: html(429)},
		"500 before the service": {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{}), want: failure, code: codes.Internal, reason: upstream.ReasonBadResponse, html: html(500)},
		"502 before the service": {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{}), want: failure, code: codes.Unavailable, html: html(502)},
		"a fault on purpose": {ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{}), want: nothing, code: codes.Unavailable, reason: upstream.ReasonFault,
			more: func(o *upstream.ServiceOptions) {
				o.Faults = []upstream.Fault{{Abort: codes.Unavailable, Percent: 100}}
			}},
		"a delay on purpose": {ask: unary(policy.EdgeREST, "Echo", hold), want: nothing, code: codes.DeadlineExceeded, rule: policy.Override{Deadline: 30 * time.Millisecond},
			more: func(o *upstream.ServiceOptions) {
				o.Faults = []upstream.Fault{{Delay: 10 * time.Millisecond, Percent: 100}}
			}},

		"a stream":                                 {ask: streamed(policy.EdgeREST, "Down", []any{&testv1.DownRequest{}}), want: success},
		"a stream that the caller leaves":          {ask: streamed(policy.EdgeREST, "Down", []any{&testv1.DownRequest{Gap: durationpb.New(1)}}, leaves), want: nothing, code: codes.Canceled},
		"a stream, by the caller's deadline":       {ask: streamed(policy.EdgeREST, "Down", []any{&testv1.DownRequest{Gap: durationpb.New(1)}}, hurries), want: nothing, code: codes.DeadlineExceeded},
		"a stream of bytes that are none":          {ask: streamed(policy.EdgeGRPC, "Down", []any{&wire.Frame{Data: []byte{0xff}}}), want: nothing, code: codes.InvalidArgument},
		"a stream that is refused":                 {ask: streamed(policy.EdgeREST, "Down", []any{&testv1.DownRequest{FailCode: 3}}), want: success, code: codes.InvalidArgument},
		"a stream that fails":                      {ask: streamed(policy.EdgeREST, "Down", []any{&testv1.DownRequest{FailCode: 14}}), want: failure, code: codes.Unavailable},
		"both ways, no required field":             {ask: streamed(policy.EdgeREST, "OldChat", []any{&testv1.Legacy{}}), want: nothing, code: codes.InvalidArgument, field: "id is required"},
		"both ways, no required field, in bytes":   {ask: streamed(policy.EdgeGRPC, "OldChat", []any{raw(&testv1.Legacy{Note: proto.String("a")})}), want: nothing, code: codes.InvalidArgument, field: "id is required"},
		"both ways, no required field, the second": {ask: streamed(policy.EdgeGRPC, "OldChat", []any{raw(&testv1.Legacy{Id: proto.String("a")}), &wire.Frame{}}), want: nothing, code: codes.InvalidArgument, field: "id is required"},
		"both ways, garbage":                       {ask: streamed(policy.EdgeGRPC, "OldChat", []any{&wire.Frame{Data: []byte{0xff}}}), want: nothing, code: codes.InvalidArgument},
		"both ways, the caller leaves":             {ask: streamed(policy.EdgeGRPC, "Chat", nil, leaves), want: nothing, code: codes.Canceled},
		"both ways, larger than the service takes": {ask: streamed(policy.EdgeGRPC, "OldChat", []any{raw(&testv1.Legacy{Id: proto.String(strings.Repeat("x", 2000))})}), want: nothing, code: codes.ResourceExhausted, reason: upstream.ReasonTooLarge, server: []grpc.ServerOption{grpc.MaxRecvMsgSize(1000)}},
	}
	for c := codes.Code(1); c <= codes.Unauthenticated; c++ {
		tc := test{ask: unary(policy.EdgeREST, "Echo", &testv1.EchoRequest{FailCode: int32(c)}), want: success, code: c} //nolint:gosec // 1 to 16.
		switch c {
		case codes.Canceled, codes.ResourceExhausted:
			tc.want = nothing
		case codes.Unavailable, codes.DeadlineExceeded, codes.Internal:
			tc.want = failure
		case codes.Unknown, codes.DataLoss:
			tc.want, tc.code = failure, codes.Internal
		case codes.Unauthenticated: // Our assertion was refused.
			tc.code = codes.Internal
		}
		tests["the service says "+c.String()] = tc
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := pair(t, tc.html, tc.server...)
			known := resilient(t, resilience.Options{Breaker: resilience.BreakerOptions{MinRequests: 1000, Window: time.Hour}})
			o := upstream.ServiceOptions{Resilience: known}
			if tc.more != nil {
				tc.more(&o)
			}
			f := travelBy(t, target, o, tc.rule, func(o *upstream.Options) {
				o.Observer, o.Logger = nil, slog.New(slog.DiscardHandler)
				if tc.signer != nil {
					o.Signer = tc.signer
				}
			})
			for range rounds {
				err := tc.ask(t, f)
				if status.Code(err) != tc.code || !strings.HasSuffix(named(err), tc.field) || (tc.field == "") != (named(err) == "") || reason(err) != tc.reason {
					t.Fatalf("%v, field %q, reason %q", err, named(err), reason(err))
				}
			}
			var got counts
			eventually(t, func() bool { // The caller may go on before all is told.
				got = counts{}
				inFlight := 0
				for _, s := range known.States() {
					got.requests = got.requests || s.Requests > 0
					got.failures = got.failures || s.Failures > 0
					inFlight += s.InFlight
				}
				for _, b := range target.Backends() {
					got.ejected = got.ejected || b.Ejections > 0
					inFlight += int(b.InFlight)
				}
				return inFlight == 0
			})
			if got != tc.want {
				t.Errorf("%+v, not %+v", got, tc.want)
			}
		})
	}
}

func eventually(t *testing.T, so func() bool) {
	t.Helper()
	for range 4000 {
		if so() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("calls are still in flight")
}

// longWinded signs at length.
type longWinded struct{}

func (longWinded) Sign(*policy.Principal, string) (string, error) {
	return strings.Repeat("x", 5000), nil
}
