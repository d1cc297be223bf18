package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/clientaddr"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	"github.com/sluice-gateway/sluice/gateway/rest"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// snapshot is all that one configuration says of requests: rules, chains, routes,
// targets. It does not change once it is built. A request takes the current one and
// holds it to its end, so that it never sees half of a reload. What must outlive a
// reload is a part, see parts.go; what belongs to the process is the Gateway's.
type snapshot struct {
	gateway *Gateway
	cfg     *configv1.Config
	// Of the gateway.
	o       *options
	log     *slog.Logger
	metrics *telemetry.Metrics

	parts      []*sharedPart
	metricsOwn *prometheus.Registry // what the snapshot itself tells
	closers    []func() error
	closing    sync.Once

	catalogue *schema.Catalogue
	limits    *limit.Limiter
	// checkStandIn says what is wrong with the limit class of a credential.
	checkStandIn func(class string) error
	dearest      int           // the greatest cost of a rule
	patience     time.Duration // the most that an exchange which is no stream takes
	quotas       *quotaUsage   // nil without quotas
	keys         *auth.APIKeys // nil without API keys
	// authenticator is asked again about calls that stay open, those of snapshots
	// before it, too.
	authenticator *auth.Authenticator
	client        *clientaddr.Resolver
	upstream      *upstream.Conn
	cache         *cache.Cache      // nil where nothing is kept
	branches      upstream.Branches // what composites call
	proxy         *proxy.Proxy      // nil without routes to plain HTTP services
	targets       map[string]upstream.Target
	called        []called // for operators: targets, those of canaries too
	plain         map[string]*proxy.Service
	services      []known  // what is known of services, their canaries and plain HTTP upstreams
	inForce       []func() // what is done when the snapshot comes into force
	http          *httpedge.Server
	rest          *rest.Server
	rpc           *rpc.State
}

