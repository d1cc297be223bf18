package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// WithoutTraceState returns ctx, whose span and the spans below it are told to services
// without a trace state (W3C Trace Context, 3.3). That is text of the caller's own, which
// must not reach a service that is asked on behalf of others.
func WithoutTraceState(ctx context.Context) context.Context {
	span := trace.SpanFromContext(ctx)
	if span.SpanContext().TraceState().Len() == 0 {
		return ctx
	}
	return trace.ContextWithSpan(ctx, stateless{span})
}

type stateless struct{ trace.Span }

// SpanContext implements trace.Span.
func (s stateless) SpanContext() trace.SpanContext {
	return s.Span.SpanContext().WithTraceState(trace.TraceState{})
}
