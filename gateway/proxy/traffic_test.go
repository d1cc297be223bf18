package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// once is a rule without a second attempt: nothing hides a failure.
var once = policy.HTTPOptions{Retry: &policyv1.Retry{MaxAttempts: 1}}

// eventually asks until it is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for range 2000 {
		if so() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// TestHealthCheck: a backend whose health check fails gets no requests, before it fails
// one, and gets them again when it passes.
func TestHealthCheck(t *testing.T) {
	var sick, broken atomic.Bool
	var host atomic.Value
	one := backend(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/ready":
			host.Store(r.Host + " " + r.UserAgent())
			if sick.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
		case broken.Load():
			w.WriteHeader(http.StatusInternalServerError)
		default:
			_, _ = io.WriteString(w, "one")
		}
	})
	two := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" {
			_, _ = io.WriteString(w, "two")
		}
	})
	u := to(one, two)
	up := u["up"]
	up.Health = &proxy.HealthCheck{Path: "/ready", Interval: 10 * time.Millisecond, UnhealthyAfter: 2, HealthyAfter: 2}
	up.Outlier = resilience.OutlierOptions{Off: true} // The health check alone decides.
	up.Host = "up.example"
	u["up"] = up
	_, url := start(t, proxy.Options{Upstreams: u, Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: once}}})
	// ones are the requests of twenty that the first backend has answered.
	ones := func() (n int) {
		t.Helper()
		for range 20 {
			res, body := get(t, url+"/", nil)
			if res.StatusCode != http.StatusOK {
				t.Fatalf("a request failed: %d", res.StatusCode)
			}
			n += strings.Count(body, "one")
		}
		return n
	}
	if ones() == 0 {
		t.Error("one that was not asked yet gets no requests")
	}
	sick.Store(true)
	eventually(t, "it is taken out", func() bool { return ones() == 0 })
	broken.Store(true)
	for range 5 {
		if n := ones(); n != 0 {
			t.Fatalf("%d requests went to a backend that is out", n)
		}
	}
	broken.Store(false)
	sick.Store(false)
	eventually(t, "it is used again", func() bool { return ones() > 0 })
	if got := host.Load(); got != "up.example sluice-health" {
		t.Errorf("asked as %v: a service of several hosts would not know itself", got)
	}
}

// shadowed is an upstream with a shadow that gets all copies. Its closing waits for them.
func shadowed(t *testing.T, o proxy.Options, up proxy.Upstream) (_ *edge, url string, wait func()) {
	t.Helper()
	svc, err := proxy.Open("up", up, proxy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o.Upstreams = map[string]proxy.Upstream{"up": up}
	o.Open = func(string, proxy.Upstream) (*proxy.Service, error) { return svc, nil }
	e, url := start(t, o)
	return e, url, func() {
		if err := svc.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestShadowCopies is a table of the requests that are copied.
func TestShadowCopies(t *testing.T) {
	for name, tc := range map[string]struct {
		method, body string
		idempotent   bool
		copies       int64
	}{
		"GET":                   {"GET", "", false, 1},
		"HEAD":                  {"HEAD", "", false, 1},
		"OPTIONS":               {"OPTIONS", "", false, 1},
		"GET with a body":       {"GET", "x", false, 0},
		"POST":                  {"POST", "", false, 0},
		"DELETE":                {"DELETE", "", false, 0},
		"PUT with a body":       {"PUT", "x", true, 0},
		"DELETE, by the rule":   {"DELETE", "", true, 1},
		"a method of our own":   {"PURGE", "", false, 0},
		"PATCH without a body ": {"PATCH", "", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var calls, copies atomic.Int64
			addr := backend(t, func(_ http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if r.Header.Get("X-Sluice-Shadow") != "" {
					t.Error("what is no copy is marked as one")
				}
			})
			other := backend(t, func(_ http.ResponseWriter, r *http.Request) {
				copies.Add(1)
				if r.Method != tc.method || r.URL.Path != "/new/a" || r.Header.Get("X-Sluice-Shadow") != "1" || r.Header.Get("X-Sluice-Assertion") == "" {
					t.Errorf("the copy is %s %s %v", r.Method, r.URL, r.Header)
				}
			})
			up := to(addr)["up"]
			up.Shadow = &proxy.Shadow{Percent: 100, Target: proxy.Target{Target: other}}
			rule := once
			rule.Idempotent = tc.idempotent
			_, url, wait := shadowed(t, proxy.Options{Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/old"}, Rewrite: proxy.Rewrite{Prefix: "/new"}, Rule: rule}}}, up)
			if res, _ := do(t, tc.method, url+"/old/a", strings.NewReader(tc.body), http.Header{"X-Sluice-Shadow": {"1"}}); res.StatusCode != http.StatusOK {
				t.Errorf("%d", res.StatusCode)
			}
			wait()
			if calls.Load() != 1 || copies.Load() != tc.copies {
				t.Errorf("%d requests and %d copies, want 1 and %d", calls.Load(), copies.Load(), tc.copies)
			}
		})
	}
}

// TestShadowIsNeverSeen: whatever happens to copies, the caller gets the service's answer.
func TestShadowIsNeverSeen(t *testing.T) {
	for name, other := range map[string]func(t *testing.T) string{
		"it fails": func(t *testing.T) string {
			t.Helper()
			return backend(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Set-Cookie", "shadow=1")
				w.WriteHeader(http.StatusInternalServerError)
			})
		},
		"it hints": func(t *testing.T) string {
			t.Helper()
			return backend(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Set-Cookie", "shadow=1")
				w.WriteHeader(http.StatusEarlyHints)
			})
		},
		"it hangs up":   func(t *testing.T) string { t.Helper(); return raw(t, "") },
		"it is no HTTP": func(t *testing.T) string { t.Helper(); return raw(t, "SSH-2.0-OpenSSH\r\n\r\n") },
		"nobody there":  func(*testing.T) string { return "127.0.0.1:1" },
	} {
		t.Run(name, func(t *testing.T) {
			addr := backend(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-App", "1")
				_, _ = io.WriteString(w, "the service's")
			})
			up := to(addr)["up"]
			up.Shadow = &proxy.Shadow{Percent: 100, Target: proxy.Target{Target: other(t)}}
			e, url, wait := shadowed(t, proxy.Options{Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: once}}}, up)
			for range 20 {
				res, body := get(t, url+"/", nil)
				call := e.call.Load()
				if res.StatusCode != http.StatusOK || body != "the service's" || res.Header.Get("X-App") != "1" || res.Header.Get("Set-Cookie") != "" ||
					call.Attempts != 1 || call.Variant != "" || call.Backend != addr {
					t.Fatalf("%d %q %v, %d attempts at %q", res.StatusCode, body, res.Header, call.Attempts, call.Backend)
				}
			}
			wait()
		})
	}
}

