package rest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestSecurityHeaders: every answer has them, and what may be kept is told.
func TestSecurityHeaders(t *testing.T) {
	const api = "default-src 'none'; frame-ancestors 'none'"
	const sandboxed = api + "; sandbox"
	for name, tc := range map[string]struct {
		method, target, as string
		download           *httpbody.HttpBody
		status             int
		want               map[string]string
	}{
		"authenticated":                    {method: "GET", target: echoPath, as: "ada", status: 200, want: map[string]string{"Cache-Control": "no-store", "Content-Security-Policy": api}},
		"public, anonymous":                {method: "GET", target: "/test/v1/names", status: 200, want: map[string]string{"Cache-Control": "no-cache"}},
		"public, HEAD":                     {method: "HEAD", target: "/test/v1/names", status: 200, want: map[string]string{"Cache-Control": "no-cache"}},
		"public, known":                    {method: "GET", target: "/test/v1/names", as: "ada", status: 200, want: map[string]string{"Cache-Control": "no-store"}},
		"public, failed":                   {method: "GET", target: "/test/v1/names?nope=1", status: 400, want: map[string]string{"Cache-Control": "no-store", "Content-Security-Policy": api}},
		"refused":                          {method: "GET", target: echoPath, as: "refuse", status: 403, want: map[string]string{"Cache-Control": "no-store"}},
		"nowhere":                          {method: "GET", target: "/nowhere", status: 404, want: map[string]string{"Cache-Control": "no-store", "Content-Security-Policy": api}},
		"bad path":                         {method: "GET", target: "/%00", status: 400, want: map[string]string{"Cache-Control": "no-store", "Content-Security-Policy": api}},
		"options":                          {method: "OPTIONS", target: echoPath, status: 204, want: map[string]string{"Content-Security-Policy": api}},
		"picture":                          {method: "GET", target: "/test/v1/download", download: &httpbody.HttpBody{ContentType: "image/png", Data: []byte("x")}, status: 200, want: map[string]string{"Content-Security-Policy": sandboxed, "Content-Disposition": "", "Content-Type": "image/png", "Cache-Control": "no-cache"}},
		"SVG":                              {method: "GET", target: "/test/v1/download", download: &httpbody.HttpBody{ContentType: "image/svg+xml", Data: []byte("<svg/>")}, status: 200, want: map[string]string{"Content-Security-Policy": sandboxed, "Content-Disposition": "attachment"}},
		"HTML":                             {method: "GET", target: "/test/v1/download", download: &httpbody.HttpBody{ContentType: "text/html; charset=utf-8", Data: []byte("<script>")}, status: 200, want: map[string]string{"Content-Security-Policy": sandboxed, "Content-Disposition": "attachment"}},
		"a type that is none":              {method: "GET", target: "/test/v1/download", download: &httpbody.HttpBody{ContentType: "image/png, text/html", Data: []byte("x")}, status: 200, want: map[string]string{"Content-Disposition": "attachment"}},
		"no type":                          {method: "GET", target: "/test/v1/download", download: &httpbody.HttpBody{Data: []byte("<html>")}, status: 200, want: map[string]string{"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}},
		"docs":                             {method: "GET", target: "/docs", status: 200, want: map[string]string{"Content-Security-Policy": "script-src 'self'", "Cache-Control": "max-age=60"}},
		"a mount that says nothing itself": {method: "GET", target: "/plain", status: 200, want: map[string]string{"Content-Security-Policy": api, "Cache-Control": ""}},
		"below the docs is nothing":        {method: "GET", target: "/plain?404", status: 404, want: map[string]string{"Cache-Control": "no-store"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, func(o *edgeOptions) {
				o.HSTSMaxAge = 2 * time.Hour
				o.Edge = policy.Chain{{Name: "authenticate", Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
					switch as := c.Headers("Authorization"); {
					case slices.Equal(as, []string{"refuse"}):
						return nil, status.Error(codes.PermissionDenied, "no")
					case len(as) > 0:
						c.Principal = &policy.Principal{Subject: as[0]}
					}
					return ctx, nil
				}}}
				o.Mounts = httpedge.Mounts{
					{Path: "/docs", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						w.Header().Set("Content-Security-Policy", "script-src 'self'")
						w.Header().Set("Cache-Control", "max-age=60")
					})},
					{Path: "/plain", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.URL.RawQuery != "" {
							http.NotFound(w, r)
						}
					})},
				}
			})
			e.conn.download = tc.download
			for _, overTLS := range []bool{false, true} {
				r := httptest.NewRequest(tc.method, tc.target, nil)
				if tc.as != "" {
					r.Header.Set("Authorization", tc.as)
				}
				hsts := ""
				if overTLS {
					r.TLS, hsts = &tls.ConnectionState{}, "max-age=7200"
				}
				a := e.do(t, r)
				if a.status != tc.status {
					t.Errorf("status %d: %s", a.status, a.body)
				}
				tc.want["X-Content-Type-Options"], tc.want["X-Frame-Options"], tc.want["Referrer-Policy"], tc.want["Strict-Transport-Security"] = "nosniff", "DENY", "no-referrer", hsts
				for k, want := range tc.want {
					if got := a.header.Get(k); got != want || len(a.header.Values(k)) > 1 {
						t.Errorf("%s: %q, want %q", k, a.header.Values(k), want)
					}
				}
			}
		})
	}
	r := httptest.NewRequest("GET", echoPath, nil)
	r.TLS = &tls.ConnectionState{}
	if a := newEdge(t, nil).do(t, r); a.header["Strict-Transport-Security"] != nil {
		t.Error("HSTS without being asked")
	}
}

