package rest

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestOriginMay is who may open a WebSocket. A browser sends cookies and certificates
// with it whoever's page it is, and no CORS stands before the answer.
func TestOriginMay(t *testing.T) {
	cookie := http.Header{"Cookie": {"session=1"}}
	all, one := &CORSOptions{AllowedOrigins: []string{"*"}}, &CORSOptions{AllowedOrigins: []string{"https://app.example"}}
	trusted := &CORSOptions{AllowedOrigins: []string{"https://app.example"}, AllowCredentials: true}
	for _, tc := range []struct {
		name   string
		cors   *CORSOptions
		origin string
		header http.Header
		cert   bool
		want   bool
	}{
		{"no page", nil, "", cookie, true, true},
		{"our own", nil, "http://gateway.example", cookie, true, true},
		{"another", nil, "https://app.example", nil, false, false},
		{"any", all, "https://evil.example", nil, false, true},
		{"any, cookie", all, "https://evil.example", cookie, false, false},
		{"any, certificate", all, "https://evil.example", nil, true, false},
		{"any, opaque", all, "null", nil, false, false},
		{"listed", one, "https://app.example", nil, false, true},
		{"listed, cookie", one, "https://app.example", cookie, false, false},
		{"listed, certificate", one, "https://app.example", nil, true, false},
		{"trusted, both", trusted, "https://app.example", cookie, true, true},
		{"not listed", trusted, "https://evil.example", nil, false, false},
	} {
		e := newEdge(t, func(o *Options) { o.CORS = tc.cors })
		r := httptest.NewRequest("GET", "http://gateway.example/ws", nil)
		for k, v := range tc.header {
			r.Header[k] = v
		}
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		x := &exchange{server: e.Server, r: r}
		if tc.cert {
			x.call.PeerCertificate = &x509.Certificate{}
		}
		if got := e.originMay(x); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
