package rest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// The services whose every route is asked.
var answering = []struct {
	descriptor protoreflect.ServiceDescriptor
	register   Register
}{
	{testv1.File_sluice_test_v1_test_proto.Services().Get(0), Handlers(testv1.RegisterTestServiceHandlerClient, testv1.NewTestServiceClient)},
	{userv1.File_shop_user_v1_user_proto.Services().Get(0), Handlers(userv1.RegisterUserServiceHandlerClient, userv1.NewUserServiceClient)},
	{orderv1.File_shop_order_v1_order_proto.Services().Get(0), Handlers(orderv1.RegisterOrderServiceHandlerClient, orderv1.NewOrderServiceClient)},
	{profilev1.File_shop_profile_v1_profile_proto.Services().Get(0), Handlers(profilev1.RegisterProfileServiceHandlerClient, profilev1.NewProfileServiceClient)},
	{bffv1.File_shop_bff_v1_bff_proto.Services().Get(0), Handlers(bffv1.RegisterBffServiceHandlerClient, bffv1.NewBffServiceClient)},
}

// backend answers every method with what a test gives it: messages, frames,
// and at the end an error.
type backend struct {
	answers  []any
	err      error
	requests func(data []byte) // is told of each unary one; nil means nobody
}

func (b *backend) register(sd protoreflect.ServiceDescriptor) func(grpc.ServiceRegistrar) {
	d := &grpc.ServiceDesc{ServiceName: string(sd.FullName()), HandlerType: (*any)(nil)}
	for i := range sd.Methods().Len() {
		md := sd.Methods().Get(i)
		if md.IsStreamingClient() || md.IsStreamingServer() {
			d.Streams = append(d.Streams, grpc.StreamDesc{StreamName: string(md.Name()), ClientStreams: md.IsStreamingClient(), ServerStreams: md.IsStreamingServer(), Handler: b.stream})
			continue
		}
		d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: string(md.Name()), Handler: func(_ any, ctx context.Context, read func(any) error, with grpc.UnaryServerInterceptor) (any, error) {
			in := &wire.Frame{}
			if err := read(in); err != nil {
				return nil, err
			}
			handle := func(context.Context, any) (any, error) {
				if b.err != nil {
					return nil, b.err
				}
				if b.requests != nil {
					b.requests(in.Data)
				}
				return b.answers[0], nil
			}
			if with == nil {
				return handle(ctx, in)
			}
			return with(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/" + string(sd.FullName()) + "/" + string(md.Name())}, handle)
		}})
	}
	return func(r grpc.ServiceRegistrar) { r.RegisterService(d, struct{}{}) }
}

func (b *backend) stream(_ any, s grpc.ServerStream) error {
	for {
		if err := s.RecvMsg(&wire.Frame{}); err != nil { // The one of a server stream comes alone.
			break
		}
	}
	for _, a := range b.answers {
		if err := s.SendMsg(a); err != nil {
			return err
		}
	}
	return b.err
}

type noSigner struct{}

func (noSigner) Sign(*policy.Principal, string) (string, error) { return "x", nil }

