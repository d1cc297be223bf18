package upstream_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// composite answers Echo from GetNamed, as a composite does.
type composite struct {
	server
	f     *travelling
	named func(ctx context.Context) error
}

func (s *composite) Echo(ctx context.Context, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	out := &testv1.EchoResponse{}
	err := s.f.Branches().Invoke(ctx, service+"GetNamed", &testv1.GetNamedRequest{}, out)
	return out, err
}

func (s *composite) GetNamed(ctx context.Context, _ *testv1.GetNamedRequest) (*testv1.EchoResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	who, _, _ := strings.Cut(md.Get(upstream.MetadataAssertion)[0], "@")
	return &testv1.EchoResponse{Id: who + strings.Join(md.Get("x-blob-bin"), ",")}, s.named(ctx)
}

func (s *composite) here() upstream.Target {
	return upstream.InProcess(upstream.Host{Name: "test", Logger: slog.New(slog.DiscardHandler), Register: func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, s) }})
}

// TestBranchThatWantsAName: a branch that is not told who calls, because the answer of its
// composite is for everybody, may refuse so; the caller is asked for by name then.
func TestBranchThatWantsAName(t *testing.T) {
	for _, code := range []codes.Code{codes.PermissionDenied, codes.Unauthenticated} {
		s := &composite{named: func(ctx context.Context) error {
			if md, _ := metadata.FromIncomingContext(ctx); strings.HasPrefix(md.Get(upstream.MetadataAssertion)[0], "@") {
				return status.Error(code, "who?")
			}
			return nil
		}}
		s.f = keeping(t, s.here(), upstream.ServiceOptions{})
		call := caller("ada")
		if out, err := s.f.echo(t, call, "x"); err != nil || out.GetId() != "ada" || call.Cache != "bypass" {
			t.Errorf("%s: ada gets %q by %s, %v", code, out.GetId(), call.Cache, err)
		}
	}
}

// TestRefusedWriteRemovesNothing: a write that the breaker has refused was never sent.
func TestRefusedWriteRemovesNothing(t *testing.T) {
	s := &server{echo: func(_ context.Context, _ int32, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		if r.GetId() == "y" {
			return nil, status.Error(codes.Unavailable, "down")
		}
		return &testv1.EchoResponse{Id: r.GetId()}, nil
	}}
	f := keeping(t, s.target(t, "remote"), upstream.ServiceOptions{Resilience: resilient(t, resilience.Options{Breaker: resilience.BreakerOptions{MinRequests: 4}})})
	ask := func(id string, writes bool) *policy.Call {
		call := &policy.Call{Writes: writes}
		_, err := f.echo(t, call, id)
		if refused := reason(err) == upstream.ReasonBreakerOpen; refused != (call.Breaker == "breaker") {
			t.Errorf("%v, breaker %q", err, call.Breaker)
		}
		return call
	}
	ask("x", false)
	for i := 0; ask("y", true).Breaker == ""; i++ {
		if i > 100 {
			t.Fatal("the breaker stays closed")
		}
	}
	if call := ask("x", true); call.Breaker != "breaker" || call.Attempts != 0 {
		t.Fatalf("the write is not refused: %+v", call)
	}
	if call := ask("x", false); call.Cache != "hit" {
		t.Errorf("what is cached has gone: %s", call.Cache)
	}
}

// binaryPass lets a text and bytes pass to a method's service.
func binaryPass(t *testing.T, methods ...string) func(*upstream.Options) {
	return func(o *upstream.Options) {
		o.Pass = map[string]*headers.Pass{}
		for _, name := range methods {
			m := *o.Catalogue.Method(service + name).Method
			m.Rule.Metadata = policy.Metadata{Request: []string{"X-Lang", "X-Blob-Bin"}}
			p, err := headers.CompilePass(&m)
			if err != nil {
				t.Fatal(err)
			}
			o.Pass[m.FullName] = p
		}
	}
}

// overREST and overGRPC are calls with a binary header as each edge has it.
func overREST(value string) *policy.Call {
	return &policy.Call{Edge: policy.EdgeREST, Headers: http.Header{"X-Blob-Bin": {value}}.Values}
}

