package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/transcode"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Target is a connection to where a service runs.
type Target interface {
	grpc.ClientConnInterface
	// String names the target in logs, metrics and /routes.
	String() string
	// Close ends the connection.
	Close() error
}

// Signer makes the assertion that tells a service who calls.
type Signer interface {
	Sign(p *policy.Principal, audience string) (string, error)
}

// Observer is told of every call that was sent, and of every refusal of the
// entry and branch chains. Safe for concurrent use.
type Observer interface {
	UpstreamDone(m *policy.Method, target string, code codes.Code, took time.Duration, span trace.Span)
	Denied(check string, m *policy.Method)
}

// Options of a Conn. Catalogue, Targets, Signer and Logger are needed.
type Options struct {
	// Catalogue has the methods that may be called.
	Catalogue *schema.Catalogue
	// Targets by full service name.
	Targets map[string]Target
	// Entry are the checks on the message that is about to be sent.
	Entry policy.Chain
	// Branch are the checks of a composite's branch, before Entry.
	Branch policy.Chain
	// Signer signs who calls.
	Signer Signer
	// Watch has end called when the credentials of a call that stays open are not
	// accepted any more, until stop is called; nil means that nobody looks.
	Watch func(c *policy.Call, end func(error)) (stop func())
	// Logger gets what is kept from callers.
	Logger *slog.Logger
	// Tracer makes client spans.
	Tracer trace.Tracer
	// Observer counts.
	Observer Observer
	// Cache keeps answers as the methods' rules say; nil means that none are kept.
	Cache *cache.Cache
	// Services says by full name what stands between callers and a service.
	Services map[string]ServiceOptions
	// Headers says by full method name which headers are changed.
	Headers map[string]MethodHeaders
	// Pass says by full method name what passes beside the messages.
	Pass map[string]*headers.Pass
	// Metrics gets what is counted of retries, variants, shadows and faults; nil means
	// nobody. Conns of one registry share their counters.
	Metrics prometheus.Registerer
}

// Conn sends admitted calls to the services. Safe for concurrent use.
type Conn struct {
	o      Options
	routes map[string]*route
	// draining ends when the streams that are still open must end too.
	draining   context.Context
	endStreams context.CancelFunc
	metrics    *metrics
	crews      []*crew // of the shadows
}

// route is what a method needs at call time, found with one map lookup.
type route struct {
	method  *policy.Method
	place            // the service itself
	traffic *traffic // nil where there is nothing beside sending
	ending  ending
	request *transcode.Plan // tells bytes that are no request
	// answer is the plan of the response, which checks what is passed on unread;
	// nil where nothing is: the method streams, or answers google.protobuf.Empty.
	answer *transcode.Plan
	kept   *kept // nil where the rule has nothing to do with the cache
	pass   *headers.Pass
}

// New returns a Conn; a service without a target is an error.
func New(o Options) (*Conn, error) {
	if o.Watch == nil {
		o.Watch = func(*policy.Call, func(error)) func() { return func() {} }
	}
	counts, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	c := &Conn{o: o, routes: map[string]*route{}, metrics: counts}
	c.draining, c.endStreams = context.WithCancel(context.Background())
	cached := cachedPaths(o.Catalogue.Methods())
	for _, m := range o.Catalogue.Methods() {
		t := o.Targets[m.Service]
		if t == nil {
			return nil, fmt.Errorf("service %s has no target: it is neither embedded nor under upstreams", m.Service)
		}
		r := &route{method: m.Method, place: newPlace(m.Method, t, "", nil), pass: o.Pass[m.FullName], request: m.Input}
		if !m.Streaming() && m.Descriptor.Output().FullName() != emptyName {
			r.answer = m.Output
		}
		if r.kept, err = newKept(o.Cache, m, cached); err != nil {
			return nil, err
		}
		c.routes[m.FullName] = r
	}
	if err := c.furnish(); err != nil {
		c.endStreams()
		return nil, err
	}
	for _, r := range c.routes {
		r.mark()
	}
	return c, nil
}

// EndStreams ends the streams that are open, and those opened later, with
// UNAVAILABLE: a gateway that goes away cannot wait for streams without end.
func (c *Conn) EndStreams() { c.endStreams() }

// Target names where the method's service runs.
func (c *Conn) Target(fullName string) string {
	if r := c.routes[fullName]; r != nil {
		return r.name
	}
	return ""
}

