package kit

import (
	"context"
	"strings"

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
}

func newTelemetry(p trace.TracerProvider) *telemetry {
	if p == nil {
		p = otel.GetTracerProvider()
	}
	return &telemetry{tracer: p.Tracer("github.com/sluice-gateway/sluice/services/kit")}
}

// start starts the span of a call; end, given the call's outward error, ends it.
// While a panic is passing by there is no error yet: the span then ends as
// INTERNAL, for that is what the call will answer.
func (t *telemetry) start(ctx context.Context, md metadata.MD, method string) (_ context.Context, end func(err error, panicking bool)) {
	name := strings.TrimPrefix(method, "/")
	service, rpc, _ := strings.Cut(name, "/")
	ctx = t.propagator.Extract(ctx, incoming(md))
	ctx, span := t.tracer.Start(ctx, name,
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("rpc.system", "grpc"),
			attribute.String("rpc.service", service),
			attribute.String("rpc.method", rpc),
		))
	return ctx, func(err error, panicking bool) {
		code := status.Code(err)
		if panicking {
			code = codes.Internal
		}
		span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(code)))
		if isFault(code) || code == codes.DeadlineExceeded {
			span.SetStatus(otelcodes.Error, code.String())
		}
		span.End()
	}
}

// incoming lets the propagator read metadata.
type incoming metadata.MD

func (m incoming) Get(key string) string {
	if v := metadata.MD(m).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (m incoming) Set(string, string) {}

func (m incoming) Keys() []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}
