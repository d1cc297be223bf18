package gateway

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/listen"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rest"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// Service is a gRPC service that the gateway offers on both edges: a team's one
// registration.
type Service struct {
	// Descriptor is the service's, such as
	// userv1.File_shop_user_v1_user_proto.Services().ByName("UserService").
	Descriptor protoreflect.ServiceDescriptor
	// Handlers are its generated REST handlers, made with rest.Handlers; nil when
	// it has no HTTP bindings.
	Handlers rest.Register
	// Embed runs the service in the gateway's process, where the configuration
	// names no upstream for it. Nil means that it always needs one.
	Embed func(ctx context.Context, e Embedding) (upstream.Host, error)
	// Composite says that the service answers from its branches alone, and opens
	// and keeps nothing: Explain runs it, and shows what it would call.
	Composite bool
}

// Embedding is what a service in the gateway's process gets.
type Embedding struct {
	// Config is the whole configuration.
	Config *configv1.Config
	// AssertionKeys verify the gateway's assertions. They change when the gateway's
	// keys are rotated.
	AssertionKeys func() []ed25519.PublicKey
	// Branches calls other services on behalf of the caller: for composites. It
	// may be used once the gateway serves.
	Branches upstream.Branches
	// Demo asks for demo data.
	Demo bool
	// Logger and Tracer are the gateway's.
	Logger *slog.Logger
	Tracer trace.TracerProvider
}

// Place says where in the request path a team's own check runs.
type Place int

// The places, see chain.go.
const (
	// AfterAuthentication checks know who calls; nothing has been decided yet.
	AfterAuthentication Place = iota
	// AfterAuthorization checks see only callers with the scopes.
	AfterAuthorization
	// AtEntry checks see the message that is about to be sent (Call.Message), those
	// of the branches of composites always as Wire. Wire is lent: valid until the call
	// is done (on a stream, until the check returns). Clone it to keep it.
	AtEntry
)

// Option adds to a gateway.
type Option func(*options)

type options struct {
	services []Service
	plain    []HTTPService
	checks   map[Place]policy.Chain
	http     []func(http.Handler) http.Handler
	unary    []grpc.UnaryServerInterceptor
	stream   []grpc.StreamServerInterceptor
	document []byte
	title    string
	demo     bool
	logger   *slog.Logger
	getenv   func(string) string
	onReady  func(*Gateway)
	source   config.Source
	socket   func(ctx context.Context, name, addr string) (net.Listener, error)
	explain  *recorder // set by Explain: nothing leaves the process
	// tlsRefresh is how often the listeners' files are looked at; 0 means as tlsfile does.
	tlsRefresh time.Duration
}

func newOptions(opts []Option) *options {
	o := &options{checks: map[Place]policy.Chain{}, getenv: os.Getenv}
	o.socket = func(ctx context.Context, _, addr string) (net.Listener, error) {
		return listen.Socket(ctx, "tcp", addr)
	}
	for _, opt := range opts {
		opt(o)
	}
	return o
}

// WithServices offers services on both edges.
func WithServices(s ...Service) Option {
	return func(o *options) { o.services = append(o.services, s...) }
}

// WithCheck adds a check of a team's own to every call, both edges alike, and to
// the branches of composites (Call.Edge is policy.EdgeBranch there). The name
// appears in the access log and in sluice_denied_total.
func WithCheck(at Place, name string, c policy.Check) Option {
	return func(o *options) { o.checks[at] = append(o.checks[at], policy.Step{Name: name, Check: c}) }
}

// WithHTTPMiddleware wraps the REST edge; the first given is the outermost.
func WithHTTPMiddleware(m ...func(http.Handler) http.Handler) Option {
	return func(o *options) { o.http = append(o.http, m...) }
}

// WithInterceptors adds interceptors to the gRPC edge; messages are
// *wire.Frame there. Either may be nil.
func WithInterceptors(u grpc.UnaryServerInterceptor, s grpc.StreamServerInterceptor) Option {
	return func(o *options) {
		if u != nil {
			o.unary = append(o.unary, u)
		}
		if s != nil {
			o.stream = append(o.stream, s)
		}
	}
}

// WithDocs shows an OpenAPI document at /docs and /openapi.json.
func WithDocs(title string, document []byte) Option {
	return func(o *options) { o.title, o.document = title, document }
}

// WithDemo accepts tokens of the development key in the data directory, seeds
// demo data and switches on gRPC reflection. Never for production.
func WithDemo() Option { return func(o *options) { o.demo = true } }

// WithLogger replaces the logger that the configuration describes.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithGetenv replaces os.Getenv, for the OTEL_* variables.
func WithGetenv(f func(string) string) Option { return func(o *options) { o.getenv = f } }

// WithSource says where the configuration came from: Run follows it, and Reload
// reads it again. The caller closes it, after Run.
func WithSource(s config.Source) Option { return func(o *options) { o.source = s } }

// OnReady runs once the listeners accept connections.
func OnReady(f func(*Gateway)) Option { return func(o *options) { o.onReady = f } }

// WithSockets replaces how the listening sockets are opened: name is http, grpc
// or admin, addr the configured host:port. The gateway bounds and closes what it
// gets. See handover.Process.Listen.
func WithSockets(open func(ctx context.Context, name, addr string) (net.Listener, error)) Option {
	return func(o *options) { o.socket = open }
}
