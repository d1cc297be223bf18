package proxy_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// hands is a clock that tests move.
type hands struct{ ahead atomic.Int64 }

func (h *hands) now() time.Time          { return time.Now().Add(time.Duration(h.ahead.Load())) }
func (h *hands) forward(d time.Duration) { h.ahead.Add(int64(d)) }

// keeping is an edge with a route that keeps answers, and what the service was asked.
type keeping struct {
	*edge
	url   string
	clock *hands
	cache *cache.Cache
	calls atomic.Int64
}

const maxEntry = 8 << 10

func keep(t *testing.T, rule *policyv1.Cache, h http.HandlerFunc, change func(*proxy.Route), of ...func(*proxy.Upstream)) *keeping {
	t.Helper()
	k := &keeping{clock: &hands{}}
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) { k.calls.Add(1); h(w, r) })
	var err error
	if k.cache, err = cache.New(cache.Options{MaxEntryBytes: maxEntry, Clock: k.clock.now}); err != nil {
		t.Fatal(err)
	}
	if rule.GetTtl() == nil {
		rule.Ttl = durationpb.New(time.Minute)
	}
	route := proxy.Route{Name: "kept", Match: proxy.Match{Template: "/u/{user_id}/**"}, Rule: policy.HTTPOptions{Cache: rule,
		Require: &policyv1.Require{Authenticated: true}, Retry: &policyv1.Retry{MaxAttempts: 1}}}
	if change != nil {
		change(&route)
	}
	upstreams := to(addr)
	for _, f := range of {
		up := upstreams["up"]
		f(&up)
		upstreams["up"] = up
	}
	k.edge, k.url = start(t, proxy.Options{Upstreams: upstreams, Cache: k.cache, Routes: []proxy.Route{route}, Entry: policy.Chain{{Name: "owner", Check: policy.RequireOwner}}})
	k.principal = policy.NewPrincipal("ada", "i", nil, time.Time{})
	return k
}

func private() *policyv1.Cache {
	return &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL}
}
func shared() *policyv1.Cache { return &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PUBLIC} }

// ask asks, and says how the cache answered.
func (k *keeping) ask(t *testing.T, method, path string, h http.Header) (*http.Response, string, string) {
	t.Helper()
	if h["Accept-Encoding"] == nil { // net/http would say gzip, except with HEAD.
		h = h.Clone()
		if h == nil {
			h = http.Header{}
		}
		h.Set("Accept-Encoding", "identity")
	}
	res, body := do(t, method, k.url+path, nil, h)
	return res, body, k.call.Load().Cache
}

