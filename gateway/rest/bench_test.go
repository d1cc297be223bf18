package rest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"go.opentelemetry.io/otel/trace/noop"
)

// discard is a ResponseWriter that costs nothing, so that the benchmark counts
// the edge alone.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkServe is a GET through the whole edge, over a connection that
// answers at once, without the access log.
func BenchmarkServe(b *testing.B) {
	e := newEdge(b, func(o *Options) {
		o.Telemetry = telemetry.New(telemetry.Options{Metrics: telemetry.NewMetrics(), Tracer: noop.NewTracerProvider().Tracer("")})
	})
	r := httptest.NewRequest("GET", "/test/v1/echo/e1?inner.number=5", nil)
	r.Header.Set("Authorization", "Bearer x")
	r.Header.Set("Accept", "*/*")
	r.Header.Set("User-Agent", "bench")
	b.ReportAllocs()
	for b.Loop() {
		e.ServeHTTP(&discard{h: http.Header{}}, r)
		e.conn.calls, e.conn.metadata, e.conn.requests = e.conn.calls[:0], e.conn.metadata[:0], e.conn.requests[:0]
	}
}
