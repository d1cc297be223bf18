package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// TestNothingIsGivenTwice: of two values one would be checked and the other used, so that
// a route that names something twice stops the start.
func TestNothingIsGivenTwice(t *testing.T) {
	cached := func(c *policyv1.Cache) func(*proxy.Route) {
		return func(r *proxy.Route) {
			c.Scope, c.Ttl = policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, durationpb.New(time.Minute)
			r.Rule.Cache = c
		}
	}
	match := func(m proxy.Match) func(*proxy.Route) { return func(r *proxy.Route) { r.Match = m } }
	in := func(rules proxy.JSONRules) func(*proxy.Route) { return func(r *proxy.Route) { r.RequestJSON = rules } }
	for name, tc := range map[string]struct {
		change func(*proxy.Route)
		want   string // empty: it starts
	}{
		"variable":              {match(proxy.Match{Template: "/two/{u}/{u}"}), `"u" beside "u"`},
		"variable and its part": {match(proxy.Match{Template: "/two/{u}/{u.id}"}), `"u.id" beside "u"`},
		"two variables":         {match(proxy.Match{Template: "/two/{u}/{v}"}), ""},
		"group":                 {match(proxy.Match{Regex: "/(?P<u>a)/(?P<u>b)"}), `two groups are called "u"`},
		"group and star":        {match(proxy.Match{Regex: "/x(?:/(?P<u>[^/]+))*"}), `"u" may match several times`},
		"group and plus":        {match(proxy.Match{Regex: "/x((?P<u>[^/]+)/)+"}), `"u" may match several times`},
		"group and count":       {match(proxy.Match{Regex: "/x(?:/(?P<u>[^/]+)){1,2}"}), `"u" may match several times`},
		"group and question":    {match(proxy.Match{Regex: "/x(?:/(?P<u>[^/]+))?"}), ""},
		"group without a name":  {match(proxy.Match{Regex: "/x(?:/([^/]+))*/(?P<u>.*)"}), ""},
		"host":                  {match(proxy.Match{Prefix: "/x", Hosts: []string{"a.example", "A.example"}}), `match.hosts: "a.example" is there twice`},
		"method":                {match(proxy.Match{Prefix: "/x", Methods: []string{"GET", "PUT", "GET"}}), `match.methods: "GET" is there twice`},
		"header":                {match(proxy.Match{Prefix: "/x", Headers: []proxy.HeaderMatch{{"X-A", "1"}, {"x-a", "2"}}}), `match.headers: "X-A" is there twice`},
		"match":                 {match(proxy.Match{Prefix: "/other", Methods: []string{"PUT", "GET"}}), "it matches what other matches"},
		"other methods":         {match(proxy.Match{Prefix: "/other", Methods: []string{"PUT"}}), ""},
		"vary":                  {cached(&policyv1.Cache{Vary: []string{"X-A", "x-a"}}), `cache.vary: "X-A" is there twice`},
		"tag":                   {cached(&policyv1.Cache{Tags: []string{"a", "a"}}), `cache.tags: "a" is there twice`},
		"retried code":          {func(r *proxy.Route) { r.Rule.Retry = &policyv1.Retry{Codes: []string{"INTERNAL", "INTERNAL"}} }, "INTERNAL is there twice"},
		"removed header":        {func(r *proxy.Route) { r.RequestHeaders = headers.Rules{Remove: []string{"X-A", "x-a"}} }, "there twice"},
		"set header": {func(r *proxy.Route) {
			r.ResponseHeaders = headers.Rules{Set: map[string]string{"X-A": "1", "x-a": "2"}}
		}, "there twice"},
		"removed field":      {in(proxy.JSONRules{Remove: []string{"a", "a"}}), `remove: "a" is there twice`},
		"renamed to one":     {in(proxy.JSONRules{Rename: map[string]string{"a": "c", "b": "c"}}), `both go to "c"`},
		"renamed in a chain": {in(proxy.JSONRules{Rename: map[string]string{"a": "b", "b": "c"}}), "that is renamed itself"},
		"renamed and set":    {in(proxy.JSONRules{Rename: map[string]string{"a": "c"}, Set: map[string]string{"c.d": "1"}}), "set puts a value there, too"},
		"set and a part":     {in(proxy.JSONRules{Set: map[string]string{"a": "{}", "a.b": "1"}}), "one is a part of the other"},
		"set after a rename": {in(proxy.JSONRules{Rename: map[string]string{"a": "b"}, Set: map[string]string{"a": "1", "ab": "2"}}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := proxy.Route{Name: "r", Upstream: "up", Match: proxy.Match{Prefix: "/r"}, Rule: policy.HTTPOptions{Require: public, Deadline: time.Second}}
			other := r
			other.Name, other.Match = "other", proxy.Match{Prefix: "/other", Methods: []string{"GET", "PUT"}}
			tc.change(&r)
			p, err := proxy.New(proxy.Options{Upstreams: to("127.0.0.1:1"), Routes: []proxy.Route{other, r}, Signer: signer{}})
			if err == nil {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestJSONIsUnchanged: what no rule names stays as it was written, and of an object that a
// rule looks into no name may be there twice.
func TestJSONIsUnchanged(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"},
		RequestJSON: proxy.JSONRules{Set: map[string]string{"x.y": "1e2"}, Remove: []string{"in.gone", "role"}, Rename: map[string]string{"old": "new"}}}}})
	for body, want := range map[string]string{
		`{"z":1.0,"a":"\ud800<\u00e9","b":[1, 2],"x":{"w":0}}`: `{"z":1.0,"a":"\ud800<\u00e9","b":[1, 2],"x":{"w":0,"y":1e2}}`,
		`{"in":{"k":{"d":1,"d":2},"gone":1},"old":{ "v" :1}}`:  `{"in":{"k":{"d":1,"d":2}},"new":{ "v" :1},"x":{"y":1e2}}`,
		`{"\u0072ole":1,"\ud800":2,"x":{}}`:                    `{"\ud800":2,"x":{"y":1e2}}`,
		`{"role":1,"role":2}`:                                  "role",
		`{"role":1,"\u0072ole":2}`:                             "role",
		`{"in":{"gone":1,"a":2,"a":3}}`:                        "in.a",
		`{"x":1}`:                                              "x",
	} {
		res, got := do(t, "POST", url+"/", strings.NewReader(body), http.Header{"Content-Type": {"application/json"}})
		if refused := want[0] != '{'; refused != (res.StatusCode == http.StatusBadRequest) || !refused && got != want {
			t.Errorf("%s: %d %s, want %s", body, res.StatusCode, got, want)
		}
	}
}
