package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// plain is a plain HTTP service that counts its requests and says who asked.
type plain struct {
	calls  atomic.Int64
	broken atomic.Bool
}

func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := p.calls.Add(1)
	if p.broken.Load() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintf(w, "%s asks for %s: answer %d", r.Header.Get("X-User-Id"), r.URL.Path, n)
}

// plainGateway has a route that keeps answers, one that does not, and failures on
// purpose for who asks for them.
func plainGateway(t *testing.T) (*gatewaytest.Gateway, *plain) {
	t.Helper()
	p := &plain{}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	minute := durationpb.New(time.Minute)
	route := func(name string, cache *policyv1.Cache) *configv1.HttpRoute {
		return &configv1.HttpRoute{Name: name, Upstream: "up", Require: &policyv1.Require{Authenticated: true}, Deadline: minute, Cache: cache,
			Limit: &policyv1.Limit{Class: "read"}, Retry: &policyv1.Retry{MaxAttempts: 1},
			Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/" + name}}}
	}
	return gatewaytest.Start(t, func(c *configv1.Config) {
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"up": {Target: srv.Listener.Addr().String(), UserIdHeader: true, Resilience: &configv1.Resilience{
			Breaker: &configv1.Breaker{MinRequests: 3, OpenFor: minute},
			Faults:  []*configv1.Fault{{Abort: "UNAVAILABLE", Percent: 100, Header: "X-Fault", Value: "abort"}}}}}
		c.HttpRoutes = []*configv1.HttpRoute{route("kept", &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: minute}), route("asked", nil)}
	}, gateway.WithServices(shop.Services()...)), p
}

// TestPlainAnswersAreKept: the walk of a kept answer through the whole gateway, and
// through reloads.
func TestPlainAnswersAreKept(t *testing.T) {
	g, p := plainGateway(t)
	ada, grace := g.Token(t, "ada", ""), g.Token(t, "grace", "")
	get := func(token string, h http.Header) (*http.Response, string) {
		t.Helper()
		return do(t, g, token, exchange{method: http.MethodGet, path: "/kept/a", header: h})
	}
	// is holds an answer to what it must be: whose, fetched or kept, after how many calls.
	is := func(what string, res *http.Response, body, want string, kept bool, calls int64) {
		t.Helper()
		if age := res.Header.Get("Age"); res.StatusCode != http.StatusOK || body != want || (age != "") != kept || p.calls.Load() != calls {
			t.Errorf("%s: %d %q, Age %q, %d calls; want %q, kept %v, %d calls", what, res.StatusCode, body, age, p.calls.Load(), want, kept, calls)
		}
	}
	const hers, graces = "ada asks for /kept/a: answer 1", "grace asks for /kept/a: answer 2"
	res, body := get(ada, nil)
	is("a miss", res, body, hers, false, 1)
	tag := res.Header.Get("Etag")
	if control := res.Header.Get("Cache-Control"); tag == "" || !strings.HasPrefix(control, "private") {
		t.Errorf("ETag %q, Cache-Control %q", tag, control)
	}
	res, body = get(ada, nil)
	is("a hit", res, body, hers, true, 1)
	if res, body = get(ada, http.Header{"If-None-Match": {tag}}); res.StatusCode != http.StatusNotModified || body != "" || res.Header.Get("Etag") != tag || p.calls.Load() != 1 {
		t.Errorf("what she has already: %d %q %v", res.StatusCode, body, res.Header)
	}
	res, body = get(grace, http.Header{"If-None-Match": {tag}})
	is("another principal", res, body, graces, false, 2)
	res, body = do(t, g, "", exchange{method: http.MethodGet, path: "/kept/a", anonymous: true})
	if res.StatusCode != http.StatusUnauthorized || strings.Contains(body, "asks for") {
		t.Errorf("nobody: %d %s", res.StatusCode, body)
	}

	// A reload of something else keeps what is kept; one of the route does not find it.
	next := proto.CloneOf(g.Config)
	next.Limits.Classes["write"].Rates[0].Burst--
	if err := g.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	res, body = get(ada, nil)
	is("after a reload", res, body, hers, true, 2)
	next = proto.CloneOf(next)
	next.HttpRoutes[0].Rewrite = &configv1.PathRewrite{Prefix: "/new"}
	if err := g.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	for i, kept := range []bool{false, true} {
		res, body = get(ada, nil)
		is(fmt.Sprintf("request %d of another route", i+1), res, body, "ada asks for /new/a: answer 3", kept, 3)
	}
}

// TestPlainFaultsAndBreaker: a failure on purpose strikes what is fetched, and is not
// kept; a service that fails by itself is left alone, and the caller is told for how long.
func TestPlainFaultsAndBreaker(t *testing.T) {
	g, p := plainGateway(t)
	token := g.Token(t, "ada", "")
	for _, tc := range []struct {
		path, fault string
		code        int
		calls       int64
	}{
		{"/kept/a", "abort", 503, 0},
		{"/kept/a", "", 200, 1},
		{"/kept/a", "abort", 200, 1}, // It is kept.
		{"/asked/a", "abort", 503, 1},
		{"/asked/a", "other", 200, 2},
	} {
		h := http.Header{}
		if tc.fault != "" {
			h.Set("X-Fault", tc.fault)
		}
		if res, body := do(t, g, token, exchange{method: http.MethodGet, path: tc.path, header: h}); res.StatusCode != tc.code || p.calls.Load() != tc.calls {
			t.Errorf("%s with %q: %d %s after %d calls, want %d after %d", tc.path, tc.fault, res.StatusCode, body, p.calls.Load(), tc.code, tc.calls)
		}
	}
	if n := metric(t, g, `sluice_faults_total{kind="abort",service="up"}`); n != 2 {
		t.Errorf("%v faults are counted", n)
	}
	p.broken.Store(true)
	for range 20 { // The two good ones are in the breaker's window.
		if res, _ := do(t, g, token, exchange{method: http.MethodGet, path: "/asked/a"}); res.StatusCode != http.StatusInternalServerError {
			break
		}
	}
	before := p.calls.Load()
	res, body := do(t, g, token, exchange{method: http.MethodGet, path: "/asked/a"})
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.Contains(body, "UPSTREAM_BREAKER_OPEN") || p.calls.Load() != before {
		t.Errorf("%d, Retry-After %q, %s", res.StatusCode, res.Header.Get("Retry-After"), body)
	}
	if res, _ := do(t, g, token, exchange{method: http.MethodGet, path: "/kept/a"}); res.StatusCode != http.StatusOK || res.Header.Get("Age") == "" {
		t.Errorf("what is kept is given all the same: %d", res.StatusCode)
	}
	if n := metric(t, g, `sluice_shed_total{class="read",priority="whole",reason="breaker",service="up",variant=""}`); n < 1 {
		t.Errorf("%v refusals are counted", n)
	}
}