// newSnapshot builds a snapshot, or nothing.
func (g *Gateway) newSnapshot(ctx context.Context, cfg *configv1.Config) (*snapshot, error) {
	s := g.emptySnapshot(cfg)
	if err := s.build(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (g *Gateway) emptySnapshot(cfg *configv1.Config) *snapshot {
	return &snapshot{gateway: g, cfg: cfg, o: g.o, log: g.log, metrics: g.metrics, metricsOwn: prometheus.NewRegistry()}
}

// build puts the snapshot together, from the inside out.
func (s *snapshot) build(ctx context.Context) (err error) {
	if s.catalogue, err = s.readCatalogue(); err != nil {
		return err
	}
	s.patience = s.writeTimeout()
	if s.limits, err = s.limiter(ctx); err != nil {
		return err
	}
	if s.authenticator, err = s.newAuthenticator(ctx); err != nil {
		return err
	}
	signer, err := s.signer()
	if err != nil {
		return err
	}
	if err := s.connect(ctx, signer); err != nil {
		return err
	}
	if err := s.httpRoutes(ctx, signer); err != nil {
		return err
	}
	t := telemetry.New(s.observe(s.gateway.tracers.Tracer("sluice")))
	arrival := s.o.explain.watch(phaseArrival, arrivalChain(s.limits))
	edge := s.o.explain.watch(phaseEdge, edgeChain(s.authenticator, s.limits, s.o))
	s.client = s.clientResolver()
	if err := s.buildHTTP(t, arrival, edge); err != nil {
		return err
	}
	s.rpc = rpc.NewState(rpc.State{Catalogue: s.catalogue, Conn: s.upstream, Arrival: arrival, Edge: edge, Client: s.client.Client, Telemetry: t})
	return nil
}

// onClose adds what is released with the snapshot, before its parts.
func (s *snapshot) onClose(f func() error) { s.closers = append(s.closers, f) }

// close releases what build took, the last first. Nobody holds the snapshot.
func (s *snapshot) close() (err error) {
	s.closing.Do(func() {
		var errs []error
		for i := len(s.closers) - 1; i >= 0; i-- {
			errs = append(errs, s.closers[i]())
		}
		errs = append(errs, s.gateway.parts.release(s.parts))
		if s.catalogue != nil {
			s.metrics.Forget(s.catalogue.Rules())
		}
		err = errors.Join(errs...)
	})
	return err
}

func (s *snapshot) readCatalogue() (*schema.Catalogue, error) {
	if len(s.o.services) == 0 {
		return nil, errors.New("no services: register some with gateway.WithServices")
	}
	d := s.cfg.GetDefaults()
	overrides := map[string]policy.Override{}
	known := s.o.methods()
	var unknown []error
	for _, name := range slices.Sorted(maps.Keys(s.cfg.GetMethods())) {
		if !slices.Contains(known, name) {
			unknown = append(unknown, fmt.Errorf("methods: %s: %s", name, config.UnknownName("method", name, known)))
			continue
		}
		m := s.cfg.GetMethods()[name]
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
			Metadata:        m.GetMetadata(),

			UnauthenticatedByService: m.GetUnauthenticatedByService(),
		}
	}
	for _, sd := range s.o.descriptors() {
		if name := string(sd.FullName()); name == "grpc.health.v1.Health" || strings.HasPrefix(name, "grpc.reflection.") {
			unknown = append(unknown, fmt.Errorf("service %s: the gateway offers its own, by which calls would go past the rules of this one", name))
		}
	}
	c, err := schema.New(s.o.descriptors(), schema.Options{
		Defaults: policy.Defaults{
			Deadline:        d.GetDeadline().AsDuration(),
			StreamIdle:      d.GetStreamIdle().AsDuration(),
			StreamMaxAge:    d.GetStreamMaxAge().AsDuration(),
			MaxRequestBytes: d.GetMaxRequestBytes(),
		},
		Overrides: overrides, Linked: protoregistry.GlobalTypes,
	})
	if err == nil {
		err = s.checkCeilings(c)
	}
	return c, errors.Join(append(unknown, err)...)
}

// methods are the names of all methods, as the configuration writes them.
func (o *options) methods() (names []string) {
	for _, sd := range o.descriptors() {
		for i := range sd.Methods().Len() {
			names = append(names, string(sd.FullName())+"/"+string(sd.Methods().Get(i).Name()))
		}
	}
	return names
}

func (o *options) descriptors() []protoreflect.ServiceDescriptor {
	var out []protoreflect.ServiceDescriptor
	for _, s := range o.services {
		out = append(out, s.Descriptor)
	}
	return out
}

// signer signs with the keys of a file that is read again when it changes.
func (s *snapshot) signer() (*auth.Signer, error) {
	file, ttl := s.cfg.GetAssertion().GetKeyFile(), s.cfg.GetAssertion().GetTtl().AsDuration()
	if file == "" {
		file = filepath.Join(s.cfg.GetDataDir(), "assertion-key.pem")
	}
	return part(s, "assertion", []any{file, ttl}, func(prometheus.Registerer) (*auth.Signer, func() error, error) {
		signer, err := auth.OpenSigner(file, ttl)
		if err != nil {
			return nil, nil, err
		}
		signer.Watch(0, s.log)
		gone := s.gateway.signerLives(signer) // Services in this process verify by its keys.
		return signer, func() error { gone(); signer.Close(); return nil }, nil
	})
}

// connect gives every service a target and builds the connection to them.
func (s *snapshot) connect(ctx context.Context, signer *auth.Signer) error {
	if err := s.checkUpstreams(); err != nil {
		return err
	}
	s.targets = map[string]upstream.Target{}
	services := map[string]upstream.ServiceOptions{}
	for _, svc := range s.o.services {
		name := string(svc.Descriptor.FullName())
		t, err := s.target(ctx, svc)
		if err != nil {
			return fmt.Errorf("upstreams: %s: %w", name, err)
		}
		s.targets[name] = t
		s.called = append(s.called, called{name, "", t})
		if services[name], err = s.serviceOptions(svc); err != nil {
			return fmt.Errorf("upstreams: %s: %w", name, err)
		}
	}
	changes, err := s.methodHeaders()
	if err != nil {
		return err
	}
	pass, err := s.passes()
	if err != nil {
		return err
	}
	if s.cache, err = s.responseCache(); err != nil {
		return err
	}
	conn, err := upstream.New(upstream.Options{
		Catalogue: s.catalogue, Targets: s.targets, Services: services, Headers: changes, Pass: pass, Cache: s.cache, Metrics: s.metrics.Registry(),
		Entry: s.o.explain.watch(phaseEntry, entryChain(s.o)), Branch: s.o.explain.watch(phaseBranch, branchChain(s.o)),
		Signer: signer, Watch: s.gateway.openCalls.Watch, Logger: s.log, Tracer: s.gateway.tracers.Tracer("sluice/upstream"), Observer: s.metrics,
	})
	if err != nil {
		return err
	}
	s.upstream, s.branches = conn, conn.Branches()
	s.onClose(func() error { conn.Close(); return nil }) // Copies for shadows end before their targets.
	return nil
}

// target is where a service runs: where the configuration says, else here.
func (s *snapshot) target(ctx context.Context, svc Service) (upstream.Target, error) {
	name := string(svc.Descriptor.FullName())
	if s.o.explain != nil {
		t, err := s.o.explain.target(ctx, s, svc)
		if err == nil {
			s.onClose(t.Close)
		}
		return t, err
	}
	if u := s.cfg.GetUpstreams()[name]; u != nil {
		return s.remote(place{service: name, target: u.GetTarget(), endpoints: u.GetEndpoints(), tls: u.GetTls(), balancing: u.GetBalancing(), health: u.GetHealthCheck(),
			outlier: u.GetResilience().GetOutlier(), of: u})
	}
	if svc.Embed == nil {
		return nil, errors.New("it cannot run in this process: name its target under upstreams")
	}
	// A service in this process is opened once: what it was opened with needs a
	// restart, see restart.go.
	return part(s, "embedded", []any{name}, func(prometheus.Registerer) (upstream.Target, func() error, error) {
		host, err := svc.Embed(ctx, s.embedding())
		if err != nil {
			return nil, nil, err
		}
		if host.Logger == nil {
			host.Logger = s.log
		}
		return closed(upstream.InProcess(host), nil)
	})
}

// closed is a target with how to close it.
func closed(t upstream.Target, err error) (upstream.Target, func() error, error) {
	if err != nil {
		return nil, nil, err
	}
	return t, t.Close, nil
}

func (s *snapshot) embedding() Embedding {
	return Embedding{
		Config: s.cfg, AssertionKeys: s.gateway.assertionKeys, Branches: liveBranches{s.gateway},
		Demo: s.o.demo, Logger: s.log, Tracer: s.gateway.tracers,
	}
}

// observe says how requests are observed. The access log goes where all other
// lines go, of level info.
func (s *snapshot) observe(tracer trace.Tracer) telemetry.Options {
	o := telemetry.Options{Metrics: s.metrics, Tracer: tracer, Sparse: stepAddress, Recent: s.gateway.recent}
	switch {
	case s.cfg.GetLog().GetAccessOff() || !s.log.Enabled(context.Background(), slog.LevelInfo):
	case s.gateway.output != nil:
		o.Output = s.gateway.output
	default:
		o.Access = s.log
	}
	return o
}

// offers says whether a method is of this snapshot's catalogue, and not only of its name.
func (s *snapshot) offers(m *policy.Method) bool {
	have := s.catalogue.Method(m.FullName)
	return have != nil && have.Method == m
}
