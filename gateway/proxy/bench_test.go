package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/proxy"
)

// BenchmarkHop compares a request through the proxy with one through a bare
// httputil.ReverseProxy, in one run.
func BenchmarkHop(b *testing.B) {
	addr := backend(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	target, err := url.Parse("http://" + addr)
	if err != nil {
		b.Fatal(err)
	}
	bare := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() }})
	b.Cleanup(bare.Close)
	_, ours := start(b, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
	for _, v := range []struct{ name, url string }{{"bare", bare.URL}, {"sluice", ours}} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if res, _ := get(b, v.url+"/", nil); res.StatusCode != http.StatusOK {
					b.Fatal(res.StatusCode)
				}
			}
		})
	}
}
