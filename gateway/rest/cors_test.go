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

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// corsEdge allows two origins, and refuses everyone at the edge who asks for it.
func corsEdge(t *testing.T, c *httpedge.CORSOptions) *edge {
	return newEdge(t, func(o *edgeOptions) {
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
	allowed := &httpedge.CORSOptions{AllowedOrigins: []string{"https://app.example.com", "https://*.shop.example.com"}, AllowCredentials: true, AllowedHeaders: []string{"X-Team"}, MaxAge: time.Hour}
	anyone := &httpedge.CORSOptions{AllowedOrigins: []string{"*"}}
	const app = "https://app.example.com"
	preflight := func(origin, method, headers string) http.Header {
		h := http.Header{"Origin": {origin}, "Access-Control-Request-Method": {method}}
		if headers != "" {
			h["Access-Control-Request-Headers"] = []string{headers}
		}
		return h
	}
	for name, tc := range map[string]struct {
		cors           *httpedge.CORSOptions
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
