package proxy_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// TestWritesRemoveTheirTarget is RFC 9111, 4.4 as a table: which requests remove what is
// kept for GET of a path. The rule has no tags. Reads go through a route of their own, so
// the route of a write need not be the one that keeps.
func TestWritesRemoveTheirTarget(t *testing.T) {
	const path = "/u/ada/x"
	for name, tc := range map[string]struct {
		method, path string
		code         int
		h            http.Header // of the answer; HOST is the gateway's
		want         string
	}{
		"POST":                           {"POST", path, 200, nil, "miss"},
		"PUT":                            {"PUT", path, 204, nil, "miss"},
		"PATCH":                          {"PATCH", path, 200, nil, "miss"},
		"DELETE":                         {"DELETE", path, 204, nil, "miss"},
		"a method that nobody knows":     {"FROB", path, 200, nil, "miss"},
		"a redirect":                     {"POST", path, 303, nil, "miss"},
		"a failure that may have worked": {"PUT", path, 502, nil, "miss"},
		"another spelling of the path":   {"PUT", "/u/%61da/%78", 200, nil, "miss"},
		"with a query":                   {"PUT", path + "?dry=1", 200, nil, "miss"},
		"a refusal":                      {"PUT", path, 409, nil, "hit"},
		"OPTIONS":                        {"OPTIONS", path, 200, nil, "hit"},
		"HEAD":                           {"HEAD", path, 200, nil, "hit"},
		"another path":                   {"PUT", "/u/ada/y", 200, nil, "hit"},
		"a path above":                   {"PUT", "/u/ada", 200, nil, "hit"},

		"its Location":                    {"POST", "/u/ada", 201, http.Header{"Location": {path}}, "miss"},
		"its Location, beside it":         {"POST", "/u/ada/y", 201, http.Header{"Location": {"x"}}, "miss"},
		"its Location, in full":           {"POST", "/u/ada/y", 201, http.Header{"Location": {"http://HOST" + path}}, "miss"},
		"its Content-Location":            {"POST", "/u/ada/y", 200, http.Header{"Content-Location": {"/u/ada/%78?v=2"}}, "miss"},
		"a Location of another host":      {"POST", "/u/ada/y", 201, http.Header{"Location": {"http://other.example" + path}}, "hit"},
		"a Location of another scheme":    {"POST", "/u/ada/y", 201, http.Header{"Location": {"https://HOST" + path}}, "hit"},
		"a Location of another port":      {"POST", "/u/ada/y", 201, http.Header{"Location": {"http://127.0.0.1:1" + path}}, "hit"},
		"a Location that is none":         {"POST", "/u/ada/y", 201, http.Header{"Location": {"http://[::"}}, "hit"},
		"the Location of a refusal":       {"POST", "/u/ada/y", 404, http.Header{"Location": {path}}, "hit"},
		"the Content-Location of a HEAD":  {"HEAD", "/u/ada/y", 200, http.Header{"Content-Location": {path}}, "hit"},
		"Location and its own, all three": {"PUT", path, 201, http.Header{"Location": {"/u/ada/z"}, "Content-Location": {"/u/ada/y"}}, "miss"},
	} {
		t.Run(name, func(t *testing.T) {
			var k *keeping
			addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					return
				}
				for name, values := range tc.h {
					w.Header().Set(name, strings.ReplaceAll(values[0], "HOST", strings.TrimPrefix(k.url, "http://")))
				}
				w.WriteHeader(tc.code)
			})
			k = &keeping{clock: &hands{}}
			var err error
			if k.cache, err = cache.New(cache.Options{}); err != nil {
				t.Fatal(err)
			}
			rule := private()
			rule.Ttl = durationpb.New(time.Minute)
			k.edge, k.url = start(t, proxy.Options{Upstreams: to(addr), Cache: k.cache, Routes: []proxy.Route{
				{Name: "reads", Match: proxy.Match{Prefix: "/u", Methods: []string{"GET"}}, Rule: policy.HTTPOptions{Cache: rule, Require: &policyv1.Require{Authenticated: true}}},
				{Name: "writes", Match: proxy.Match{Prefix: "/u"}, Rule: policy.HTTPOptions{Require: &policyv1.Require{Authenticated: true}}},
			}})
			for _, who := range []string{"ada", "grace"} { // It is removed for every principal.
				k.principal = policy.NewPrincipal(who, "i", nil, time.Time{})
				k.ask(t, "GET", path, nil)
				k.ask(t, "GET", path+"?page=2", nil)
			}
			k.principal = policy.NewPrincipal("linus", "i", nil, time.Time{})
			if res, _, _ := k.ask(t, tc.method, tc.path, nil); tc.method != "HEAD" && res.StatusCode != tc.code {
				t.Fatalf("the write: %d", res.StatusCode)
			}
			for _, who := range []string{"ada", "grace"} {
				k.principal = policy.NewPrincipal(who, "i", nil, time.Time{})
				for _, query := range []string{"", "?page=2"} {
					if _, _, s := k.ask(t, "GET", path+query, nil); s != tc.want {
						t.Errorf("%s of %s%s: %s, want %s", who, path, query, s, tc.want)
					}
				}
			}
		})
	}
}