// Invoke sends a unary call.
func (c *Conn) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	call, r, err := c.admitted(ctx, method)
	if err != nil {
		return err
	}
	if ctx, err = c.enter(ctx, call, in); err != nil {
		return err
	}
	if f, ok := in.(*wire.Frame); ok {
		if err := r.readable(call, f); err != nil {
			return err
		}
	}
	if r.kept != nil {
		err = c.cached(ctx, call, r, in, out, opts...)
	} else {
		err = c.call(ctx, call, r, in, out, opts...)
	}
	r.respond(call)
	return err
}

// call sends a unary call whose message may go: its bytes, deadline, span, variant,
// assertion, attempts, and the error made public.
func (c *Conn) call(ctx context.Context, call *policy.Call, r *route, in, out any, opts ...grpc.CallOption) error {
	f, own, err := r.encoded(in)
	if err != nil {
		return err
	}
	err = c.callBytes(ctx, call, r, f, out, opts...)
	if own && err == nil {
		f.Free()
	}
	return err
}

func (c *Conn) callBytes(ctx context.Context, call *policy.Call, r *route, in *wire.Frame, out any, opts ...grpc.CallOption) error {
	start := time.Now()
	most, hurried := r.most(call, start)
	r.ends(ctx, call, start, most, hurried)
	ctx, cancel := r.within(ctx, start, most)
	defer cancel()
	ctx, span := c.startSpan(ctx, r)
	t := trip{c: c, call: call, r: r, span: span, in: in, out: out, opts: opts}
	permit, err := t.send(ctx)
	c.answered(ctx, call, r, opts)
	switch {
	case call.Attempts == 0: // Nothing was sent.
		endSpan(span, err)
	case err == nil && call.Unread == out && out != nil:
		t.await(permit, start)
	default:
		permit.Done(resilience.Success)
		c.done(r, t.to, call.Attempts, span, start, err)
	}
	return err
}

// send chooses where the call goes, and sends it.
func (t *trip) send(ctx context.Context) (permit resilience.Permit, err error) {
	if t.to, err = t.c.prepare(ctx, t.call, t.r); err != nil {
		return permit, err
	}
	if t.md, err = t.c.outgoing(ctx, t.call, t.r); err != nil {
		return permit, err
	}
	if traffic := t.r.traffic; traffic != nil {
		t.call.Upstream = t.to.name
		traffic.add(&t.md, spokenOf(ctx, t.call, t.r), t.r)
		traffic.shadow.copy(t.r, t.md, t.in)
	}
	return t.attempts(ctx)
}

// admitted finds the call that ctx carries: one for this very method.
func (c *Conn) admitted(ctx context.Context, method string) (*policy.Call, *route, error) {
	r := c.routes[method]
	if r == nil {
		return nil, nil, status.Error(codes.Unimplemented, "no such method")
	}
	call := policy.Admitted(ctx)
	if call == nil || call.Method != r.method {
		c.o.Logger.ErrorContext(ctx, "refused a call that was not admitted", "grpc_method", method)
		return nil, nil, status.Error(codes.Internal, msgInternal)
	}
	return call, r, nil
}

// enter runs the entry checks on the message.
func (c *Conn) enter(ctx context.Context, call *policy.Call, in any) (context.Context, error) {
	switch m := in.(type) {
	case *wire.Frame:
		call.Message = policy.Message{Wire: m.Data}
	case proto.Message:
		call.Message = policy.Message{Proto: m}
	}
	ctx, err := c.o.Entry.Run(ctx, call)
	call.Message = policy.Message{}
	if err != nil {
		c.denied(call)
	}
	return ctx, err
}

func (c *Conn) denied(call *policy.Call) {
	if c.o.Observer != nil {
		c.o.Observer.Denied(call.DeniedBy, call.Method)
	}
}

// done closes the books on a call that was sent.
func (c *Conn) done(r *route, to *place, attempts int, span trace.Span, start time.Time, err error) {
	if span != nil && (attempts > 1 || to.variant != "") {
		span.SetAttributes(attribute.Int("sluice.attempts", attempts), attribute.String("sluice.variant", to.variant))
	}
	endSpan(span, err)
	code := status.Code(err)
	if c.o.Observer != nil {
		c.o.Observer.UpstreamDone(r.method, to.name, code, time.Since(start), span)
	}
	if r.traffic != nil && len(r.traffic.canaries) > 0 {
		c.metrics.variants.WithLabelValues(r.method.Service, to.variant, counted(code)).Inc()
	}
}