// TestWhatIsKept is a table of answers and of who is given them again.
func TestWhatIsKept(t *testing.T) {
	set := func(pairs ...string) http.HandlerFunc {
		var n atomic.Int64
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				w.Header().Add(pairs[i], pairs[i+1])
			}
			_, _ = fmt.Fprintf(w, "answer %d", n.Add(1))
		}
	}
	answer := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, tc := range map[string]struct {
		rule  *policyv1.Cache
		h     http.HandlerFunc
		send  http.Header
		calls int // of three requests; 1 is that the first answer is given to all
	}{
		"a plain answer":                    {private(), set(), nil, 1},
		"for everybody":                     {shared(), set(), nil, 1},
		"a cookie is set":                   {private(), set("Set-Cookie", "session=1"), nil, 3},
		"no-store":                          {private(), set("Cache-Control", "no-store"), nil, 3},
		"no-cache":                          {private(), set("Cache-Control", `no-cache="x"`), nil, 3},
		"max-age is 0":                      {private(), set("Cache-Control", "max-age=0"), nil, 3},
		"max-age is no number":              {private(), set("Cache-Control", "max-age=x"), nil, 3},
		"too old already":                   {private(), set("Cache-Control", "max-age=10", "Age", "10"), nil, 3},
		"Expires is past":                   {private(), set("Expires", "0"), nil, 3},
		"private, for one":                  {private(), set("Cache-Control", "private, max-age=9"), nil, 1},
		"private, for all":                  {shared(), set("Cache-Control", "private, max-age=9"), nil, 4}, // The first asks again, by her own name.
		"Pragma":                            {private(), set("Pragma", "no-cache"), nil, 3},
		"varies by all":                     {private(), set("Vary", "*"), nil, 3},
		"varies by what no key has":         {private(), set("Vary", "Accept-Language"), nil, 3},
		"varies by what the key has":        {private(), set("Vary", "Accept-Encoding, Cookie"), nil, 1},
		"an event stream":                   {private(), set("Content-Type", "text/event-stream"), nil, 3},
		"a part":                            {private(), set("Content-Range", "bytes 0-1/2"), nil, 3},
		"parts asked for":                   {private(), set(), http.Header{"Range": {"bytes=0-1"}}, 3},
		"a cookie is sent":                  {private(), set(), http.Header{"Cookie": {"session=1"}}, 3},
		"a cookie is sent, and in the rule": {&policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Vary: []string{"cookie"}}, set(), http.Header{"Cookie": {"a=1"}}, 1},
		"not found":                         {private(), answer(404), nil, 3},
		"not found, for a while":            {&policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, NegativeTtl: durationpb.New(time.Second)}, answer(404), nil, 1},
		"forbidden":                         {&policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, NegativeTtl: durationpb.New(time.Second)}, answer(403), nil, 3},
		"a failure":                         {private(), answer(500), nil, 3},
		"a redirect":                        {private(), answer(302), nil, 3},
		"moved":                             {private(), answer(308), nil, 1},
		"too large": {private(), func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", maxEntry+1))
		}, nil, 3},
		"a bit larger": {private(), func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 10*maxEntry))
		}, nil, 3},
		"trailers": {private(), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-End")
			_, _ = io.WriteString(w, "x")
			w.Header().Set("X-End", "1")
		}, nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			k := keep(t, tc.rule, tc.h, nil)
			var first string
			var code int
			for i := range 3 {
				res, body, _ := k.ask(t, "GET", "/u/ada/x", tc.send)
				if i == 0 {
					first, code = body, res.StatusCode
				} else if res.StatusCode != code || tc.calls == 1 && body != first {
					t.Errorf("%d %.20q, at first %d %.20q", res.StatusCode, body, code, first)
				}
				if cc := res.Header.Get("Cache-Control"); tc.calls >= 3 && strings.Contains(cc, "max-age=60") {
					t.Errorf("what is not kept says %q", cc)
				}
			}
			if got := int(k.calls.Load()); got != tc.calls {
				t.Errorf("the service was asked %d times, want %d", got, tc.calls)
			}
		})
	}
}

// TestLargeAnswersStream: what is larger than an entry reaches its caller whole.
func TestLargeAnswersStream(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<16)
	k := keep(t, private(), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		_, _ = io.WriteString(w, body)
	}, nil)
	for _, path := range []string{"/u/ada/x", "/u/ada/x?length"} {
		for range 2 {
			if res, got, _ := k.ask(t, "GET", path, nil); res.StatusCode != 200 || got != body {
				t.Errorf("%s: %d, %d bytes", path, res.StatusCode, len(got))
			}
		}
		if res, got, _ := k.ask(t, "HEAD", path+"&head", nil); res.StatusCode != 200 || got != "" {
			t.Errorf("HEAD %s: %d %d", path, res.StatusCode, len(got))
		}
	}
}

// TestNeverAnothers: who asks, for what, under which name and how is in the key.
func TestNeverAnothers(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Host, r.URL, r.Header["X-Tenant"], r.Header.Get("X-Sluice-Assertion"), r.Header.Get("Accept-Encoding"))
	}
	for name, rule := range map[string]*policyv1.Cache{"principal": private(), "public": shared()} {
		t.Run(name, func(t *testing.T) {
			rule.Vary = []string{"x-tenant"}
			k := keep(t, rule, echo, nil)
			seen := map[string]bool{}
			for _, path := range []string{"/u/ada/x", "/u/ada/x?a=1", "/u/ada/x?a=2", "/u/ada/%78/y", "/u/grace/x"} {
				for _, h := range []http.Header{nil, {"X-Tenant": {"1"}}, {"X-Tenant": {"1", "2"}}, {"X-Tenant": {"12"}}, {"Accept-Encoding": {"gzip;q=1, br;q=0.000"}}} {
					_, body, s := k.ask(t, "GET", path, h)
					if s != "miss" || seen[body] {
						t.Errorf("%s %v: %s %s", path, h, s, body)
					}
					seen[body] = true
				}
			}
			k.principal = policy.NewPrincipal("grace", "i", nil, time.Time{})
			want := map[string]string{"principal": "miss", "public": "hit"}[name]
			if _, body, s := k.ask(t, "GET", "/u/ada/x", nil); s != want {
				t.Errorf("another's: %s %s", s, body)
			}
		})
	}
}