// TestSharedHeadersStay: adding to a header of one answer does not change
// another's.
func TestSharedHeadersStay(t *testing.T) {
	e := newEdge(t, func(o *edgeOptions) {
		o.CORS = &httpedge.CORSOptions{AllowedOrigins: []string{"*"}}
		o.Arrival = policy.Chain{{Name: "a", Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
			for _, k := range []string{"Cache-Control", "Vary", "Content-Security-Policy", "X-Frame-Options"} {
				c.Annotate(k, "added")
			}
			return ctx, nil
		}}}
	})
	var last answer
	for range 3 {
		last = e.do(t, httptest.NewRequest("OPTIONS", echoPath, nil))
	}
	if got := last.header["Cache-Control"]; !slices.Equal(got, []string{"no-store", "added"}) {
		t.Errorf("Cache-Control %q", got)
	}
	if got := last.header["Vary"]; !slices.Equal(got, []string{"Origin", "added"}) {
		t.Errorf("Vary %q", got)
	}
	if got := newEdge(t, nil).do(t, httptest.NewRequest("OPTIONS", echoPath, nil)).header["Cache-Control"]; !slices.Equal(got, []string{"no-store"}) {
		t.Errorf("a shared header changed: %q", got)
	}
}

func TestConnectionAge(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, age := range []time.Duration{0, time.Hour, time.Nanosecond} {
			e := newEdge(t, func(o *edgeOptions) { o.MaxConnectionAge = age })
			addr := e.serve(t)
			protocols := new(http.Protocols)
			protocols.SetHTTP1(proto == "HTTP/1.1")
			protocols.SetUnencryptedHTTP2(proto == "HTTP/2.0")
			dialed := 0
			tr := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialed++
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}}
			for range 3 {
				r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+echoPath, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := tr.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				if a := readAnswer(t, res); a.status != 200 || res.Proto != proto {
					t.Errorf("%s: %d %s", res.Proto, a.status, a.body)
				}
				time.Sleep(20 * time.Millisecond) // For the GOAWAY to arrive.
			}
			tr.CloseIdleConnections()
			if old := age == time.Nanosecond; (dialed == 3) != old || (dialed == 1) == old {
				t.Errorf("%s, age %v: %d connections for 3 requests", proto, age, dialed)
			}
		}
	}
}
