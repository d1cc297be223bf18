package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// TestClientSpans: each attempt is a span of the request's trace, and the service is told
// of the one that it belongs to.
func TestClientSpans(t *testing.T) {
	const forged = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var mu sync.Mutex
	var parents []string
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if parents = append(parents, strings.Join(r.Header["Traceparent"], "|")); len(parents) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
	spans := tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	e, url := start(t, proxy.Options{Upstreams: to(addr), Tracer: tracers.Tracer("proxy"), Routes: []proxy.Route{
		{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: policy.HTTPOptions{Retry: &policyv1.Retry{MaxAttempts: 2}}}}})
	e.tracer = tracers.Tracer("edge")
	if res, _ := get(t, url+"/a?token=secret", http.Header{"Traceparent": {forged}}); res.StatusCode != http.StatusOK {
		t.Fatal(res.StatusCode)
	}
	eventually(t, "the edge's span ends", func() bool { return len(spans.Ended()) >= 3 })
	ended := spans.Ended()
	edge := ended[len(ended)-1]
	if len(ended) != 3 || len(parents) != 2 || edge.Name() != "edge" {
		t.Fatalf("%d spans and %d requests", len(ended), len(parents))
	}
	for i, s := range ended[:2] {
		if s.Name() != "GET all" || s.SpanKind() != trace.SpanKindClient || s.Parent().SpanID() != edge.SpanContext().SpanID() {
			t.Errorf("%s, %v, of %v", s.Name(), s.SpanKind(), s.Parent())
		}
		if want := "00-" + edge.SpanContext().TraceID().String() + "-" + s.SpanContext().SpanID().String() + "-01"; parents[i] != want {
			t.Errorf("attempt %d: the service reads %q, want %q", i+1, parents[i], want)
		}
		has := attribute.NewSet(s.Attributes()...)
		want := []attribute.KeyValue{attribute.String("http.request.method", "GET"), attribute.String("http.route", "all"), attribute.String("sluice.upstream", "up"),
			attribute.String("server.address", addr), attribute.Int("sluice.attempt", i+1), attribute.Int("http.response.status_code", []int{503, 200}[i])}
		for _, kv := range want {
			if got, ok := has.Value(kv.Key); !ok || got != kv.Value {
				t.Errorf("attempt %d: %s is %v, want %v", i+1, kv.Key, got.String(), kv.Value.String())
			}
		}
		for _, kv := range s.Attributes() {
			if strings.Contains(kv.Value.String(), "secret") {
				t.Errorf("%s has the query", kv.Key)
			}
		}
		if want := []otelcodes.Code{otelcodes.Error, otelcodes.Unset}[i]; s.Status().Code != want {
			t.Errorf("attempt %d: %v", i+1, s.Status())
		}
	}
}

// TestTraceIsPassedOn: of a trace that is not recorded here the service is told all the
// same, and of none it is told nothing.
func TestTraceIsPassedOn(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("Traceparent")) })
	spans := tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.NeverSample()))
	e, url := start(t, proxy.Options{Upstreams: to(addr), Tracer: tracers.Tracer("proxy"), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
	sent := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	if _, got := get(t, url+"/", sent); got != "" {
		t.Errorf("without a trace: %q", got)
	}
	e.tracer = tracers.Tracer("edge")
	if _, got := get(t, url+"/", sent); len(got) != 55 || !strings.HasSuffix(got, "-00") || strings.Contains(got, "0af7651916cd43dd") {
		t.Errorf("a trace that is not sampled: %q", got)
	}
	if n := len(spans.Ended()); n != 0 {
		t.Errorf("%d spans", n)
	}
}
