package rest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestOrigins(t *testing.T) {
	for name, tc := range map[string]struct {
		allowed   []string
		yes, no   []string
		withCreds bool
	}{
		"exact": {allowed: []string{"https://app.example.com", "http://localhost:3000", "HTTPS://UPPER.example.com"}, withCreds: true,
			yes: []string{"https://app.example.com", "http://localhost:3000", "https://upper.example.com"},
			no: []string{"http://app.example.com", "https://app.example.com:443", "https://app.example.com.evil.com", "https://evil-app.example.com", "https://app.example.com/",
				"https://APP.example.com", "https://app.example.comx", "https://app.example.co", "app.example.com", "", "null", "*", "http://localhost", "http://localhost:30000"}},
		"pattern": {allowed: []string{"https://*.example.com", "https://preview-*.example.com:8443"}, withCreds: true,
			yes: []string{"https://a.example.com", "https://app-2.example.com", "https://preview-12.example.com:8443"},
			no: []string{"https://example.com", "https://.example.com", "https://a.b.example.com", "http://a.example.com", "https://a.example.com:8443", "https://evil.com/.example.com",
				"https://evil.com?.example.com", "https://evil.com#.example.com", "https://evil.com:80.example.com", "https://a@b.example.com", "https://evil.com\\.example.com",
				"https://a.example.com.evil.com", "https://preview-.example.com:8443", "https://preview-x.y.example.com:8443", "https://A.example.com", "https://a%2e.example.com", "https://é.example.com", "null"}},
		"null by name": {allowed: []string{"null", "https://a.example.com"}, yes: []string{"null", "https://a.example.com"}, no: []string{"NULL", "https://b.example.com", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newOrigins(&CORSOptions{AllowedOrigins: tc.allowed, AllowCredentials: tc.withCreds})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range tc.yes {
				if !s.allow(o) {
					t.Errorf("%q is refused", o)
				}
			}
			for _, o := range tc.no {
				if s.allow(o) {
					t.Errorf("%q is allowed", o)
				}
			}
		})
	}
}

