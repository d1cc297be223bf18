package upstream_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

const (
	most = time.Second // Of the rule.
	late = 500 * time.Millisecond
)

// hanging answers the first call at once, refuses the third late, which may be tried
// again, and holds all others until they end.
type hanging struct {
	testv1.UnimplementedTestServiceServer
	calls atomic.Int32
	left  atomic.Int64 // time.Duration, of the call that hung
}

func (h *hanging) Echo(ctx context.Context, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	switch h.calls.Add(1) {
	case 1:
		return &testv1.EchoResponse{}, grpc.SetHeader(ctx, metadata.Pairs("idempotency-replayed", "true"))
	case 3:
		time.Sleep(late)
		return nil, status.Error(codes.Unavailable, "not now")
	}
	end, _ := ctx.Deadline()
	h.left.Store(int64(time.Until(end)))
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestDeadlineOfTarget: what grpc-go is told of a rule's deadline ends a call as a
// context would: the first, the later ones, one that is tried again, and one whose
// target is never found.
func TestDeadlineOfTarget(t *testing.T) {
	h, s := &hanging{}, grpc.NewServer()
	testv1.RegisterTestServiceServer(s, h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)

	f := connect(t, signer{})
	call := func(at string, names *net.Resolver) func(want codes.Code) {
		table, err := schema.New([]protoreflect.ServiceDescriptor{testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService")}, schema.Options{Defaults: policy.Defaults{Deadline: most, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Linked: protoregistry.GlobalTypes})
		if err != nil {
			t.Fatal(err)
		}
		f.table = table
		lookups, err := discovery.New(discovery.Options{DNS: names})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = lookups.Close() })
		target, err := upstream.Remote(upstream.RemoteOptions{Target: at, Discovery: lookups, Deadlines: upstream.Deadlines(table, "sluice.test.v1.TestService")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = target.Close() })
		retries, err := resilience.NewService(resilience.Options{Name: at})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(retries.Close)
		conn, err := upstream.New(upstream.Options{Catalogue: table, Targets: map[string]upstream.Target{"sluice.test.v1.TestService": target}, Signer: signer{}, Logger: slog.New(slog.DiscardHandler),
			Services: map[string]upstream.ServiceOptions{"sluice.test.v1.TestService": {Resilience: retries}}})
		if err != nil {
			t.Fatal(err)
		}
		return func(want codes.Code) {
			t.Helper()
			ctx, cancel := context.WithTimeout(f.admit(t, "Echo"), 20*time.Second) // Not a bound of the test's own: the rule's must come first.
			defer cancel()
			var header metadata.MD
			code(t, edge{conn}.Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}, &header), want)
			if len(header) > 0 {
				t.Errorf("%v of a method that cannot be replayed", header)
			}
			if ctx.Err() != nil {
				t.Errorf("%s: the rule's deadline did not end the call", at)
			}
		}
	}
	here := call(l.Addr().String(), nil)
	here(codes.OK)
	here(codes.DeadlineExceeded)
	here(codes.DeadlineExceeded)
	if n := h.calls.Load(); n != 4 {
		t.Errorf("%d calls came, want the third tried again", n)
	}
	if left := time.Duration(h.left.Load()); left > most-late || left <= 0 {
		t.Errorf("the service was told that %v are left of %v, %v of which had passed", left, most, late)
	}
	silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	call("dns:///nowhere.invalid:1", silent)(codes.DeadlineExceeded)
}
