package rest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// discard is a ResponseWriter that costs nothing, so that the benchmark counts
// the edge alone.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// served is a GET through the whole edge, over a connection that answers at once,
// without the access log.
func served(t testing.TB, target string) func() {
	t.Helper()
	e := newEdge(t, func(o *edgeOptions) {
		o.Telemetry = telemetry.New(telemetry.Options{Metrics: telemetry.NewMetrics(), Tracer: noop.NewTracerProvider().Tracer("")})
	})
	ctx, cancel := context.WithCancel(t.Context()) // As net/http gives a request one.
	t.Cleanup(cancel)
	r := httptest.NewRequestWithContext(ctx, "GET", target, nil)
	r.Header.Set("Authorization", "Bearer x")
	r.Header.Set("Accept", "*/*")
	r.Header.Set("User-Agent", "bench")
	return func() {
		e.ServeHTTP(&discard{h: http.Header{}}, r)
		e.conn.calls, e.conn.metadata, e.conn.requests = e.conn.calls[:0], e.conn.metadata[:0], e.conn.requests[:0]
	}
}

func BenchmarkServe(b *testing.B) {
	serve := served(b, "/test/v1/echo/e1?inner.number=5")
	b.ReportAllocs()
	for b.Loop() {
		serve()
	}
}
