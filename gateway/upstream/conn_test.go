package upstream_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

const service = "/sluice.test.v1.TestService/"

// backend is a target that counts calls.
type backend struct {
	calls atomic.Int32
	seen  func(ctx context.Context) error
}

func (b *backend) Invoke(ctx context.Context, _ string, _, _ *wire.Frame, _, _ *metadata.MD) error {
	b.calls.Add(1)
	if b.seen != nil {
		return b.seen(ctx)
	}
	return nil
}

func (b *backend) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	b.calls.Add(1)
	return nil, status.Error(codes.Unavailable, "no streams here")
}
func (b *backend) String() string { return "fake" }
func (b *backend) Close() error   { return nil }

type signer struct{ err error }

func (s signer) Sign(p *policy.Principal, audience string) (string, error) {
	return p.Subject + "@" + audience, s.err
}

type observer struct {
	denied []string
	done   []codes.Code
}

func (o *observer) UpstreamDone(_ *policy.Method, _ string, c codes.Code, _ time.Duration, _ trace.Span) {
	o.done = append(o.done, c)
}
func (o *observer) Denied(check string, m *policy.Method) {
	o.denied = append(o.denied, check+" "+m.FullName)
}

type fixture struct {
	edge
	*backend
	*observer
	table *schema.Catalogue
}

