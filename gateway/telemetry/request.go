package telemetry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Options of a Telemetry. Metrics and Tracer are needed; without Access and
// Output there is no access log.
type Options struct {
	// Access gets the lines of the access log, from a program that brings a logger
	// of its own.
	Access *slog.Logger
	// Output gets them in the place of Access, as JSON: without garbage, and many in
	// one write.
	Output  *Output
	Metrics *Metrics
	Tracer  trace.Tracer
	// Sparse names the check whose refusals anyone can cause at any rate: of these
	// the access log has 10 a second, and says in the next line how many it has
	// left out. Empty means that every request has its line.
	Sparse string
	// Recent keeps the last failures; nil keeps none.
	Recent *Recent
}

// Telemetry observes requests. Safe for concurrent use.
type Telemetry struct {
	o        Options
	untraced bool
	flood    sparse
}

// New returns a Telemetry.
func New(o Options) *Telemetry {
	_, none := o.Tracer.(noop.Tracer)
	return &Telemetry{o: o, untraced: none}
}

// Series returns the metrics of a route for [Request.Series]; see [Metrics.Series].
func (t *Telemetry) Series(edge policy.Edge, route, method string) *Series {
	return t.o.Metrics.Series(edge, route, method)
}

// Request is one request being observed, from its first byte to its last.
type Request struct {
	t     *Telemetry
	start time.Time
	span  trace.Span // nil when nobody traces

	// Edge is where the request came in.
	Edge policy.Edge
	// ID is the request id.
	ID string
	// Method is the HTTP method; empty on the gRPC edge.
	Method string
	// Route is the template that matched, never the raw path; empty means none.
	Route string
	// RPC is the gRPC method without the leading slash; empty means none.
	RPC string
	// Series are the metrics of Route and the method, where the edge has them at
	// hand. When nil, or not of these labels, they are looked up.
	Series *Series
	// Peer is the address of the connection.
	Peer netip.AddrPort
	// Client is the address of the caller: the peer's, or what a trusted proxy
	// says.
	Client netip.Addr
	// Call is the admitted or refused call, or nil.
	Call *policy.Call
	// BytesIn and BytesOut count the bodies.
	BytesIn, BytesOut int64
}

// Begin starts observing; the span continues the caller's trace when the
// headers name one.
func (t *Telemetry) Begin(ctx context.Context, edge policy.Edge, headers propagation.TextMapCarrier) (context.Context, *Request) {
	r := &Request{}
	return t.BeginIn(ctx, r, edge, headers), r
}

// BeginIn is Begin for an edge that has a zero Request in a larger value of its
// own.
func (t *Telemetry) BeginIn(ctx context.Context, r *Request, edge policy.Edge, headers propagation.TextMapCarrier) context.Context {
	r.t, r.start, r.Edge = t, time.Now(), edge
	t.o.Metrics.gauge(edge).Inc()
	named := namesTrace(headers)
	if named {
		ctx = traceContext.Extract(ctx, headers)
	}
	switch {
	case !t.untraced:
		ctx, r.span = t.o.Tracer.Start(ctx, string(edge), serverSpan...)
	case named: // The log has the caller's trace, and services get it.
		r.span = trace.SpanFromContext(ctx)
	}
	return ctx
}

var (
	traceContext = propagation.TraceContext{}
	serverSpan   = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)} // Made once, not for every request.
)

// namesTrace says whether the headers may name a trace. Most do not, and asking
// net/http for a header in lower case makes a string of it each time.
func namesTrace(headers propagation.TextMapCarrier) bool {
	if h, ok := headers.(propagation.HeaderCarrier); ok {
		return len(h["Traceparent"]) > 0
	}
	return headers.Get("traceparent") != ""
}

// End counts and logs the request. The code is the HTTP status ([StatusCode]) or,
// on the gRPC edge, the name of the gRPC code; failed says whether it was the
// gateway's or a service's fault.
func (r *Request) End(ctx context.Context, code string, failed bool) {
	end := time.Now()
	took := end.Sub(r.start)
	m, method := r.t.o.Metrics, r.methodLabel()
	m.gauge(r.Edge).Dec()
	s := r.Series
	if !s.of(r.Edge, r.Route, method) {
		s = m.Series(r.Edge, r.Route, method)
	}
	s.tally.done(code, took, r.recorded())
	r.endSpan(code, failed)
	if failed && r.t.o.Recent != nil {
		r.t.o.Recent.add(r.failure(code, end))
	}
	if r.t.o.Access == nil && r.t.o.Output == nil {
		return
	}
	suppressed := 0
	if r.Call != nil && r.Call.DeniedBy != "" && r.Call.DeniedBy == r.t.o.Sparse {
		var ok bool
		if suppressed, ok = r.t.flood.line(end); !ok {
			return
		}
	}
	r.t.logLine(ctx, line{request: r, code: code, end: end, took: took, suppressed: suppressed})
}

// methodLabel is bounded: an HTTP method that is not one of the known is OTHER.
func (r *Request) methodLabel() string {
	if r.Edge == policy.EdgeGRPC {
		return r.RPC
	}
	switch r.Method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return r.Method
	}
	return "OTHER"
}

// recorded is the span where this process records it: the trace of a caller whose
// requests are not traced here is no example of anything.
func (r *Request) recorded() trace.Span {
	if r.span == nil || !r.span.IsRecording() {
		return nil
	}
	return r.span
}

// fate is what became of a call, as the access log has it.
func fate(c *policy.Call) []attribute.KeyValue {
	var out []attribute.KeyValue
	for _, a := range []struct{ key, value string }{
		{"sluice.upstream", c.Upstream}, {"sluice.backend", c.Backend}, {"sluice.variant", c.Variant},
		{"sluice.cache", c.Cache}, {"sluice.refused_by", c.Breaker}, {"sluice.denied_by", c.DeniedBy},
	} {
		if a.value != "" {
			out = append(out, attribute.String(a.key, a.value))
		}
	}
	if c.Attempts > 1 {
		out = append(out, attribute.Int("sluice.attempts", c.Attempts))
	}
	return out
}

func (r *Request) endSpan(code string, failed bool) {
	if r.span == nil {
		return
	}
	if r.span.IsRecording() {
		name := r.RPC
		if r.Route != "" {
			name = r.Method + " " + r.Route
		}
		if name != "" {
			r.span.SetName(name)
		}
		r.span.SetAttributes(attribute.String("http.route", r.Route), attribute.String("rpc.method", r.RPC),
			attribute.String("sluice.code", code), attribute.String("sluice.request_id", r.ID))
		if r.Call != nil {
			r.span.SetAttributes(fate(r.Call)...)
		}
		if failed {
			r.span.SetStatus(otelcodes.Error, code)
		}
	}
	r.span.End()
}

// maxRequestID bounds a request id that is taken from the caller, in bytes.
const maxRequestID = 128

// RequestID returns the id the caller sent when it is printable ASCII of at
// most 128 bytes, and a new random one otherwise.
func RequestID(sent string) string {
	if sent == "" || len(sent) > maxRequestID {
		return newID()
	}
	for i := range len(sent) {
		if sent[i] < '!' || sent[i] > '~' {
			return newID()
		}
	}
	return sent
}

// newID needs to be unique, not secret.
func newID() string {
	const digits = "0123456789abcdef"
	var b [32]byte
	for i := 0; i < len(b); i += 16 {
		v := rand.Uint64()
		for j := range 16 {
			b[i+j] = digits[v&15]
			v >>= 4
		}
	}
	return string(b[:])
}
