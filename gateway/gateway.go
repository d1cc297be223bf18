package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/clientaddr"
	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/portal"
	"github.com/sluice-gateway/sluice/gateway/rest"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/tlsfile"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// flushTimeout bounds the sending of the last spans.
const flushTimeout = 5 * time.Second

// Gateway is a built gateway: New makes it, Run runs it once.
type Gateway struct {
	cfg    *configv1.Config
	o      *options
	log    *slog.Logger
	output *telemetry.Output // where log writes; nil with a logger that was given
	rest   *rest.Server
	rpc    *rpc.Server

	admin   http.Handler
	methods *policy.Table
	limits  *limit.Limiter
	// checkStandIn says what is wrong with the limit class of a credential.
	checkStandIn func(class string) error
	quotas       *quotaUsage   // nil without quotas
	keys         *auth.APIKeys // nil without API keys
	client       *clientaddr.Resolver
	metrics      *telemetry.Metrics
	httpTLS      *tlsfile.ServerTLS // nil means plaintext
	grpcTLS      *tlsfile.ServerTLS
	upstream     *upstream.Conn
	devKey       *auth.DevKey
	addrs        Addrs
	closers      []func() error
	draining     atomic.Bool
}

// New builds a gateway from a complete configuration (config.Load). Whatever is
// wrong stops it here: a method without a rule, colliding routes, a target that
// cannot be parsed, a generated handler that calls another method than its
// route names, no issuer of tokens. Nothing listens yet.
func New(cfg *configv1.Config, opts ...Option) (*Gateway, error) {
	g := &Gateway{cfg: cfg, o: newOptions(opts)}
	if g.log = g.o.logger; g.log == nil {
		g.output = telemetry.NewOutput(os.Stderr)
		g.onClose(g.output.Close) // The last thing that is done.
		g.log = newLogger(cfg.GetLog(), g.output)
	}
	if err := g.build(context.Background()); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// build puts the parts together, from the inside out.
func (g *Gateway) build(ctx context.Context) error {
	tracers, flush, err := telemetry.Tracing(ctx, "sluice", g.o.getenv)
	if err != nil {
		return err
	}
	g.onClose(func() error {
		// A collector that hangs must not hold up the end: what it has not taken by
		// then is lost.
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := flush(ctx); err != nil {
			g.log.Warn("not all traces could be sent", "error", err)
		}
		return nil
	})
	if g.methods, err = g.rules(); err != nil {
		return err
	}
	g.metrics = telemetry.NewMetrics()
	if g.limits, err = g.limiter(ctx); err != nil {
		return err
	}
	authenticator, err := g.authenticator()
	if err != nil {
		return err
	}
	signer, err := g.signer()
	if err != nil {
		return err
	}
	if err := g.connect(ctx, signer, tracers); err != nil {
		return err
	}
	t := telemetry.New(g.observe(tracers.Tracer("sluice")))
	arrival := g.o.explain.watch(phaseArrival, arrivalChain(g.limits))
	edge := g.o.explain.watch(phaseEdge, edgeChain(authenticator, g.limits, g.o))
	g.client = g.clientResolver()
	if err := g.tls(); err != nil {
		return err
	}
	if err := g.buildREST(t, arrival, edge); err != nil {
		return err
	}
	g.buildRPC(t, arrival, edge)
	pages := admin.Options{Ready: g.ready, Metrics: g.metrics.Handler(), Routes: g.Routes, Addr: g.cfg.GetAdmin().GetAddr()}
	if g.quotas != nil {
		pages.Usage = g.quotas.top
	}
	g.admin = admin.New(pages)
	return nil
}

func (g *Gateway) rules() (*policy.Table, error) {
	if len(g.o.services) == 0 {
		return nil, errors.New("no services: register some with gateway.WithServices")
	}
	d := g.cfg.GetDefaults()
	overrides := map[string]policy.Override{}
	for name, m := range g.cfg.GetMethods() {
		overrides[name] = policy.Override{
			Deadline:        m.GetDeadline().AsDuration(),
			StreamIdle:      m.GetStreamIdle().AsDuration(),
			StreamMaxAge:    m.GetStreamMaxAge().AsDuration(),
			MaxRequestBytes: m.GetMaxRequestBytes(),
			LimitClass:      m.GetLimitClass(),
			LimitCost:       int(m.GetLimitCost()),
			Retry:           m.GetRetry(),
			Cache:           m.GetCache(),
			NoCache:         m.GetCacheOff(),
			BranchShare:     int(m.GetBranchSharePercent()),
		}
	}
	return policy.NewTable(g.descriptors(), policy.Defaults{
		Deadline:        d.GetDeadline().AsDuration(),
		StreamIdle:      d.GetStreamIdle().AsDuration(),
		StreamMaxAge:    d.GetStreamMaxAge().AsDuration(),
		MaxRequestBytes: d.GetMaxRequestBytes(),
	}, overrides)
}

func (g *Gateway) descriptors() []protoreflect.ServiceDescriptor {
	var out []protoreflect.ServiceDescriptor
	for _, s := range g.o.services {
		out = append(out, s.Descriptor)
	}
	return out
}

// signer signs with the keys of a file that is read again when it changes.
func (g *Gateway) signer() (*auth.Signer, error) {
	file := g.cfg.GetAssertion().GetKeyFile()
	if file == "" {
		file = filepath.Join(g.cfg.GetDataDir(), "assertion-key.pem")
	}
	s, err := auth.OpenSigner(file, g.cfg.GetAssertion().GetTtl().AsDuration())
	if err != nil {
		return nil, err
	}
	s.Watch(0, g.log)
	g.onClose(func() error { s.Close(); return nil })
	return s, nil
}

// connect gives every service a target and builds the connection to them.
func (g *Gateway) connect(ctx context.Context, signer *auth.Signer, tracers trace.TracerProvider) error {
	late := &lateConn{}
	targets := map[string]upstream.Target{}
	if err := g.checkUpstreams(); err != nil {
		return err
	}
	for _, s := range g.o.services {
		name := string(s.Descriptor.FullName())
		t, err := g.target(ctx, s, Embedding{
			Config: g.cfg, AssertionKeys: signer.PublicKeys, Branches: late, Demo: g.o.demo, Logger: g.log, Tracer: tracers,
		})
		if err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		g.onClose(t.Close)
		targets[name] = t
	}
	conn, err := upstream.New(upstream.Options{
		Methods: g.methods, Targets: targets,
		Entry: g.o.explain.watch(phaseEntry, entryChain(g.o)), Branch: g.o.explain.watch(phaseBranch, branchChain(g.o)),
		Signer: signer, Logger: g.log, Tracer: tracers.Tracer("sluice/upstream"), Observer: g.metrics,
	})
	if err != nil {
		return err
	}
	late.ClientConnInterface = conn.Branches()
	g.upstream = conn
	return nil
}

// target is where a service runs: where the configuration says, else here.
func (g *Gateway) target(ctx context.Context, s Service, e Embedding) (upstream.Target, error) {
	if g.o.explain != nil {
		return g.o.explain.target(ctx, g, s, e)
	}
	if u := g.cfg.GetUpstreams()[string(s.Descriptor.FullName())]; u != nil {
		return upstream.Remote(g.remoteOptions(u))
	}
	if s.Embed == nil {
		return nil, errors.New("it cannot run in this process: name its target under upstreams")
	}
	host, err := s.Embed(ctx, e)
	if err != nil {
		return nil, err
	}
	if host.Logger == nil {
		host.Logger = g.log
	}
	return upstream.InProcess(host), nil
}

func (g *Gateway) remoteOptions(u *configv1.Upstream) upstream.RemoteOptions {
	o := upstream.RemoteOptions{Target: u.GetTarget()}
	if t := u.GetTls(); t != nil {
		o.TLS = &upstream.TLSOptions{CAFile: t.GetCaFile(), CertFile: t.GetCertFile(), KeyFile: t.GetKeyFile(), ServerName: t.GetServerName(), Log: g.log, Metrics: g.metrics.Registry()}
	}
	return o
}

// lateConn is filled once the connection exists: composites are part of it and
// call it.
type lateConn struct{ grpc.ClientConnInterface }

func (g *Gateway) buildREST(t *telemetry.Telemetry, arrival, edge policy.Chain) error {
	c := g.cfg.GetHttp()
	o := rest.Options{
		Methods: g.methods, Conn: g.upstream, Arrival: arrival, Edge: edge, Client: g.client.Client, Telemetry: t,
		Denied: g.metrics.Denied, Refused: g.metrics.Refused,
		ResponseMetadata: upstream.ResponseMetadata, Logger: g.log, Middlewares: g.o.http,
		ReadTimeout: c.GetReadTimeout().AsDuration(), MaxHeaders: int(c.GetMaxHeaders()),
		MaxQueryParameters: int(c.GetMaxQueryParameters()), MaxJSONDepth: int(c.GetMaxJsonDepth()),
		MaxConnectionAge: c.GetMaxConnectionAge().AsDuration(), HSTSMaxAge: c.GetHstsMaxAge().AsDuration(), CORS: g.corsOptions(),
		APIKeyHeader: g.cfg.GetAuth().GetApiKeys().GetHeader(),
		Compression:  rest.CompressionOptions{Off: c.GetCompression().GetOff(), MinBytes: int(c.GetCompression().GetMinBytes())},
	}
	for _, s := range g.o.services {
		o.Services = append(o.Services, rest.Service{Name: string(s.Descriptor.FullName()), Register: s.Handlers})
	}
	if g.o.document != nil {
		docs, err := portal.New(portal.Options{Title: g.o.title, Document: g.o.document})
		if err != nil {
			return err
		}
		pages := http.Handler(docs)
		if !o.Compression.Off { // Pages and scripts compress to a quarter.
			pages = gzhttp.GzipHandler(docs)
		}
		o.Mounts = []rest.Mount{{Path: portal.DocsPath, Handler: pages}, {Path: portal.DocsPath + "/", Handler: pages}, {Path: portal.DocumentPath, Handler: pages}}
	}
	var err error
	g.rest, err = rest.New(o)
	return err
}

func (g *Gateway) buildRPC(t *telemetry.Telemetry, arrival, edge policy.Chain) {
	c := g.cfg.GetGrpc()
	o := rpc.Options{
		Methods: g.methods, Services: g.descriptors(), Conn: g.upstream, Arrival: arrival, Edge: edge, Client: g.client.Client, Telemetry: t,
		Denied: g.metrics.Denied, Refused: g.metrics.Refused,
		ResponseMetadata: upstream.ResponseMetadata, Logger: g.log,
		Reflection: c.GetReflection() || g.o.demo, MaxConcurrentStreams: c.GetMaxConcurrentStreams(), MaxMetadataBytes: c.GetMaxMetadataBytes(),
		IdleTimeout: c.GetIdleTimeout().AsDuration(), MaxConnectionAge: c.GetMaxConnectionAge().AsDuration(),
		// A client that checks health is for a moment without when its watch ends, so
		// that is when its connection does; the number of watches is bounded.
		HealthWatchTime: c.GetMaxConnectionAge().AsDuration(),
		Unary:           g.o.unary, Stream: g.o.stream,
	}
	if g.grpcTLS != nil {
		o.TLS = g.grpcTLS.Config("h2")
	}
	g.rpc = rpc.New(o)
}

func (g *Gateway) onClose(f func() error) { g.closers = append(g.closers, f) }

// close releases what build took, the last first.
func (g *Gateway) close() error {
	var errs []error
	for i := len(g.closers) - 1; i >= 0; i-- {
		errs = append(errs, g.closers[i]())
	}
	g.closers = nil
	return errors.Join(errs...)
}

// Logger is the gateway's, for the program that runs it: its lines stand among the
// gateway's own.
func (g *Gateway) Logger() *slog.Logger { return g.log }

// observe says how requests are observed. The access log goes where all other
// lines go, of level info.
func (g *Gateway) observe(tracer trace.Tracer) telemetry.Options {
	o := telemetry.Options{Metrics: g.metrics, Tracer: tracer, Sparse: stepAddress}
	switch {
	case g.cfg.GetLog().GetAccessOff() || !g.log.Enabled(context.Background(), slog.LevelInfo):
	case g.output != nil:
		o.Output = g.output
	default:
		o.Access = g.log
	}
	return o
}

func newLogger(c *configv1.Log, w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(c.GetLevel())); err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}
