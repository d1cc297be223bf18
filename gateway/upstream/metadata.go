package upstream

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Metadata keys that the gateway sends to services. Of what a caller sends, only what
// the method's rule names reaches a service as metadata: the outgoing set is built anew
// for each call.
const (
	MetadataAssertion = "x-sluice-assertion"
	MetadataRequestID = "x-request-id"
)

// headerSent marks a header frame that an in-process service sent empty.
const headerSent = "x-sluice-header"

var traceContext = propagation.TraceContext{}

// sent is what goes to a service as metadata. It is no map, for it is written once
// and read once.
type sent struct {
	assertion, requestID string
	trace                pairs
	more                 pairs // what passes of the caller's headers, and what header rules add
}

// pairs are keys and values in turn.
type pairs []string

func (c *Conn) outgoing(ctx context.Context, call *policy.Call, r *route) (sent, error) {
	call.Upstream = r.name
	token, err := c.o.Signer.Sign(call.Principal, r.method.Service)
	if status.Code(err) == codes.Unauthenticated { // The credential expired on the way.
		return sent{}, err
	}
	if err != nil {
		c.o.Logger.ErrorContext(ctx, "cannot sign the assertion", "grpc_method", r.method.FullName, "error", err)
		return sent{}, status.Error(codes.Internal, msgInternal)
	}
	md := sent{assertion: token, requestID: call.RequestID}
	if err := r.passRequest(&md, spokenOf(ctx, call, r)); err != nil {
		return sent{}, err
	}
	if trace.SpanContextFromContext(ctx).IsValid() {
		var p pairs
		traceContext.Inject(ctx, &p)
		md.trace = p
	}
	return md, nil
}

// context returns ctx with this as its outgoing metadata, and nothing else: what
// was there before is put away.
func (s sent) context(ctx context.Context) context.Context {
	if _, ok := metadata.FromOutgoingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, nil)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, MetadataAssertion, s.assertion, MetadataRequestID, s.requestID)
	if len(s.trace) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, s.trace...)
	}
	return ctx
}

// metadata returns this as who is called in this process reads it.
func (s sent) metadata() metadata.MD {
	values := [...]string{s.assertion, s.requestID} // One allocation for both lists.
	md := metadata.MD{MetadataAssertion: values[0:1:1], MetadataRequestID: values[1:2:2]}
	for i := 0; i < len(s.trace); i += 2 {
		md.Set(s.trace[i], s.trace[i+1])
	}
	return md
}

// out is context with what header rules add.
func (s sent) out(ctx context.Context) context.Context {
	ctx = s.context(ctx)
	if len(s.more) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, s.more...)
	}
	return ctx
}

// here is metadata with what header rules add.
func (s sent) here() metadata.MD {
	md := s.metadata()
	for i := 0; i < len(s.more); i += 2 {
		md.Append(s.more[i], s.more[i+1])
	}
	return md
}

// Set implements propagation.TextMapCarrier, as do those that follow.
func (p *pairs) Set(key, value string) { *p = append(*p, key, value) }

// Get is not asked of what is being written.
func (*pairs) Get(string) string { return "" }

// Keys neither.
func (*pairs) Keys() []string { return nil }

// extractTrace makes the caller's span the parent of what the service does.
func extractTrace(ctx context.Context) context.Context {
	if len(metadata.ValueFromIncomingContext(ctx, "traceparent")) == 0 {
		return ctx // Without copying the metadata, which the next line does.
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return traceContext.Extract(ctx, carrier(md))
}

// carrier lets the propagator read metadata, whose keys are lower case.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c carrier) Set(string, string) {}
func (c carrier) Keys() []string     { return nil }

// startSpan makes a client span when the request is being traced.
func (c *Conn) startSpan(ctx context.Context, r *route) (context.Context, trace.Span) {
	if c.o.Tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	return c.o.Tracer.Start(ctx, r.method.FullName[1:], trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rpc.system", "grpc"),
		attribute.String("rpc.service", r.method.Service),
		attribute.String("rpc.method", string(r.method.Descriptor.Name())),
		attribute.String("server.address", r.name)))
}

func endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	code := status.Code(err)
	span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(code)))
	if err != nil {
		span.SetStatus(otelcodes.Error, code.String())
	}
	span.End()
}
