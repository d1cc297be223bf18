package rest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// keptConn answers what a cache has kept, as upstream does.
type keptConn struct {
	upstream.Sender
	entry *cache.Entry
}

func (c keptConn) Call(_ context.Context, call *policy.Call, _ *wire.Frame, a *upstream.Answer) error {
	a.Cached, call.Cache = c.entry, "hit"
	a.Message = wire.Frame{Data: c.entry.Body}
	return nil
}

// BenchmarkKept is a kept answer over a socket, beside a plain handler of net/http that
// writes the same bytes, and 304. Compare figures of one run.
func BenchmarkKept(b *testing.B) {
	c, err := cache.New(cache.Options{})
	if err != nil {
		b.Fatal(err)
	}
	rule := &policy.Cache{Public: true, TTL: time.Hour}
	body := append([]byte{0x0a, 200, 1}, make([]byte, 200)...) // ListNames: one name
	for i := range 200 {
		body[3+i] = 'n'
	}
	r := c.Route("/a.B/C", rule)
	e, _, err := r.Do(b.Context(), r.AppendKey(nil, policy.Anonymous), nil, false, func(context.Context) (*cache.Entry, error) { return &cache.Entry{Body: body}, nil })
	if err != nil {
		b.Fatal(err)
	}
	edge := newEdge(b, func(o *edgeOptions) {
		o.Conn = keptConn{entry: e}
		for _, m := range o.Catalogue.Methods() {
			if m.Descriptor.Name() == "ListNames" {
				m.Rule.Cache = rule
			}
		}
	})
	w := httptest.NewRecorder()
	edge.ServeHTTP(w, httptest.NewRequest("GET", "/test/v1/names", nil))
	answer := w.Body.Bytes()
	if w.Code != http.StatusOK || w.Header().Get("Etag") == "" {
		b.Fatalf("%d %v", w.Code, w.Header())
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	defer plain.Close()
	url := "http://" + edge.serve(b) + "/test/v1/names"
	for _, bench := range []struct{ name, url, tag string }{{"net/http", plain.URL, ""}, {"kept", url, ""}, {"304", url, e.ETag()[0]}} {
		b.Run(bench.name, func(b *testing.B) {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, bench.url, nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", "identity")
			if bench.tag != "" {
				req.Header.Set("If-None-Match", bench.tag)
			}
			b.ReportAllocs()
			for b.Loop() {
				res, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
}