// TestOwnerComesFirst: what is kept is given to nobody who may not ask for it.
func TestOwnerComesFirst(t *testing.T) {
	k := keep(t, shared(), func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ada's") }, func(r *proxy.Route) {
		r.Rule.Require = &policyv1.Require{Authenticated: true, Owner: "user_id"}
	})
	k.ask(t, "GET", "/u/ada/x", nil)
	k.principal = policy.NewPrincipal("grace", "i", nil, time.Time{})
	if res, body, _ := k.ask(t, "GET", "/u/ada/x", nil); res.StatusCode != 403 || body != "" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if k.calls.Load() != 1 {
		t.Error("the service was asked")
	}
}

// TestUnkeyedHeadersShapeNothing: of an answer for everybody, a service gets no header
// that the key does not hold.
func TestUnkeyedHeadersShapeNothing(t *testing.T) {
	k := keep(t, shared(), func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header["X-Evil"], r.Header["User-Agent"], r.Header["X-Set"], r.Header["Origin"], r.Header["X-Forwarded-Host"])
	}, func(r *proxy.Route) {
		r.RequestHeaders = headers.Rules{Set: map[string]string{"X-Set": "by-rule"}}
	})
	_, body, _ := k.ask(t, "GET", "/u/ada/x", http.Header{"X-Evil": {"<script>"}, "User-Agent": {"evil"}, "Origin": {"https://evil.example"}, "X-Forwarded-Host": {"evil"}})
	if want := "[] [] [by-rule] [] [" + strings.TrimPrefix(k.url, "http://") + "]"; body != want {
		t.Errorf("%s, want %s", body, want)
	}
}

func TestConditionalAndAge(t *testing.T) {
	k := keep(t, &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, StaleWhileRevalidate: durationpb.New(5 * time.Second)}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("own") {
			w.Header().Set("Etag", `"v1"`)
			w.Header().Set("Last-Modified", "Fri, 09 Jan 2026 09:00:00 GMT")
			w.Header().Set("Cache-Control", "max-age=30, must-revalidate")
			w.Header().Set("Age", "10")
		}
		w.Header().Set("X-App", "1")
		_, _ = io.WriteString(w, "hello")
	}, func(r *proxy.Route) {
		r.ResponseHeaders = headers.Rules{Set: map[string]string{"X-For": "{principal.subject}"}}
	})
	res, _, _ := k.ask(t, "GET", "/u/ada/x", nil)
	tag := res.Header.Get("Etag")
	if !strings.HasPrefix(tag, `W/"`) || res.Header.Get("Age") != "" || res.Header.Get("Cache-Control") != "private, max-age=60, stale-while-revalidate=5" ||
		res.Header.Get("Vary") != "Authorization" {
		t.Errorf("%v", res.Header)
	}
	k.clock.forward(7 * time.Second)
	for _, tc := range []struct {
		method, path string
		h            http.Header
		code         int
		age, body    string
	}{
		{"GET", "/u/ada/x", nil, 200, "7", "hello"},
		{"HEAD", "/u/ada/x", nil, 200, "7", ""},
		{"GET", "/u/ada/x", http.Header{"If-None-Match": {tag}}, 304, "7", ""},
		{"GET", "/u/ada/x", http.Header{"If-None-Match": {`"other"`}, "If-Modified-Since": {"Fri, 09 Jan 2027 09:00:00 GMT"}}, 200, "7", "hello"},
		{"GET", "/u/ada/x?own", nil, 200, "10", "hello"},
		{"GET", "/u/ada/x?own", http.Header{"If-None-Match": {`W/"v1"`}}, 304, "10", ""},
		{"GET", "/u/ada/x?own", http.Header{"If-Modified-Since": {"Fri, 09 Jan 2026 09:00:00 GMT"}}, 304, "10", ""},
		{"GET", "/u/ada/x?own", http.Header{"If-Modified-Since": {"Fri, 09 Jan 2026 08:59:59 GMT"}}, 200, "10", "hello"},
	} {
		res, body, s := k.ask(t, tc.method, tc.path, tc.h)
		if res.StatusCode != tc.code || body != tc.body || res.Header.Get("Age") != tc.age || res.Header.Get("X-For") != "ada" {
			t.Errorf("%s %s %v: %d %q %s %v", tc.method, tc.path, tc.h, res.StatusCode, body, s, res.Header)
		}
		if tc.code == 200 && res.Header.Get("Content-Length") != "5" || tc.code == 304 && res.Header.Get("Content-Type") != "" {
			t.Errorf("%s %s %v: %v", tc.method, tc.path, tc.h, res.Header)
		}
	}
	if res, _, _ := k.ask(t, "GET", "/u/ada/x?own", nil); res.Header.Get("Cache-Control") != "private, max-age=30, must-revalidate" || res.Header.Get("Etag") != `"v1"` {
		t.Errorf("%v", res.Header)
	}
	k.clock.forward(20 * time.Second)
	if _, _, s := k.ask(t, "GET", "/u/ada/x?own", nil); s != "miss" {
		t.Errorf("what must be asked for again was given stale: %s", s)
	}
}

