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

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Options of a Telemetry. Metrics and Tracer are needed; a nil Access leaves
// the access log out.
type Options struct {
	Access  *slog.Logger
	Metrics *Metrics
	Tracer  trace.Tracer
	// Sparse names the check whose refusals anyone can cause at any rate: of these
	// the access log has 10 a second, and says in the next line how many it has
	// left out. Empty means that every request has its line.
	Sparse string
}

// Telemetry observes requests. Safe for concurrent use.
type Telemetry struct {
	o     Options
	flood sparse
}

// New returns a Telemetry.
func New(o Options) *Telemetry { return &Telemetry{o: o} }

// Request is one request being observed, from its first byte to its last.
type Request struct {
	t     *Telemetry
	start time.Time
	span  trace.Span

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
	r := &Request{t: t, start: time.Now(), Edge: edge}
	ctx = traceContext.Extract(ctx, headers)
	ctx, r.span = t.o.Tracer.Start(ctx, string(edge), serverSpan...)
	t.o.Metrics.inFlight.WithLabelValues(string(edge)).Inc()
	return ctx, r
}

var (
	traceContext = propagation.TraceContext{}
	serverSpan   = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)} // Made once, not for every request.
)

// End counts and logs the request. The code is the HTTP status or, on the gRPC
// edge, the name of the gRPC code; failed says whether it was the gateway's or
// a service's fault.
func (r *Request) End(ctx context.Context, code string, failed bool) {
	took := time.Since(r.start)
	m := r.t.o.Metrics
	m.inFlight.WithLabelValues(string(r.Edge)).Dec()
	m.requests.WithLabelValues(string(r.Edge), r.Route, r.methodLabel(), code).Inc()
	m.duration.WithLabelValues(string(r.Edge), r.Route, r.methodLabel()).Observe(took.Seconds())
	r.endSpan(code, failed)
	if r.t.o.Access == nil {
		return
	}
	suppressed := 0
	if r.Call != nil && r.Call.DeniedBy != "" && r.Call.DeniedBy == r.t.o.Sparse {
		var ok bool
		if suppressed, ok = r.t.flood.line(time.Now()); !ok {
			return
		}
	}
	r.log(ctx, code, took, suppressed)
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

func (r *Request) endSpan(code string, failed bool) {
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
		if failed {
			r.span.SetStatus(otelcodes.Error, code)
		}
	}
	r.span.End()
}

func (r *Request) log(ctx context.Context, code string, took time.Duration, suppressed int) {
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs, slog.String("edge", string(r.Edge)), slog.String("request_id", r.ID))
	if sc := r.span.SpanContext(); sc.HasTraceID() {
		attrs = append(attrs, slog.String("trace_id", sc.TraceID().String()))
	}
	attrs = append(attrs,
		slog.String("method", r.methodLabel()), slog.String("route", r.Route), slog.String("grpc_method", r.RPC),
		slog.String("status", code), slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.String("client", r.Client.String()))
	if c := r.Call; c != nil {
		if c.Principal != nil {
			attrs = append(attrs, slog.String("principal", c.Principal.Subject))
		}
		attrs = append(attrs, slog.String("upstream", c.Upstream))
		if c.DeniedBy != "" {
			attrs = append(attrs, slog.String("denied_by", c.DeniedBy))
			if c.Why != "" {
				attrs = append(attrs, slog.String("denied_why", c.Why))
			}
			if suppressed > 0 {
				attrs = append(attrs, slog.Int("suppressed", suppressed))
			}
		}
	}
	attrs = append(attrs, slog.Int64("bytes_in", r.BytesIn), slog.Int64("bytes_out", r.BytesOut))
	r.t.o.Access.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
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
