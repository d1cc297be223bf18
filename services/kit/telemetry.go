package kit

import (
	"context"
	"strings"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// telemetry makes one server span a call, a child of the caller's W3C
// traceparent. In-process too: context values do not cross there, metadata does.
type telemetry struct {
	tracer     trace.Tracer
	propagator propagation.TraceContext
	methods    sync.Map // full method -> *spanShape; the interceptors see no others than those registered
}

// spanShape is what all spans of a method begin with.
type spanShape struct {
	name    string
	options []trace.SpanStartOption
}

func newTelemetry(p trace.TracerProvider) *telemetry {
	if p == nil {
		p = otel.GetTracerProvider()
	}
	return &telemetry{tracer: p.Tracer("github.com/sluice-gateway/sluice/services/kit")}
}

// start starts the span of a call.
func (t *telemetry) start(ctx context.Context, method string) (context.Context, trace.Span) {
	s := t.shape(method)
	return t.tracer.Start(t.propagator.Extract(ctx, incoming{ctx}), s.name, s.options...)
}

func (t *telemetry) shape(method string) *spanShape {
	if s, ok := t.methods.Load(method); ok {
		return s.(*spanShape)
	}
	name := strings.TrimPrefix(method, "/")
	service, rpc, _ := strings.Cut(name, "/")
	s, _ := t.methods.LoadOrStore(method, &spanShape{name, []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("rpc.system", "grpc"),
			attribute.String("rpc.service", service),
			attribute.String("rpc.method", rpc),
		),
	}})
	return s.(*spanShape)
}

// endSpan ends the span of a call with its outward error. While a panic is passing
// by there is no error yet: the span then ends as INTERNAL, for that is what the
// call will answer.
func endSpan(span trace.Span, err error, panicking bool) {
	if span.IsRecording() {
		code := status.Code(err)
		if panicking {
			code = codes.Internal
		}
		span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(code)))
		if isFault(code) || code == codes.DeadlineExceeded {
			span.SetStatus(otelcodes.Error, code.String())
		}
	}
	span.End()
}

// incoming lets the propagator read the metadata of a context, key by key: taken
// whole, it is copied.
type incoming struct{ ctx context.Context }

func (m incoming) Get(key string) string {
	if v := metadata.ValueFromIncomingContext(m.ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (m incoming) Set(string, string) {}

// Keys is not asked by the propagator of W3C's trace context.
func (m incoming) Keys() []string { return nil }
