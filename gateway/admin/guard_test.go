package admin_test

import (
	"net/http/httptest"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/admin"
)

// TestGuard: a page of another site, whose name resolves to the listener, reads
// nothing; probes and scrapers do.
func TestGuard(t *testing.T) {
	for _, tc := range []struct {
		addr, host, site string
		status           int
	}{
		{"127.0.0.1:9901", "127.0.0.1:9901", "", 200},
		{"127.0.0.1:9901", "127.0.0.1", "none", 200},
		{"127.0.0.1:9901", "localhost:9902", "same-origin", 200},
		{"127.0.0.1:9901", "LocalHost.:9901", "", 200},
		{"127.0.0.1:0", "[::1]:9901", "", 200},
		{"127.0.0.1:0", "[::1]", "", 200},
		{"127.0.0.1:0", "127.9.9.9:1", "", 200},
		{"localhost:9901", "localhost:9901", "", 200},
		{"[::1]:9901", "[::1]:9901", "", 200},
		{"127.0.0.1:9901", "evil.example:9901", "", 403},
		{"127.0.0.1:9901", "evil.example:9901", "same-origin", 403},
		{"127.0.0.1:9901", "localhost.evil.example", "", 403},
		{"127.0.0.1:9901", "127.0.0.1.evil.example:9901", "", 403},
		{"127.0.0.1:9901", "192.0.2.1:9901", "", 403},
		{"127.0.0.1:9901", "", "", 403},
		{"localhost:9901", "evil.example:9901", "", 403},
		{"[::1]:9901", "evil.example", "", 403},
		{"127.0.0.1:9901", "127.0.0.1:9901", "cross-site", 403},
		{":9901", "10.1.2.3:9901", "", 200},
		{":9901", "gateway.internal:9901", "", 200},
		{"0.0.0.0:9901", "10.1.2.3:9901", "", 200},
		{"10.1.2.3:9901", "10.1.2.3:9901", "same-site", 200},
		{":9901", "10.1.2.3:9901", "cross-site", 403},
	} {
		for _, target := range []string{"/healthz", "/metrics", "/debug/pprof/cmdline"} {
			if tc.host == "" && target == "/healthz" {
				continue // See TestGuardWithoutHost.
			}
			o := options(nil)
			o.Addr = tc.addr
			r := httptest.NewRequest("GET", target, nil)
			r.Host = tc.host
			if tc.site != "" {
				r.Header.Set("Sec-Fetch-Site", tc.site)
			}
			w := httptest.NewRecorder()
			if admin.New(o).ServeHTTP(w, r); w.Code != tc.status {
				t.Errorf("%s on %s, Host %q, from %q: %d, want %d", target, tc.addr, tc.host, tc.site, w.Code, tc.status)
			}
		}
	}
}

// TestGuardWithoutHost: a check in HTTP/1.0, which names no Host, is answered, and
// nothing else is.
func TestGuardWithoutHost(t *testing.T) {
	for target, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 403, "/": 403, "/healthz/": 403, "/debug/pprof/cmdline": 403} {
		o := options(nil)
		o.Addr = "127.0.0.1:9901"
		r := httptest.NewRequest("GET", target, nil)
		r.Host, r.Proto, r.ProtoMinor = "", "HTTP/1.0", 0
		w := httptest.NewRecorder()
		if admin.New(o).ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:9901": true, "localhost:9901": true, "[::1]:9901": true, "[::ffff:127.0.0.1]:1": true, "127.1.2.3:1": true,
		":9901": false, "0.0.0.0:9901": false, "[::]:9901": false, "10.0.0.1:9901": false, "admin.internal:9901": false, "": false, "127.0.0.1": false,
	} {
		if got := admin.Loopback(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}