// TestShadowIsBounded: a shadow that hangs holds so many copies and no request, and gets
// copies again when it goes on.
func TestShadowIsBounded(t *testing.T) {
	var copies atomic.Int64
	goOn := make(chan struct{})
	other := backend(t, func(http.ResponseWriter, *http.Request) { copies.Add(1); <-goOn })
	addr := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	up := to(addr)["up"]
	up.Shadow = &proxy.Shadow{Percent: 100, MaxInFlight: 2, Target: proxy.Target{Target: other}}
	rule := once
	rule.Deadline = time.Minute
	_, url, wait := shadowed(t, proxy.Options{Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: rule}}}, up)
	for range 20 {
		if res, body := get(t, url+"/", nil); res.StatusCode != http.StatusOK || body != "ok" {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	eventually(t, "two copies", func() bool { return copies.Load() >= 2 })
	for range 20 {
		get(t, url+"/", nil)
	}
	if n := copies.Load(); n != 2 {
		t.Errorf("%d copies on their way at once", n)
	}
	close(goOn)
	eventually(t, "a third copy", func() bool {
		if n := copies.Load(); n > 2 {
			return true
		}
		get(t, url+"/", nil)
		return false
	})
	wait()
}

// reasonOf is what the error of the last request says: why, and when to ask again.
func (e *edge) reasonOf() (reason string, after time.Duration) {
	for _, d := range e.failed.Load().Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.RetryInfo:
			after = d.GetRetryDelay().AsDuration()
		}
	}
	return reason, after
}