// TestMissesCoalesce: of many who ask at once, one asks the service.
func TestMissesCoalesce(t *testing.T) {
	const callers = 50
	for name, tc := range map[string]struct {
		head  func(http.Header)
		calls int64
	}{
		"shared": {func(http.Header) {}, 1},
		// What is one caller's own nobody else gets.
		"a session": {func(h http.Header) { h.Set("Set-Cookie", "s=1") }, callers},
	} {
		t.Run(name, func(t *testing.T) {
			begun, let := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var n atomic.Int64
			k := keep(t, private(), func(w http.ResponseWriter, r *http.Request) {
				once.Do(func() { close(begun) })
				select {
				case <-let:
				case <-r.Context().Done():
				}
				tc.head(w.Header())
				_, _ = fmt.Fprint(w, n.Add(1))
			}, nil)
			var all sync.WaitGroup
			bodies := make(chan string, callers)
			for range callers {
				all.Go(func() {
					res, err := http.Get(k.url + "/u/ada/x") //nolint:noctx // It ends with the test.
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = res.Body.Close() }()
					b, _ := io.ReadAll(res.Body)
					bodies <- string(b)
				})
			}
			<-begun
			for k.cache.Stats().Fetches == 0 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(50 * time.Millisecond) // For most of them to wait; whoever is late finds the same.
			close(let)
			all.Wait()
			close(bodies)
			seen := map[string]bool{}
			for b := range bodies {
				seen[b] = true
			}
			if k.calls.Load() != tc.calls || int64(len(seen)) != tc.calls {
				t.Errorf("%d calls, %d different answers", k.calls.Load(), len(seen))
			}
		})
	}
}

// TestStale: an old answer while another is fetched, and when there is none to be had.
func TestStale(t *testing.T) {
	var fails atomic.Int64
	var n atomic.Int64
	k := keep(t, &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, StaleWhileRevalidate: durationpb.New(10 * time.Second),
		StaleIfError: durationpb.New(time.Hour)}, func(w http.ResponseWriter, _ *http.Request) {
		if code := fails.Load(); code != 0 {
			w.WriteHeader(int(code))
			_, _ = io.WriteString(w, "its own words")
			return
		}
		_, _ = fmt.Fprint(w, n.Add(1))
	}, nil)
	step := func(code int, want, status string) {
		t.Helper()
		if res, body, s := k.ask(t, "GET", "/u/ada/x", nil); res.StatusCode != code || body != want || s != status {
			t.Errorf("%d %q %s, want %d %q %s", res.StatusCode, body, s, code, want, status)
		}
	}
	step(200, "1", "miss")
	k.clock.forward(65 * time.Second)
	step(200, "1", "revalidate")
	for range 1000 {
		if k.calls.Load() == 2 && k.cache.Stats().Fetches == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	step(200, "2", "hit")
	k.clock.forward(10 * time.Minute)
	for _, code := range []int64{500, 502, 503, 504} {
		fails.Store(code)
		step(200, "2", "stale")
	}
	fails.Store(403) // It has answered: what it said before is not true any more.
	step(403, "its own words", "miss")
	fails.Store(500)
	step(500, "its own words", "miss")
}

// TestBrokenBodyIsNotKept: a body that ends before its time.
func TestBrokenBodyIsNotKept(t *testing.T) {
	k := keep(t, private(), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, nil)
	for i := range 2 {
		if res, body, s := k.ask(t, "GET", "/u/ada/x", nil); res.StatusCode != 503 || body != "" || s != "miss" {
			t.Errorf("%d: %d %q %s", i, res.StatusCode, body, s)
		}
	}
}