// places are the edge over a backend in this process and over one behind TCP.
func places(t *testing.T, run func(t *testing.T, e *edge, b *backend)) {
	t.Helper()
	for name, connect := range map[string]func(*testing.T, *backend, protoreflect.ServiceDescriptor) upstream.Target{"in-process": inProcess, "remote": remote} {
		t.Run(name, func(t *testing.T) {
			b := &backend{}
			var all []protoreflect.ServiceDescriptor
			var services []Service
			targets := map[string]upstream.Target{}
			for _, s := range answering {
				all = append(all, s.descriptor)
				services = append(services, Service{Name: string(s.descriptor.FullName()), Register: s.register})
				targets[string(s.descriptor.FullName())] = connect(t, b, s.descriptor)
			}
			table, err := schema.New(all, schema.Options{Defaults: policy.Defaults{Deadline: 10 * time.Second, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Linked: protoregistry.GlobalTypes})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range table.Methods() {
				m.Rule.Deadline = 10 * time.Second
			}
			run(t, newEdge(t, func(o *edgeOptions) {
				conn, err := upstream.New(upstream.Options{Catalogue: table, Targets: targets, Signer: noSigner{}, Logger: o.Logger})
				if err != nil {
					t.Fatal(err)
				}
				o.Catalogue, o.Services, o.Conn = table, services, conn
			}), b)
		})
	}
}

func inProcess(t *testing.T, b *backend, sd protoreflect.ServiceDescriptor) upstream.Target {
	target := upstream.InProcess(upstream.Host{Name: "test", Register: b.register(sd), Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = target.Close() })
	return target
}

func remote(t *testing.T, b *backend, sd protoreflect.ServiceDescriptor) upstream.Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	b.register(sd)(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	target, err := upstream.Remote(upstream.RemoteOptions{Target: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = target.Close()
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return target
}

// ask is a request that a binding takes.
func (b *Binding) ask() *http.Request {
	path := b.Template.String()
	for _, v := range b.Template.Variables() {
		value := probeValue(b.Method.Descriptor.Input(), v)
		for _, form := range []string{"{" + v + "}", "{" + v + "=shelves/*/books/**}"} {
			if strings.Contains(form, "shelves") {
				value = "shelves/s/books/b/c"
			}
			path = strings.ReplaceAll(path, form, value)
		}
	}
	body := ""
	if b.body == bodyJSON || b.body == bodyStream {
		body = "{}"
	}
	if in := b.Method.Descriptor.Input(); in.RequiredNumbers().Len() > 0 { // Legacy.
		if body == "" {
			path += "?id=a"
		} else {
			body = `{"id":"a"}`
		}
	}
	r := httptest.NewRequest(b.Verb, path, strings.NewReader(body))
	if b.body == bodyRaw {
		r.Header.Set("Content-Type", "image/png")
	}
	return r
}

// TestEveryAnswer asks every route of every service: the JSON is what protojson
// says of the message that the service sent, which has a value in every field.
func TestEveryAnswer(t *testing.T) {
	places(t, func(t *testing.T, e *edge, b *backend) {
		for _, bound := range e.rest.Routes() {
			t.Run(bound.Verb+" "+bound.Template.String(), func(t *testing.T) {
				if bound.Method.Streaming() {
					answersStream(t, e, b, bound)
					return
				}
				m := filled(t, bound.Method.Descriptor.Output(), "v")
				b.answers = []any{m}
				got := e.do(t, bound.ask())
				checkWhole(t, bound, m, got)
				if bound.Verb == http.MethodGet {
					checkHead(t, e, bound, got)
				}
			})
		}
	})
}

func checkWhole(t *testing.T, bound *Binding, m proto.Message, got answer) {
	t.Helper()
	want := max(bound.Method.Rule.SuccessCode, http.StatusOK)
	if got.status != want {
		t.Fatalf("%d %s", got.status, got.body)
	}
	length := got.header.Get("Content-Length")
	switch h, raw := m.(*httpbody.HttpBody); {
	case want == http.StatusNoContent:
		if got.body != "" || length != "" || got.header.Get("Content-Type") != "" {
			t.Errorf("%v %q", got.header, got.body)
		}
		return
	case raw:
		if got.body != string(h.GetData()) || got.header.Get("Content-Type") != h.GetContentType() {
			t.Errorf("%v %q", got.header, got.body)
		}
	default:
		sameJSON(t, got.body, asJSON(t, m, bound.ResponseField))
		if ct := got.header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("Content-Type %q", ct)
		}
	}
	if length != strconv.Itoa(len(got.body)) || len(got.body) < 5 {
		t.Errorf("Content-Length %q of %d", length, len(got.body))
	}
	if l := bound.location; l != nil && (got.header.Get("Location") != locationOf(t, l, m) || strings.HasSuffix(locationOf(t, l, m), "/")) {
		t.Errorf("Location %q, want %q", got.header.Get("Location"), locationOf(t, l, m))
	}
}

// checkHead: the headers of GET, and nothing behind them.
func checkHead(t *testing.T, e *edge, bound *Binding, get answer) {
	t.Helper()
	r := bound.ask()
	r.Method = http.MethodHead
	head := e.do(t, r)
	for _, a := range []answer{head, get} {
		a.header.Del("X-Request-Id")
	}
	if diff := cmp.Diff(get.header, head.header); diff != "" || head.status != get.status {
		t.Errorf("HEAD (-GET +HEAD): %d %s", head.status, diff)
	}
}

// answersStream: two messages that differ, and then an error with a detail.
func answersStream(t *testing.T, e *edge, b *backend, bound *Binding) {
	out := bound.Method.Descriptor.Output()
	first, second := filled(t, out, "v"), filled(t, out, "w")
	b.answers = []any{first, second}
	if !bound.Method.Descriptor.IsStreamingServer() {
		b.answers = []any{second}
		checkWhole(t, bound, second, e.do(t, bound.ask()))
		return
	}
	got := e.do(t, bound.ask())
	if h, ok := first.(*httpbody.HttpBody); ok {
		if want := string(h.GetData()) + string(second.(*httpbody.HttpBody).GetData()); got.body != want {
			t.Errorf("%q, want %q", got.body, want)
		}
		return
	}
	lines := strings.Split(strings.TrimSuffix(got.body, "\n"), "\n")
	if got.status != http.StatusOK || len(lines) != 2 || got.header.Get("Content-Type") != "application/x-ndjson" || got.header.Get("Content-Length") != "" {
		t.Fatalf("%d %v %s", got.status, got.header, got.body)
	}
	for i, m := range []proto.Message{first, second} {
		sameJSON(t, lines[i], `{"result":`+asJSON(t, m, bound.ResponseField)+`}`)
	}
	b.err = refused(t)
	defer func() { b.err = nil }()
	lines = strings.Split(strings.TrimSuffix(e.do(t, bound.ask()).body, "\n"), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[2], `{"error":{`) || !strings.Contains(lines[2], `"subject":"o1"`) {
		t.Errorf("%q", lines)
	}
}

func refused(t *testing.T) error {
	t.Helper()
	st, err := status.New(codes.FailedPrecondition, "not now").WithDetails(&errdetails.PreconditionFailure{
		Violations: []*errdetails.PreconditionFailure_Violation{{Type: "STATE", Subject: "o1", Description: "is shipped"}}})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

// TestEveryRefusal: a service's status and its details come through on every
// route that is no stream.
func TestEveryRefusal(t *testing.T) {
	places(t, func(t *testing.T, e *edge, b *backend) {
		b.err = refused(t)
		for _, bound := range e.rest.Routes() {
			if bound.Method.Streaming() {
				continue
			}
			got := e.do(t, bound.ask())
			if got.status != 400 || !strings.Contains(got.body, `"subject":"o1"`) || !strings.Contains(got.body, "FAILED_PRECONDITION") || got.header.Get("Location") != "" {
				t.Errorf("%s %s: %d %v %s", bound.Verb, bound.Template, got.status, got.header, got.body)
			}
		}
	})
}

func asJSON(t *testing.T, m proto.Message, field protoreflect.FieldDescriptor) string {
	t.Helper()
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if field == nil {
		return string(b)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return string(all[field.JSONName()])
}

func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
