package httpedge

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
		cors, err := newCrossOrigin(tc.cors, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{cors: cors}
		r := httptest.NewRequest("GET", "http://gateway.example/ws", nil)
		for k, v := range tc.header {
			r.Header[k] = v
		}
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		x := &Exchange{server: s, Request: r}
		if tc.cert {
			x.Call.PeerCertificate = &x509.Certificate{}
		}
		if got := x.originMay(); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