func TestCORSOptions(t *testing.T) {
	for _, o := range []CORSOptions{
		{}, {AllowedOrigins: []string{"*"}, AllowCredentials: true}, {AllowedOrigins: []string{"https://a.example.com", "*"}, AllowCredentials: true},
		{AllowedOrigins: []string{"null"}, AllowCredentials: true}, {AllowedOrigins: []string{""}}, {AllowedOrigins: []string{"example.com"}},
		{AllowedOrigins: []string{"ftp://example.com"}}, {AllowedOrigins: []string{"https://"}}, {AllowedOrigins: []string{"https://example.com/"}},
		{AllowedOrigins: []string{"https://example.com/x"}}, {AllowedOrigins: []string{"https://example.com?x"}}, {AllowedOrigins: []string{"https://a@example.com"}},
		{AllowedOrigins: []string{"https://*"}}, {AllowedOrigins: []string{"https://*.com"}}, {AllowedOrigins: []string{"https://*example.com"}},
		{AllowedOrigins: []string{"https://*.*.example.com"}}, {AllowedOrigins: []string{"*://a.example.com"}}, {AllowedOrigins: []string{"https://a.example.com:*"}},
		{AllowedOrigins: []string{"https://a.*"}}, {AllowedOrigins: []string{"https://a.example.com:"}}, {AllowedOrigins: []string{"https://*.com."}}, {AllowedOrigins: []string{"http*://a.example.com"}},
		{AllowedOrigins: []string{"https://a.example.com"}, AllowedHeaders: []string{"*"}}, {AllowedOrigins: []string{"https://a.example.com"}, AllowedHeaders: []string{"A b"}},
		{AllowedOrigins: []string{"https://a.example.com"}, AllowedHeaders: []string{""}},
	} {
		if _, err := New(Options{Catalogue: testTable(t), CORS: &o}); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// corsEdge allows two origins, and refuses everyone at the edge who asks for it.
func corsEdge(t *testing.T, c *CORSOptions) *edge {
	return newEdge(t, func(o *Options) {
		o.CORS = c
		refuse := func(when string, code codes.Code) policy.Chain {
			return policy.Chain{{Name: when, Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
				if slices.Contains(c.Headers("X-Refuse"), when) {
					return nil, status.Error(code, "no")
				}
				return ctx, nil
			}}}
		}
		o.Arrival, o.Edge = refuse("arrival", codes.ResourceExhausted), refuse("edge", codes.Unauthenticated)
	})
}

func TestCORS(t *testing.T) {
	allowed := &CORSOptions{AllowedOrigins: []string{"https://app.example.com", "https://*.shop.example.com"}, AllowCredentials: true, AllowedHeaders: []string{"X-Team"}, MaxAge: time.Hour}
	anyone := &CORSOptions{AllowedOrigins: []string{"*"}}
	const app = "https://app.example.com"
	preflight := func(origin, method, headers string) http.Header {
		h := http.Header{"Origin": {origin}, "Access-Control-Request-Method": {method}}
		if headers != "" {
			h["Access-Control-Request-Headers"] = []string{headers}
		}
		return h
	}
	for name, tc := range map[string]struct {
		cors           *CORSOptions
		method, target string
		header         http.Header
		status         int
		want           map[string]string // "" means absent
	}{
		"preflight": {allowed, "OPTIONS", echoPath, preflight(app, "POST", "authorization,content-type,x-team"), 204, map[string]string{
			"Access-Control-Allow-Origin": app, "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS", "Access-Control-Allow-Headers": "authorization,content-type,x-team",
			"Access-Control-Allow-Credentials": "true", "Access-Control-Max-Age": "3600", "Allow": "GET, HEAD, POST, OPTIONS"}},
		"preflight by a pattern":                    {allowed, "OPTIONS", echoPath, preflight("https://a.shop.example.com", "GET", ""), 204, map[string]string{"Access-Control-Allow-Origin": "https://a.shop.example.com"}},
		"preflight for what the path does not take": {allowed, "OPTIONS", echoPath, preflight(app, "DELETE", ""), 204, map[string]string{"Access-Control-Allow-Methods": ""}},
		"preflight for what only other paths take":  {allowed, "OPTIONS", "/test/v1/names", preflight(app, "POST", ""), 204, map[string]string{"Access-Control-Allow-Methods": "GET, HEAD, OPTIONS"}},
		"preflight with a header too many":          {allowed, "OPTIONS", echoPath, preflight(app, "POST", "x-other"), 204, map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": ""}},
		"preflight of a stranger":                   {allowed, "OPTIONS", echoPath, preflight("https://evil.example", "POST", ""), 204, map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": ""}},
		"preflight of null":                         {allowed, "OPTIONS", echoPath, preflight("null", "POST", ""), 204, map[string]string{"Access-Control-Allow-Origin": ""}},
		"preflight of nothing":                      {allowed, "OPTIONS", "/nowhere", preflight(app, "POST", ""), 404, nil},
		"preflight over the limit":                  {allowed, "OPTIONS", echoPath, http.Header{"Origin": {app}, "Access-Control-Request-Method": {"POST"}, "X-Refuse": {"arrival"}}, 429, nil},
		"preflight meets no edge check":             {allowed, "OPTIONS", echoPath, http.Header{"Origin": {app}, "Access-Control-Request-Method": {"POST"}, "X-Refuse": {"edge"}}, 204, map[string]string{"Access-Control-Allow-Origin": app}},
		"plain OPTIONS":                             {allowed, "OPTIONS", echoPath, nil, 204, map[string]string{"Allow": "GET, HEAD, POST, OPTIONS", "Access-Control-Allow-Methods": ""}},
		"actual":                                    {allowed, "GET", echoPath, http.Header{"Origin": {app}}, 200, map[string]string{"Access-Control-Allow-Origin": app, "Access-Control-Expose-Headers": "X-Request-Id, Ratelimit, Ratelimit-Policy, Retry-After, Idempotency-Replayed, Location, Www-Authenticate, Etag, Age", "Access-Control-Allow-Credentials": "true"}},
		"actual, 401":                               {allowed, "GET", echoPath, http.Header{"Origin": {app}, "X-Refuse": {"edge"}}, 401, map[string]string{"Access-Control-Allow-Origin": app}},
		"actual, 404":                               {allowed, "GET", "/nowhere", http.Header{"Origin": {app}}, 404, map[string]string{"Access-Control-Allow-Origin": app}},
		"actual, 429":                               {allowed, "GET", echoPath, http.Header{"Origin": {app}, "X-Refuse": {"arrival"}}, 429, map[string]string{"Access-Control-Allow-Origin": app}},
		"actual, 400":                               {allowed, "GET", "/%00", http.Header{"Origin": {app}}, 400, map[string]string{"Access-Control-Allow-Origin": app}},
		"actual of a stranger":                      {allowed, "GET", echoPath, http.Header{"Origin": {"https://evil.example"}}, 200, map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Expose-Headers": ""}},
		"two origins":                               {allowed, "GET", echoPath, http.Header{"Origin": {app, "https://evil.example"}}, 200, map[string]string{"Access-Control-Allow-Origin": ""}},
		"no origin":                                 {allowed, "GET", echoPath, nil, 200, map[string]string{"Access-Control-Allow-Origin": ""}},
		"anyone":                                    {anyone, "GET", echoPath, http.Header{"Origin": {"https://evil.example"}}, 200, map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": ""}},
		"anyone, preflight":                         {anyone, "OPTIONS", echoPath, preflight("https://evil.example", "GET", ""), 204, map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Max-Age": "600"}},
		"anyone but null":                           {anyone, "GET", echoPath, http.Header{"Origin": {"null"}}, 200, map[string]string{"Access-Control-Allow-Origin": ""}},
		"not configured":                            {nil, "GET", echoPath, http.Header{"Origin": {app}}, 200, map[string]string{"Access-Control-Allow-Origin": "", "Vary": "X-Goog-FieldMask|Accept-Encoding"}},
		"not configured, preflight":                 {nil, "OPTIONS", echoPath, preflight(app, "POST", ""), 204, map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": "", "Vary": "", "Allow": "GET, HEAD, POST, OPTIONS"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := corsEdge(t, tc.cors)
			r := httptest.NewRequest(tc.method, tc.target, nil)
			for k, v := range tc.header {
				r.Header[k] = v
			}
			a := e.do(t, r)
			if a.status != tc.status {
				t.Errorf("status %d, want %d: %s", a.status, tc.status, a.body)
			}
			for k, want := range tc.want {
				if got := strings.Join(a.header.Values(k), "|"); got != want {
					t.Errorf("%s: %q, want %q", k, got, want)
				}
			}
			if vary := strings.Join(a.header.Values("Vary"), ", "); (tc.cors != nil) != strings.Contains(vary, "Origin") {
				t.Errorf("Vary %q", vary)
			}
			if strings.Count(e.log.String(), `"msg":"request"`) != 1 {
				t.Errorf("log %s", e.log)
			}
		})
	}
}

// FuzzOrigin: what is allowed is listed, or differs from a pattern in one label
// alone; so it has the pattern's scheme, domain and port.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://a.example.com", "https://app.example.org", "null", "https://evil.com/.example.com", "https://x.y.example.com", "http://v1-x.example.net:8080", "https://.example.com", "https://a@b.example.com"} {
		f.Add(s)
	}
	s, err := newOrigins(&CORSOptions{AllowedOrigins: []string{"https://*.example.com", "https://app.example.org", "http://v1-*.example.net:8080"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, origin string) {
		if !s.allow(origin) {
			return
		}
		if strings.ContainsAny(origin[len("http"):], "@\\?#% ") || strings.Count(origin, "/") != 2 {
			t.Errorf("%q is no origin", origin)
		}
		scheme, host, _ := strings.Cut(origin, "://")
		labels := strings.Split(host, ".")
		if len(labels) != 3 || labels[0] == "" {
			t.Fatalf("%q", origin)
		}
		switch parent := scheme + " " + labels[1] + "." + labels[2]; {
		case parent == "https example.com", origin == "https://app.example.org":
		case parent == "http example.net:8080" && strings.HasPrefix(labels[0], "v1-") && labels[0] != "v1-":
		default:
			t.Errorf("%q is allowed", origin)
		}
	})
}