func overGRPC(value string) *policy.Call {
	return &policy.Call{Edge: policy.EdgeGRPC, BytesDecoded: true, Headers: metadata.Pairs("x-blob-bin", value).Get}
}

// TestBytesInBranches: bytes of the caller reach a branch as they are, whichever edge they
// came over, and whether the composite's answer is cached.
func TestBytesInBranches(t *testing.T) {
	for name, cached := range map[string]*policyv1.Cache{"not cached": nil, "cached": {Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: durationpb.New(time.Hour)}} {
		for _, tc := range []struct {
			call *policy.Call
			want string
		}{{overREST("YWJj"), "abc"}, {overGRPC("YWJj"), "YWJj"}, {overGRPC("abc"), "abc"}, {overGRPC("\x00\xff="), "\x00\xff="}} {
			var got []string
			s := &composite{named: func(ctx context.Context) error {
				md, _ := metadata.FromIncomingContext(ctx)
				got = md.Get("x-blob-bin")
				return nil
			}}
			c, err := cache.New(cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s.f = travelBy(t, s.here(), upstream.ServiceOptions{}, policy.Override{Cache: cached}, binaryPass(t, "Echo", "GetNamed"), func(o *upstream.Options) { o.Cache = c })
			out := &testv1.EchoResponse{}
			_ = s.f.Invoke(s.f.admit(t, "Echo", tc.call), service+"Echo", &testv1.EchoRequest{}, out)
			if len(got) != 1 || got[0] != tc.want {
				t.Errorf("%s: the branch gets %q, want %q", name, got, tc.want)
			}
		}
	}
}

// TestKeyOfBytes: two edges write the same bytes differently, and other bytes the same;
// what a service gets decides which cached answer is given.
func TestKeyOfBytes(t *testing.T) {
	s := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return &testv1.EchoResponse{Id: strings.Join(md.Get("x-blob-bin"), "|")}, nil
	}}
	c, err := cache.New(cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := travelBy(t, s.target(t, "remote"), upstream.ServiceOptions{}, policy.Override{Cache: &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: durationpb.New(time.Hour)}},
		binaryPass(t, "Echo"), func(o *upstream.Options) { o.Cache = c })
	for i, step := range []struct {
		call      *policy.Call
		want, how string
	}{
		{overREST("YWJj"), "abc", "miss"}, {overGRPC("YWJj"), "YWJj", "miss"}, {overGRPC("abc"), "abc", "hit"}, {overREST("YWJj"), "abc", "hit"},
		{overREST("WVdKag=="), "YWJj", "hit"}, {overREST("YWJj,YWJj"), "abc|abc", "miss"},
	} {
		if out, err := f.echo(t, step.call, "x"); err != nil || out.GetId() != step.want || step.call.Cache != step.how {
			t.Errorf("%d: %q by %s, want %q by %s; %v", i, out.GetId(), step.call.Cache, step.want, step.how, err)
		}
	}
}

// TestHeadersOfCachedComposites: a cached composite and its branches see only those of the
// caller's headers that its own rule names: its key holds no others.
func TestHeadersOfCachedComposites(t *testing.T) {
	for name, tc := range map[string]struct {
		cached *policyv1.Cache
		want   string
	}{
		"cached":     {&policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: durationpb.New(time.Hour)}, "en/"},
		"not cached": {nil, "en/1"},
	} {
		s := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			h := policy.Admitted(ctx).Headers
			return &testv1.EchoResponse{Id: strings.Join(h("x-lang"), ",") + "/" + strings.Join(h("x-other"), ",")}, nil
		}}
		c, err := cache.New(cache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f := travelBy(t, s.target(t, "inprocess"), upstream.ServiceOptions{}, policy.Override{Cache: tc.cached}, passing(t, "Echo"), func(o *upstream.Options) { o.Cache = c })
		call := &policy.Call{Edge: policy.EdgeREST, Headers: http.Header{"X-Lang": {"en"}, "X-Other": {"1"}}.Values}
		if out, err := f.echo(t, call, "x"); err != nil || out.GetId() != tc.want {
			t.Errorf("%s: %q, want %q; %v", name, out.GetId(), tc.want, err)
		}
	}
}