func connect(t testing.TB, s signer) *fixture {
	t.Helper()
	sd := testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService")
	table, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Defaults: policy.Defaults{Deadline: time.Second, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{backend: &backend{}, observer: &observer{}, table: table}
	f.Conn, err = upstream.New(upstream.Options{
		Catalogue: table, Targets: map[string]upstream.Target{"sluice.test.v1.TestService": f.backend},
		Entry:  policy.Chain{{Name: "owner", Check: policy.RequireOwner}},
		Branch: policy.Chain{{Name: "scopes", Check: policy.RequireScopes}},
		Signer: s, Logger: slog.New(slog.DiscardHandler), Observer: f.observer,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// admit returns a context in which ada may call the method.
func (f *fixture) admit(t testing.TB, method string, scopes ...string) context.Context {
	t.Helper()
	c := &policy.Call{Method: f.table.Method(service + method).Method, RequestID: "r-1", Principal: policy.NewPrincipal("ada", "", scopes, time.Time{})}
	ctx, err := policy.Chain{}.Admit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

func code(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// TestOnlyTheAdmitted: whoever holds the connection calls nothing without an
// admission for that very method.
func TestOnlyTheAdmitted(t *testing.T) {
	f := connect(t, signer{})
	echo, down := policy.Admitted(f.admit(t, "Echo")), policy.Admitted(f.admit(t, "Down"))
	for name, ctx := range map[string]context.Context{"none": t.Context(), "another's": f.admit(t, "ListNames")} {
		for _, call := range []*policy.Call{nil, {}, {Method: echo.Method}, echo} {
			code(t, f.Call(ctx, call, &wire.Frame{}, &upstream.Answer{}), codes.Internal)
		}
		if _, err := f.Stream(ctx, down); status.Code(err) != codes.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	for method, want := range map[string]codes.Code{"/no.Such/Method": codes.Unimplemented, service + "Echo": codes.Internal} { // Of another table.
		call := &policy.Call{Method: &policy.Method{FullName: method}}
		ctx, err := policy.Chain{}.Admit(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		code(t, f.Call(ctx, call, &wire.Frame{}, &upstream.Answer{}), want)
	}
	code(t, f.Branches().Invoke(t.Context(), service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.Internal)
	code(t, f.Branches().Invoke(f.admit(t, "Echo"), "/no.Such/Method", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.Unimplemented)
	if n := f.calls.Load(); n != 0 {
		t.Errorf("%d calls were sent", n)
	}
	code(t, f.edge.Invoke(f.admit(t, "Echo"), service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.OK)
	if n := f.calls.Load(); n != 1 {
		t.Errorf("%d calls were sent", n)
	}
}

// TestBranches: a branch is checked for its own method, on its own message, as
// its caller.
func TestBranches(t *testing.T) {
	f := connect(t, signer{})
	nothing := func(ctx context.Context, owner string) error {
		return f.Branches().Invoke(ctx, service+"Nothing", &testv1.NothingRequest{Inner: &testv1.Inner{Owner: owner}}, &emptypb.Empty{})
	}
	code(t, nothing(f.admit(t, "Echo"), "ada"), codes.PermissionDenied)               // Lacks the scope.
	code(t, nothing(f.admit(t, "Echo", "test.write"), "bob"), codes.PermissionDenied) // Not the owner.
	if n := f.calls.Load(); n != 0 {
		t.Errorf("%d calls were sent", n)
	}
	if got := f.denied; len(got) != 2 || got[0] != "scopes "+service+"Nothing" || got[1] != "owner "+service+"Nothing" {
		t.Errorf("counted %v", got)
	}
	f.seen = func(ctx context.Context) error {
		md, _ := metadata.FromOutgoingContext(ctx)
		if md.Get(upstream.MetadataAssertion)[0] != "ada@sluice.test.v1.TestService" || md.Get(upstream.MetadataRequestID)[0] != "r-1" || md.Len() != 2 {
			t.Errorf("sent %v", md)
		}
		return nil
	}
	// What a composite itself puts into the context goes nowhere.
	ctx := metadata.AppendToOutgoingContext(f.admit(t, "Echo", "test.write"), "x-user-id", "root")
	code(t, nothing(ctx, "ada"), codes.OK)
	_, err := f.Branches().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, service+"Chat")
	code(t, err, codes.Unavailable)
}

// TestNoAssertion: a call that cannot say who calls is not made.
func TestNoAssertion(t *testing.T) {
	f := connect(t, signer{err: errors.New("no key")})
	code(t, f.edge.Invoke(f.admit(t, "Echo"), service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.Internal)
	_, err := f.edge.NewStream(f.admit(t, "Up"), &grpc.StreamDesc{ClientStreams: true}, service+"Up")
	code(t, err, codes.Internal)
	if n := f.calls.Load(); n != 0 {
		t.Errorf("%d calls were sent", n)
	}
}

// TestDeadline: the rule's holds where the caller's is longer or missing.
func TestDeadline(t *testing.T) {
	f := connect(t, signer{})
	var left time.Duration
	f.seen = func(ctx context.Context) error {
		d, _ := ctx.Deadline()
		left = time.Until(d)
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(f.admit(t, "Echo"), 50*time.Millisecond)
	defer cancel()
	code(t, f.edge.Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.DeadlineExceeded)
	if left > 50*time.Millisecond {
		t.Errorf("%v left", left)
	}
	code(t, f.edge.Invoke(f.admit(t, "Echo"), service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.DeadlineExceeded)
	if left > time.Second || left < 500*time.Millisecond {
		t.Errorf("%v left", left)
	}
	if len(f.done) != 2 || f.done[0] != codes.DeadlineExceeded {
		t.Errorf("counted %v", f.done)
	}
}

// TestTargets: a service that runs nowhere stops the start; so does a target
// that cannot be.
func TestTargets(t *testing.T) {
	f := connect(t, signer{})
	if _, err := upstream.New(upstream.Options{Catalogue: f.table}); err == nil {
		t.Error("a service without a target was accepted")
	}
	if got := f.Target(service + "Echo"); got != "fake" || f.Target("/no.Such/Method") != "" {
		t.Errorf("target %q", got)
	}
	for name, o := range map[string]upstream.RemoteOptions{
		"target":      {Target: "nope://\x00"},
		"CA file":     {Target: "127.0.0.1:1", TLS: &upstream.TLSOptions{CAFile: "missing.pem"}},
		"not a CA":    {Target: "127.0.0.1:1", TLS: &upstream.TLSOptions{CAFile: "conn_test.go"}},
		"half a pair": {Target: "127.0.0.1:1", TLS: &upstream.TLSOptions{CertFile: "conn_test.go"}},
		"not a pair":  {Target: "127.0.0.1:1", TLS: &upstream.TLSOptions{CertFile: "conn_test.go", KeyFile: "conn_test.go"}},
	} {
		if target, err := upstream.Remote(o); err == nil {
			t.Errorf("%s: %v was accepted", name, target)
		}
	}
}
