package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/tlsfile"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// place is where the calls of a service, of a canary or of a shadow go: what the
// configuration says of it.
type place struct {
	service   string // full name
	variant   string // canary's name; empty for the service itself
	target    string
	endpoints []*configv1.Endpoint
	tls       *configv1.Tls
	balancing *configv1.Balancing
	health    *configv1.GrpcHealthCheck
	outlier   *configv1.Outlier
	of        *configv1.Upstream // what the service, its canaries and its shadow share
}

// remote connects to a place. Connections outlive reloads that do not change it.
func (s *snapshot) remote(p place) (upstream.Target, error) {
	found, err := s.discovery()
	if err != nil {
		return nil, err
	}
	from := []any{p.service, p.variant, p.target, &configv1.Upstream{Endpoints: p.endpoints, Tls: p.tls, Balancing: p.balancing, HealthCheck: p.health, Keepalive: p.of.GetKeepalive(), IdleTimeout: p.of.GetIdleTimeout()}, p.outlier, s.cfg.GetDiscovery()}
	var deadlines map[string]time.Duration
	if p.variant == "" { // A canary's calls, and a shadow's, are bounded by a context.
		deadlines = upstream.Deadlines(s.catalogue, p.service)
		from = append(from, deadlines)
	}
	return part(s, "upstream", from, func(r prometheus.Registerer) (upstream.Target, func() error, error) {
		// One process may serve several services: without their names its series would meet, and /metrics fail.
		r = prometheus.WrapRegistererWith(prometheus.Labels{"service": p.service, "variant": p.variant}, r)
		o := upstream.RemoteOptions{
			Target: p.target, Endpoints: backends(p.endpoints), Discovery: found, Log: s.log, Metrics: s.backendMetrics(),
			Balancing: upstream.BalancingOptions{Policy: p.balancing.GetPolicy(), SlowStart: p.balancing.GetSlowStart().AsDuration()},
			Outlier:   outlierOptions(p.outlier), Deadlines: deadlines,
			Keepalive: upstream.KeepaliveOptions{Time: p.of.GetKeepalive().GetTime().AsDuration(), Timeout: p.of.GetKeepalive().GetTimeout().AsDuration(),
				PermitWithoutStream: p.of.GetKeepalive().GetPermitWithoutStream()},
			IdleTimeout: p.of.GetIdleTimeout().AsDuration(),
		}
		if p.health != nil {
			o.HealthCheck = &upstream.HealthCheckOptions{Service: p.health.GetService()}
		}
		if t := p.tls; t != nil {
			o.TLS = &upstream.TLSOptions{CAFile: t.GetCaFile(), CertFile: t.GetCertFile(), KeyFile: t.GetKeyFile(), ServerName: t.GetServerName(), Log: s.log, Metrics: r}
		}
		return closed(upstream.Remote(o))
	})
}

func backends(from []*configv1.Endpoint) []discovery.Backend {
	var out []discovery.Backend
	for _, e := range from {
		out = append(out, discovery.Backend{Addr: e.GetAddress(), Weight: int(e.GetWeight())})
	}
	return out
}

// backendMetrics count the backends of all targets together: several services may have
// one, and so may the snapshot before while it drains.
func (s *snapshot) backendMetrics() *balance.Metrics { return balance.NewMetrics(s.metrics.Registry()) }

// discovery looks targets up. It outlives reloads that do not change it.
func (s *snapshot) discovery() (*discovery.Registry, error) {
	c := s.cfg.GetDiscovery()
	return part(s, "discovery", []any{c}, func(r prometheus.Registerer) (*discovery.Registry, func() error, error) {
		o := discovery.Options{DNSInterval: c.GetDnsInterval().AsDuration(), Log: s.log, Metrics: r}
		var closers []func() error
		if e := c.GetEtcd(); e != nil {
			conf, closer, err := clientTLS(e.GetTls(), "discovery.etcd")
			if err != nil {
				return nil, nil, err
			}
			closers = append(closers, closer)
			o.Etcd = &discovery.EtcdOptions{Endpoints: e.GetEndpoints(), TLS: conf, Username: e.GetUsername(), PasswordFile: e.GetPasswordFile(), Prefix: e.GetPrefix()}
		}
		if k := c.GetConsul(); k != nil {
			conf, closer, err := clientTLS(k.GetTls(), "discovery.consul")
			if err != nil {
				return nil, nil, err
			}
			closers = append(closers, closer)
			o.Consul = &discovery.ConsulOptions{Address: k.GetAddress(), TLS: conf, TokenFile: k.GetTokenFile(), Datacenter: k.GetDatacenter()}
		}
		found, err := discovery.New(o)
		if err != nil {
			return nil, nil, fmt.Errorf("discovery: %w", err)
		}
		return found, func() error {
			errs := []error{found.Close()}
			for _, c := range closers {
				errs = append(errs, c())
			}
			return errors.Join(errs...)
		}, nil
	})
}