// TestWriteDuringFetch: what was on its way when a write came is given to who waits for
// it, and kept for nobody.
func TestWriteDuringFetch(t *testing.T) {
	begun, let := make(chan struct{}), make(chan struct{})
	var n atomic.Int64
	k := keep(t, private(), func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && n.Add(1) == 1 {
			close(begun)
			<-let
		}
	}, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(t, "GET", k.url+"/u/ada/x", nil, http.Header{"Accept-Encoding": {"identity"}})
	}()
	<-begun
	do(t, "PUT", k.url+"/u/ada/x", nil, nil)
	close(let)
	<-done
	if _, _, s := k.ask(t, "GET", "/u/ada/x", nil); s != "miss" {
		t.Errorf("what was read before the write is kept: %s", s)
	}
}

// TestConditionsOfWrites: conditions of a write are the service's to judge (RFC 9110, 13),
// and so are those of reads that no kept answer can be compared with.
func TestConditionsOfWrites(t *testing.T) {
	conditions := http.Header{"If-Match": {`"v1"`}, "If-None-Match": {"*"}, "If-Unmodified-Since": {"Mon, 02 Mar 2026 12:00:00 GMT"}, "If-Modified-Since": {"Mon, 02 Mar 2026 12:00:00 GMT"}, "If-Range": {`"v1"`}}
	for _, rule := range []*policyv1.Cache{private(), shared()} {
		var got atomic.Value
		k := keep(t, rule, func(w http.ResponseWriter, r *http.Request) {
			got.Store(r.Header.Clone())
			if r.Method != http.MethodGet || r.Header["If-Match"] != nil {
				w.WriteHeader(http.StatusPreconditionFailed)
				return
			}
			w.Header().Set("Etag", `"v2"`)
			_, _ = io.WriteString(w, "v2")
		}, nil)
		k.ask(t, "GET", "/u/ada/x", nil)
		for name, values := range conditions {
			for _, method := range []string{"PUT", "POST", "PATCH", "DELETE"} {
				res, _, _ := k.ask(t, method, "/u/ada/x", http.Header{name: values})
				if h, ok := got.Load().(http.Header); !ok || h.Get(name) != values[0] || res.StatusCode != http.StatusPreconditionFailed {
					t.Errorf("%s with %s: %d, the service has %v", method, name, res.StatusCode, h)
				}
			}
		}
		if _, body, s := k.ask(t, "GET", "/u/ada/x", nil); body != "v2" || s != "hit" {
			t.Errorf("a write that failed its condition has removed something: %q %s", body, s)
		}
		for _, name := range []string{"If-Match", "If-Unmodified-Since"} {
			if _, _, s := k.ask(t, "GET", "/u/ada/x", http.Header{name: conditions[name]}); s != "bypass" {
				t.Errorf("GET with %s: %s", name, s)
			}
		}
		// If-Range without Range means nothing (13.1.5), and a part is the service's.
		if res, body, s := k.ask(t, "GET", "/u/ada/x", http.Header{"If-Range": {`"v1"`}}); res.StatusCode != 200 || body != "v2" || s != "hit" {
			t.Errorf("If-Range alone: %d %q %s", res.StatusCode, body, s)
		}
		if _, _, s := k.ask(t, "GET", "/u/ada/x", http.Header{"If-Range": {`"v2"`}, "Range": {"bytes=0-0"}}); s != "bypass" {
			t.Errorf("a part: %s", s)
		}
	}
}