func service(t *testing.T, o resilience.Options) *resilience.Service {
	t.Helper()
	o.Name = "up"
	s, err := resilience.NewService(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestBreakerOpens: a route whose service fails is left alone for a while, says so, and
// is tried again.
func TestBreakerOpens(t *testing.T) {
	var calls atomic.Int64
	var broken atomic.Bool
	addr := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1); broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	clock := &hands{}
	u := to(addr)
	up := u["up"]
	up.Service = service(t, resilience.Options{Clock: clock.now, Breaker: resilience.BreakerOptions{Window: time.Hour, MinRequests: 5, OpenFor: time.Minute, Successes: 1},
		Concurrency: resilience.ConcurrencyOptions{Off: true}})
	u["up"] = up
	// Retried, were it not refused: a breaker that is open must not be asked twice.
	rule := policy.HTTPOptions{Limit: &policyv1.Limit{Class: "read"}, Retry: &policyv1.Retry{MaxAttempts: 3}}
	e, url := start(t, proxy.Options{Upstreams: u, Routes: []proxy.Route{
		{Name: "mine", Match: proxy.Match{Prefix: "/a"}, Rule: rule}, {Name: "others", Match: proxy.Match{Prefix: "/b"}, Rule: once}}})
	broken.Store(true)
	for range 5 {
		if res, _ := get(t, url+"/a", nil); res.StatusCode != http.StatusInternalServerError {
			t.Fatalf("the service's own answer must pass: %d", res.StatusCode)
		}
	}
	broken.Store(false)
	for range 3 {
		before := calls.Load()
		res, _ := get(t, url+"/a", nil)
		reason, after := e.reasonOf()
		call := e.call.Load()
		if res.StatusCode != http.StatusServiceUnavailable || e.failed.Load().Code() != codes.Unavailable || reason != "UPSTREAM_BREAKER_OPEN" ||
			after < time.Second || after > time.Minute || call.Breaker != resilience.ReasonBreaker || call.Attempts != 0 || calls.Load() != before {
			t.Errorf("%d %s, again in %v, breaker %q, %d attempts, %d calls", res.StatusCode, reason, after, call.Breaker, call.Attempts, calls.Load()-before)
		}
	}
	if res, _ := get(t, url+"/b", nil); res.StatusCode != http.StatusOK {
		t.Errorf("the breaker of one class is another's: %d", res.StatusCode)
	}
	clock.forward(time.Minute + time.Second)
	for range 3 {
		if res, _ := get(t, url+"/a", nil); res.StatusCode != http.StatusOK || e.call.Load().Breaker != "" {
			t.Errorf("%d, refused by %q", res.StatusCode, e.call.Load().Breaker)
		}
	}
}

// TestConcurrencySheds: what is more than a service can take is refused at once.
func TestConcurrencySheds(t *testing.T) {
	in, goOn := make(chan struct{}), make(chan struct{})
	addr := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(in)
			<-goOn
		}
	})
	u := to(addr)
	up := u["up"]
	up.Service = service(t, resilience.Options{Breaker: resilience.BreakerOptions{Off: true}, Concurrency: resilience.ConcurrencyOptions{Min: 1, Max: 1, Initial: 1}})
	u["up"] = up
	e, url := start(t, proxy.Options{Upstreams: u, Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: policy.HTTPOptions{Deadline: time.Minute}}}})
	done := make(chan int, 1)
	go func() {
		res, _ := get(t, url+"/slow", nil)
		done <- res.StatusCode
	}()
	<-in
	for range 3 {
		res, _ := get(t, url+"/fast", nil)
		reason, after := e.reasonOf()
		if call := e.call.Load(); res.StatusCode != http.StatusServiceUnavailable || reason != "UPSTREAM_OVERLOADED" || after < time.Second ||
			call.Breaker != resilience.ReasonConcurrency || call.Attempts != 0 {
			t.Errorf("%d %s, again in %v, refused by %q, %d attempts", res.StatusCode, reason, after, call.Breaker, call.Attempts)
		}
	}
	close(goOn)
	if code := <-done; code != http.StatusOK {
		t.Errorf("the one in flight: %d", code)
	}
	if res, _ := get(t, url+"/fast", nil); res.StatusCode != http.StatusOK || e.call.Load().Breaker != "" {
		t.Errorf("with room again: %d, refused by %q", res.StatusCode, e.call.Load().Breaker)
	}
}

// TestTrailersPass: those that were announced, but for what only the gateway says.
func TestTrailersPass(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-Sluice-Assertion")
		w.Header().Add("Trailer", "X-Count")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "abc")
		w.Header().Set("X-Count", "4")
		w.Header().Set("X-Sluice-Assertion", "forged")
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "1")
	})
	_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
	res, body := get(t, url+"/", nil)
	if want := map[string][]string{"X-Sum": {"abc"}, "X-Count": {"4"}}; body != "body" || fmt.Sprint(map[string][]string(res.Trailer)) != fmt.Sprint(want) {
		t.Errorf("%q with trailers %v, want %v", body, res.Trailer, want)
	}
}

// TestAnswersAreBounded: what docs/limits.md says of answers, on both sides of each bound.
func TestAnswersAreBounded(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/header" {
			w.Header().Set("X-Big", strings.Repeat("x", n))
			n = len(`{"a":""}`)
		}
		_, _ = fmt.Fprintf(w, `{"a":"%s"}`, strings.Repeat("x", n-len(`{"a":""}`)))
	})
	_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{
		{Name: "changed", Match: proxy.Match{Prefix: "/changed"}, ResponseJSON: proxy.JSONRules{Remove: []string{"b"}}},
		{Name: "others", Match: proxy.Match{Prefix: "/"}},
	}})
	for _, tc := range []struct {
		path    string
		n, code int
	}{
		{"/header", 63 << 10, 200}, {"/header", 65 << 10, 502},
		{"/changed", 16 << 20, 200}, {"/changed", 16<<20 + 1, 502}, {"/unchanged", 16<<20 + 1, 200},
	} {
		res, body := get(t, fmt.Sprintf("%s%s?n=%d", url, tc.path, tc.n), nil)
		if res.StatusCode != tc.code || tc.code == 200 && tc.path != "/header" && len(body) != tc.n {
			t.Errorf("%s of %d bytes: %d with %d bytes, want %d", tc.path, tc.n, res.StatusCode, len(body), tc.code)
		}
	}
}