// clientTLS reads the files of a client; nil without any.
func clientTLS(t *configv1.Tls, name string) (*tls.Config, func() error, error) {
	if t == nil {
		return nil, func() error { return nil }, nil
	}
	c, err := tlsfile.Client(tlsfile.ClientOptions{CAFile: t.GetCaFile(), CertFile: t.GetCertFile(), KeyFile: t.GetKeyFile(), ServerName: t.GetServerName(), Name: name})
	if err != nil {
		return nil, nil, fmt.Errorf("%s.tls: %w", name, err)
	}
	return c.Config(), c.Close, nil
}

// resilience keeps what is known of a service over reloads: they change its
// settings, once they are in force.
func (s *snapshot) resilience(name, variant string, c *configv1.Resilience) (*resilience.Service, error) {
	o := resilience.Options{
		Name: name, Variant: variant,
		Breaker: resilience.BreakerOptions{
			Off: c.GetBreaker().GetOff(), Window: c.GetBreaker().GetWindow().AsDuration(), MinRequests: int(c.GetBreaker().GetMinRequests()),
			FailurePercent: int(c.GetBreaker().GetFailurePercent()), OpenFor: c.GetBreaker().GetOpenFor().AsDuration(),
			Probes: int(c.GetBreaker().GetProbes()), Successes: int(c.GetBreaker().GetSuccesses()),
		},
		Concurrency: resilience.ConcurrencyOptions{
			Off: c.GetConcurrency().GetOff(), Min: int(c.GetConcurrency().GetMin()), Max: int(c.GetConcurrency().GetMax()), Initial: int(c.GetConcurrency().GetInitial()),
		},
		Budget: resilience.BudgetOptions{Off: c.GetRetryBudget().GetOff(), Percent: int(c.GetRetryBudget().GetPercent()), MinPerSecond: int(c.GetRetryBudget().GetMinPerSecond())},
		OnChange: func(c resilience.Change) {
			s.log.Warn("breaker", "service", c.Service, "variant", c.Variant, "class", c.Class, "from", c.From, "to", c.To)
		},
	}
	service, err := part(s, "resilience", []any{name, variant}, func(r prometheus.Registerer) (*resilience.Service, func() error, error) {
		o.Metrics = r
		made, err := resilience.NewService(o)
		if err != nil {
			return nil, nil, err
		}
		return made, func() error { made.Close(); return nil }, nil
	})
	if err != nil {
		return nil, err
	}
	s.inForce = append(s.inForce, func() { service.Update(o) })
	s.services = append(s.services, known{name, variant, service})
	return service, nil
}

// called is where a service, or a canary of it, runs.
type called struct {
	service, variant string
	target           upstream.Target
}

// known is a service with what is known of it, for operators.
type known struct {
	name, variant string
	*resilience.Service
}

func outlierOptions(c *configv1.Outlier) resilience.OutlierOptions {
	return resilience.OutlierOptions{
		Off: c.GetOff(), ConsecutiveFailures: int(c.GetConsecutiveFailures()), BaseEjection: c.GetBaseEjection().AsDuration(),
		MaxEjection: c.GetMaxEjection().AsDuration(), MaxEjectedPercent: int(c.GetMaxEjectedPercent()),
	}
}

// serviceOptions are what stands between callers and a service. Composites are made
// of calls that have it each.
func (s *snapshot) serviceOptions(svc Service) (o upstream.ServiceOptions, err error) {
	name := string(svc.Descriptor.FullName())
	if svc.Composite || s.o.explain != nil {
		return o, nil
	}
	u, c := s.cfg.GetUpstreams()[name], s.cfg.GetResilience()
	if u != nil {
		c = u.GetResilience()
	}
	if o.Resilience, err = s.resilience(name, "", c); err != nil {
		return o, err
	}
	if o.Faults, err = faults(c.GetFaults()); err != nil {
		return o, err
	}
	for _, k := range u.GetCanaries() {
		canary, err := s.canary(name, k, u)
		if err != nil {
			return o, fmt.Errorf("canaries: %s: %w", k.GetName(), err)
		}
		o.Canaries = append(o.Canaries, canary)
	}
	if sh := u.GetShadow(); sh != nil {
		t, err := s.remote(place{service: name, variant: "shadow", target: sh.GetTarget(), endpoints: sh.GetEndpoints(), tls: sh.GetTls(), balancing: u.GetBalancing(), outlier: c.GetOutlier(), of: u})
		if err != nil {
			return o, fmt.Errorf("shadow: %w", err)
		}
		o.Shadow = &upstream.Shadow{Target: t, Percent: sh.GetPercent(), Methods: sh.GetMethods(), MaxInFlight: int(sh.GetMaxInFlight())}
	}
	return o, nil
}