// TestDirectivesOfCallers: what requests say of caches is ignored (RFC 9111, 5.2.1 leaves
// it to us): a caller who could have the service asked each time could take its time away.
func TestDirectivesOfCallers(t *testing.T) {
	var got atomic.Value
	k := keep(t, private(), func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Clone()) }, nil)
	for i, h := range []http.Header{
		{"Cache-Control": {"no-cache"}}, {"Cache-Control": {"no-store"}}, {"Cache-Control": {"max-age=0"}}, {"Cache-Control": {"min-fresh=999999"}},
		{"Cache-Control": {"max-stale"}}, {"Cache-Control": {"only-if-cached"}}, {"Cache-Control": {"no-transform"}}, {"Pragma": {"no-cache"}},
	} {
		want := "hit"
		if i == 0 {
			want = "miss"
		}
		if res, _, s := k.ask(t, "GET", "/u/ada/x", h); s != want || res.StatusCode != 200 {
			t.Errorf("%v: %d %s, want %s", h, res.StatusCode, s, want)
		}
	}
	if h, ok := got.Load().(http.Header); !ok || h["Cache-Control"] != nil || h["Pragma"] != nil {
		t.Errorf("they have shaped what is kept: %v", h)
	}
}

// TestWhatTheNextCacheIsTold: an answer that came old is told its age at once, stale ones
// are told as stale, and headers of one connection stay on it.
func TestWhatTheNextCacheIsTold(t *testing.T) {
	rule := private()
	rule.StaleIfError, rule.NegativeTtl = durationpb.New(time.Hour), durationpb.New(time.Hour)
	var broken atomic.Bool
	k := keep(t, rule, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		h := w.Header()
		switch r.URL.RawQuery {
		case "old":
			h.Set("Date", time.Now().Add(-40*time.Second).UTC().Format(http.TimeFormat))
			h.Set("Cache-Control", "max-age=50")
		case "gone":
			h.Set("Cache-Control", "max-age=5")
			w.WriteHeader(http.StatusNotFound)
		case "hop":
			h.Set("Connection", "X-Hop, Keep-Alive")
			h.Set("X-Hop", "1")
			h.Set("Proxy-Authentication-Info", "x")
			h.Set("Expires", "0")
			h.Set("Cache-Control", "max-age=50")
		}
	}, nil)
	age := func(res *http.Response) int {
		n, err := strconv.Atoi(res.Header.Get("Age"))
		if err != nil {
			t.Error(err)
		}
		return n
	}
	control := func(res *http.Response) string { return res.Header.Get("Cache-Control") }
	for range 2 {
		res, _, s := k.ask(t, "GET", "/u/ada/x?old", nil)
		if n := age(res); n < 39 || n >= 50 || control(res) != "private, max-age=50" || res.Header.Get("Date") == "" { // The service's second may be the next one.
			t.Errorf("%s: %v", s, res.Header)
		}
		if res, _, s := k.ask(t, "GET", "/u/ada/x?hop", nil); res.Header["X-Hop"] != nil || res.Header["Proxy-Authentication-Info"] != nil || res.Header["Expires"] != nil {
			t.Errorf("%s: %v", s, res.Header)
		}
	}
	k.clock.forward(11 * time.Second) // 40 and 11 are more than 50.
	if _, _, s := k.ask(t, "GET", "/u/ada/x?old", nil); s != "miss" {
		t.Errorf("an answer is fresh for longer than its service said: %s", s)
	}
	k.ask(t, "GET", "/u/ada/x?gone", nil)
	if _, _, s := k.ask(t, "GET", "/u/ada/x?gone", nil); s != "negative" {
		t.Errorf("NOT_FOUND: %s", s)
	}
	k.clock.forward(6 * time.Second)
	if _, _, s := k.ask(t, "GET", "/u/ada/x?gone", nil); s != "miss" {
		t.Errorf("NOT_FOUND is kept for longer than its service said: %s", s)
	}
	k.ask(t, "GET", "/u/ada/x", nil)
	k.clock.forward(10 * time.Minute)
	broken.Store(true)
	res, _, s := k.ask(t, "GET", "/u/ada/x", nil)
	if age(res) < 600 || control(res) != "private, max-age=60, stale-if-error=3600" || s != "stale" {
		t.Errorf("%s: %v", s, res.Header)
	}
}
