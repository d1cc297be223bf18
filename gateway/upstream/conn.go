package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	paths "github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/transcode"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Target is a connection to where a service runs. Messages are frames; the metadata that
// is sent is the context's.
type Target interface {
	// Invoke makes a unary call. Where they are not nil, it sets header and trailer.
	Invoke(ctx context.Context, method string, request, response *wire.Frame, header, trailer *metadata.MD) error
	// NewStream opens a stream, whose messages are *wire.Frame.
	NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error)
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
	pools      []*pool // of the shadows
}

// route is what a method needs at call time, found with one map lookup.
type route struct {
	method      *policy.Method
	destination          // the service itself
	traffic     *traffic // nil where there is nothing beside sending
	ending      ending
	request     *transcode.Plan // tells bytes that are no request
	response    *transcode.Plan // tells bytes that are no response; nil where the method streams
	stream      *grpc.StreamDesc
	caching     *caching // nil where the rule has nothing to do with the cache
	pass        *headers.Pass
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
		if c.routes[m.FullName], err = c.newRoute(m, cached); err != nil {
			return nil, err
		}
	}
	if err := c.configure(); err != nil {
		c.endStreams()
		return nil, err
	}
	for _, r := range c.routes {
		r.noteEnding()
	}
	return c, nil
}

func (c *Conn) newRoute(m *schema.Method, cached []paths.Template) (_ *route, err error) {
	t := c.o.Targets[m.Service]
	if t == nil {
		return nil, fmt.Errorf("service %s has no target: it is neither embedded nor under upstreams", m.Service)
	}
	d := m.Descriptor
	r := &route{method: m.Method, destination: newDestination(m.Method, t, "", nil), pass: c.o.Pass[m.FullName], request: m.Input}
	if m.Streaming() {
		r.stream = &grpc.StreamDesc{StreamName: string(d.Name()), ClientStreams: d.IsStreamingClient(), ServerStreams: d.IsStreamingServer()}
	} else {
		r.response = m.Output
	}
	r.caching, err = newCaching(c.o.Cache, m, cached)
	return r, err
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