// TestCallerLeaves: the one who asked first goes away; who waits gets the answer.
func TestCallerLeaves(t *testing.T) {
	begun, let := make(chan struct{}), make(chan struct{})
	k := keep(t, private(), func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		select {
		case <-let:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "hello")
	}, nil)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, k.url+"/u/ada/x", nil)
		if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-begun
	got := make(chan string)
	go func() {
		res, err := http.Get(k.url + "/u/ada/x") //nolint:noctx // It ends with the test.
		if err != nil {
			got <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		got <- string(b)
	}()
	time.Sleep(50 * time.Millisecond) // If the second came later it would ask by itself, and close begun again.
	leave()
	<-gone
	close(let)
	if body := <-got; body != "hello" {
		t.Errorf("%q", body)
	}
}

// TestWritesInvalidate: a write through the route removes what its path names, and
// nothing else.
func TestWritesInvalidate(t *testing.T) {
	rule := private()
	rule.Tags = []string{"things/{user_id}"}
	var code atomic.Int64
	k := keep(t, rule, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(int(code.Load()))
		}
	}, nil)
	for _, tc := range []struct {
		path, method string
		code         int64
		want         string
	}{
		{"/u/ada/x", "POST", 400, "hit"}, {"/u/grace/y", "POST", 201, "hit"}, {"/u/ada/y", "POST", 201, "miss"},
		{"/u/ada/y", "POST", 500, "miss"}, {"/u/ada/y", "OPTIONS", 200, "hit"},
	} {
		k.ask(t, "GET", "/u/ada/x", nil)
		code.Store(tc.code)
		k.ask(t, tc.method, tc.path, nil)
		if _, _, s := k.ask(t, "GET", "/u/ada/x", nil); s != tc.want {
			t.Errorf("%s %s with %d: %s, want %s", tc.method, tc.path, tc.code, s, tc.want)
		}
	}
	k.cache.Invalidate("things/ada")
	if _, _, s := k.ask(t, "GET", "/u/ada/x", nil); s != "miss" {
		t.Error(s)
	}
}

// TestCodingsAreKeptApart: packed answers go only to who takes them.
func TestCodingsAreKeptApart(t *testing.T) {
	k := keep(t, private(), func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			_, _ = io.WriteString(w, "plain")
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "plain")
		_ = z.Close()
	}, nil)
	for _, tc := range []struct{ accept, coding, s string }{
		{"gzip", "gzip", "miss"}, {"deflate, GZIP;q=0.5", "gzip", "hit"}, {"identity", "", "miss"}, {"gzip;q=0", "", "hit"},
	} {
		res, body, s := k.ask(t, "GET", "/u/ada/x", http.Header{"Accept-Encoding": {tc.accept}})
		if res.Header.Get("Content-Encoding") != tc.coding || s != tc.s || tc.coding == "" && body != "plain" ||
			tc.coding != "" && !strings.Contains(res.Header.Get("Vary"), "Accept-Encoding") {
			t.Errorf("%q: %v %q %s", tc.accept, res.Header, body, s)
		}
	}
}

// TestKeptJSONIsChangedOnce: rules of JSON answers hold for what is kept, too.
func TestKeptJSONIsChangedOnce(t *testing.T) {
	k := keep(t, private(), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", `"1"`)
		_, _ = io.WriteString(w, `{"secret":1,"a":2}`)
	}, func(r *proxy.Route) {
		r.ResponseJSON = proxy.JSONRules{Remove: []string{"secret"}, Rename: map[string]string{"a": "b"}}
	})
	for range 2 {
		if res, body, _ := k.ask(t, "GET", "/u/ada/x", nil); body != `{"b":2}` || res.Header.Get("Etag") != `W/"1"` || res.ContentLength != 7 {
			t.Errorf("%s %v", body, res.Header)
		}
	}
	if k.calls.Load() != 1 {
		t.Error(k.calls.Load())
	}
}

// TestCacheRulesAreChecked: what can never work is told at start.
func TestCacheRulesAreChecked(t *testing.T) {
	for want, rule := range map[string]*policyv1.Cache{
		"scope is missing":        {Ttl: durationpb.New(time.Second)},
		"no variable of the path": {Scope: 1, Ttl: durationpb.New(time.Second), Tags: []string{"x/{order_id}"}},
		"cache.vary":              {Scope: 1, Ttl: durationpb.New(time.Second), Vary: []string{"authorization"}},
		"no header":               {Scope: 1, Ttl: durationpb.New(time.Second), Vary: []string{"a b"}},
	} {
		_, err := proxy.New(proxy.Options{Signer: signer{}, Upstreams: to("127.0.0.1:1"), Routes: []proxy.Route{
			{Name: "a", Upstream: "up", Match: proxy.Match{Template: "/{user_id}"}, Rule: policy.HTTPOptions{Require: public, Cache: rule}}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