func (s *snapshot) canary(name string, k *configv1.Canary, u *configv1.Upstream) (c upstream.Canary, err error) {
	c = upstream.Canary{Name: k.GetName(), Percent: k.GetPercent(), PerRequest: k.GetBy() == "request", Methods: k.GetMethods()}
	c.Target, err = s.remote(place{service: name, variant: k.GetName(), target: k.GetTarget(), endpoints: k.GetEndpoints(), tls: k.GetTls(),
		balancing: u.GetBalancing(), health: u.GetHealthCheck(), outlier: u.GetResilience().GetOutlier(), of: u})
	if err != nil {
		return c, err
	}
	s.called = append(s.called, called{name, k.GetName(), c.Target})
	if c.Resilience, err = s.resilience(name, k.GetName(), u.GetResilience()); err != nil {
		return c, err
	}
	for _, m := range k.GetMatch() {
		c.Match = append(c.Match, upstream.CanaryMatch{Header: m.GetHeader(), Cookie: m.GetCookie(), Value: m.GetValue()})
	}
	return c, nil
}

func faults(from []*configv1.Fault) ([]upstream.Fault, error) {
	var out []upstream.Fault
	for i, f := range from {
		fault := upstream.Fault{Delay: f.GetDelay().AsDuration(), Percent: f.GetPercent(), Header: f.GetHeader(), Value: f.GetValue(), Methods: f.GetMethods()}
		if a := f.GetAbort(); a != "" {
			c, err := policy.ParseCode(a)
			if err != nil {
				return nil, fmt.Errorf("resilience.faults[%d].abort: %w", i, err)
			}
			fault.Abort = c
		} else {
			fault.Abort = codes.OK
		}
		out = append(out, fault)
	}
	return out, nil
}

// methodHeaders compiles the header rules of methods. The error joins all that is
// wrong.
func (s *snapshot) methodHeaders() (map[string]upstream.MethodHeaders, error) {
	out, secret := map[string]upstream.MethodHeaders{}, []string{s.cfg.GetAuth().GetApiKeys().GetHeader()}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.cfg.GetMethods())) {
		m := s.cfg.GetMethods()[name]
		var h upstream.MethodHeaders
		var err error
		if r := m.GetRequestHeaders(); r != nil {
			if h.Request, err = headers.Compile(headerRules(r), headers.Scope{GRPC: true, Secret: secret}); err != nil {
				errs = append(errs, fmt.Errorf("methods: %s: request_headers: %w", name, err))
			}
		}
		if r := m.GetResponseHeaders(); r != nil {
			if h.Response, err = headers.Compile(headerRules(r), headers.Scope{GRPC: true, Response: true, Secret: secret}); err != nil {
				errs = append(errs, fmt.Errorf("methods: %s: response_headers: %w", name, err))
			}
		}
		if h != (upstream.MethodHeaders{}) {
			out["/"+name] = h
		}
	}
	return out, errors.Join(errs...)
}

// passes compiles what methods let pass beside their messages, by full name. The error
// joins all that is wrong.
func (s *snapshot) passes() (map[string]*headers.Pass, error) {
	out := map[string]*headers.Pass{}
	var errs []error
	for _, m := range s.catalogue.Methods() {
		p, err := headers.CompilePass(m.Method, s.cfg.GetAuth().GetApiKeys().GetHeader())
		if err == nil {
			h := s.cfg.GetMethods()[m.FullName[1:]]
			passRequest, passResponse := p.Names()
			err = errors.Join(twice(m.Method, "request", passRequest, h.GetRequestHeaders()), twice(m.Method, "response", passResponse, h.GetResponseHeaders()))
		}
		errs, out[m.FullName] = append(errs, err), p
	}
	return out, errors.Join(errs...)
}

// twice refuses what passes and is set by a rule as well: a caller could stand where the
// gateway should, and a service's value beside the operator's.
func twice(m *policy.Method, list string, passes []string, rules *configv1.HeaderRules) error {
	var errs []error
	for _, names := range []map[string]string{rules.GetSet(), rules.GetAdd()} {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if slices.Contains(passes, strings.ToLower(name)) {
				errs = append(errs, fmt.Errorf("methods: %s: metadata.%s and %s_headers both name %q", m.FullName[1:], list, list, name))
			}
		}
	}
	return errors.Join(errs...)
}

func headerRules(c *configv1.HeaderRules) headers.Rules {
	return headers.Rules{Set: c.GetSet(), Add: c.GetAdd(), Remove: c.GetRemove()}
}
