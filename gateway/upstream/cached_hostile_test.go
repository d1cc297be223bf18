package upstream_test

import (
	"context"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// keeping is a service whose answers are kept for everyone, a NOT_FOUND too.
func keeping(t *testing.T, target upstream.Target, s upstream.ServiceOptions, more ...func(*upstream.Options)) *travelling {
	t.Helper()
	c, err := cache.New(cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rule := &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PUBLIC, Ttl: durationpb.New(time.Hour), NegativeTtl: durationpb.New(time.Hour)}
	return travelBy(t, target, s, policy.Override{Cache: rule}, append(more, func(o *upstream.Options) { o.Cache = c })...)
}

// TestCanaryIsNotKeptForOthers: who asks for a canary, as everybody may, does not put
// its answer into the places of those who did not; nor does one who is drawn.
func TestCanaryIsNotKeptForOthers(t *testing.T) {
	named := func(name string) upstream.Target {
		s := &server{echo: func(context.Context, int32, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			return &testv1.EchoResponse{Id: name}, nil
		}}
		return s.target(t, "inprocess")
	}
	f := keeping(t, named("itself"), upstream.ServiceOptions{Canaries: []upstream.Canary{
		{Name: "a", Target: named("a"), Match: []upstream.CanaryMatch{{Header: "X-Canary", Value: "a"}}},
		{Name: "b", Target: named("b"), Match: []upstream.CanaryMatch{{Cookie: "b"}}},
		{Name: "drawn", Target: named("drawn"), Percent: 50, PerRequest: true, Methods: []string{"Echo"}},
	}})
	for i := range 40 {
		for _, tc := range []struct {
			h    http.Header
			want string
		}{{http.Header{"X-Canary": {"a"}}, "a"}, {http.Header{"Cookie": {"b=1"}}, "b"}, {nil, ""}} {
			call := &policy.Call{Headers: tc.h.Values}
			out, err := f.echo(t, call, "x")
			if err != nil {
				t.Fatal(err)
			}
			want := tc.want
			if want == "" {
				if want = call.Variant; want == "" {
					want = "itself"
				}
			}
			if out.GetId() != want || tc.want != "" && call.Variant != tc.want {
				t.Fatalf("%d: %v got %s, variant %q, %s", i, tc.h, out.GetId(), call.Variant, call.Cache)
			}
		}
	}
}

// TestFaultIsNotKeptForOthers: who asks for a failure on purpose has it alone.
func TestFaultIsNotKeptForOthers(t *testing.T) {
	f := keeping(t, (&server{}).target(t, "inprocess"), upstream.ServiceOptions{Faults: []upstream.Fault{
		{Abort: codes.NotFound, Percent: 100, Header: "x-fault", Value: "abort"},
		{Delay: time.Hour, Percent: 100, Header: "x-fault", Value: "delay"},
	}})
	faulty := func(value string) *policy.Call { return &policy.Call{Headers: http.Header{"X-Fault": {value}}.Values} }
	if _, err := f.echo(t, faulty("abort"), "x"); status.Code(err) != codes.NotFound || reason(err) != upstream.ReasonFault {
		t.Fatal(err)
	}
	late := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(f.admit(t, "Echo", faulty("delay")), 50*time.Millisecond)
		defer cancel()
		late <- f.Invoke(ctx, service+"Echo", &testv1.EchoRequest{Id: "x"}, &testv1.EchoResponse{})
	}()
	for f.counter(t, "sluice_faults_total", "delay") == 0 {
		time.Sleep(time.Millisecond)
	}
	call := &policy.Call{}
	if _, err := f.echo(t, call, "x"); err != nil || call.Cache != "miss" {
		t.Errorf("%s, %v", call.Cache, err)
	}
	if err := <-late; status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
}

// TestHeadersOfOthersAreNotKept: what header rules tell a service of a caller, its
// answer may differ by.
func TestHeadersOfOthersAreNotKept(t *testing.T) {
	s := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return &testv1.EchoResponse{Id: md.Get("x-caller")[0]}, nil
	}}
	for template, hits := range map[string]int{
		"{principal.tenant}/{principal.subject}": 1, "{header.accept-language}!": 1, "at {client.address}": 1, "{request_id} {route}": 0, "all": 0,
	} {
		p, err := headers.Compile(headers.Rules{Set: map[string]string{"x-caller": template}}, headers.Scope{GRPC: true})
		if err != nil {
			t.Fatal(err)
		}
		f := keeping(t, s.target(t, "inprocess"), upstream.ServiceOptions{}, func(o *upstream.Options) {
			o.Services, o.Headers = nil, map[string]upstream.MethodHeaders{service + "Echo": {Request: p}}
		})
		ask := func(subject, tenant, language, address string) (string, string) {
			who := policy.NewPrincipal(subject, "i", nil, time.Time{})
			who.Tenant = tenant
			call := &policy.Call{RequestID: "r-" + subject, Principal: who, Client: netip.MustParseAddr(address), Headers: http.Header{"Accept-Language": {language}}.Values}
			out, err := f.echo(t, call, "x")
			if err != nil {
				t.Fatal(err)
			}
			return out.GetId(), call.Cache
		}
		a, _ := ask("ada", "t", "en", "10.0.0.1")
		b, how := ask("grace", "u", "fr", "10.0.0.2")
		if differ := hits == 1; differ != (a != b) || differ != (how == "miss") {
			t.Errorf("%s: %q, and another %q by %s", template, a, b, how)
		}
		if again, how := ask("ada", "t", "en", "10.0.0.1"); again != a || how != "hit" {
			t.Errorf("%s: %q then %q by %s", template, a, again, how)
		}
	}
}
