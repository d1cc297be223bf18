package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
)

// HTTPService is a service in plain HTTP that the gateway runs itself in a
// demonstration, where the configuration names no upstream of its name.
type HTTPService struct {
	// Name is the upstream's: what assertions are for.
	Name string
	// Routes are those that lead to it.
	Routes []*configv1.HttpRoute
	// Embed opens it; close ends it.
	Embed func(ctx context.Context, e Embedding) (h http.Handler, close func() error, err error)
}

// WithHTTPServices shows services in plain HTTP, with WithDemo.
func WithHTTPServices(s ...HTTPService) Option {
	return func(o *options) { o.plain = append(o.plain, s...) }
}

// httpRoutes opens the plain HTTP routes of the configuration, where there are some.
// Upstreams are parts: their connections, breakers and outliers outlive a reload.
func (s *snapshot) httpRoutes(ctx context.Context, signer proxy.Signer) error {
	routes, upstreams, err := s.plainServices(ctx)
	if err != nil || len(routes)+len(upstreams) == 0 {
		return err
	}
	o := s.proxyOptions()
	o.Upstreams, o.Entry, o.Signer, o.Cache = map[string]proxy.Upstream{}, s.o.explain.watch(phaseEntry, entryChain(s.o)), signer, s.cache
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(upstreams)) {
		if o.Upstreams[name], err = httpUpstream(upstreams[name]); err != nil {
			errs = append(errs, fmt.Errorf("http_upstreams.%s: %w", name, err))
		}
	}
	for _, r := range routes {
		o.Routes = append(o.Routes, s.httpRoute(r))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	o.Open = func(name string, u proxy.Upstream) (*proxy.Service, error) {
		return s.openHTTP(name, u, upstreams[name])
	}
	p, err := proxy.New(o)
	if err != nil {
		return err
	}
	s.onClose(func() error {
		s.metrics.Forget(p.Methods())
		return p.Close()
	})
	s.proxy = p
	return s.checkHTTPClasses(p.Methods())
}

// plainServices are the routes and upstreams of the configuration and, in a
// demonstration, those that run here.
func (s *snapshot) plainServices(ctx context.Context) ([]*configv1.HttpRoute, map[string]*configv1.HttpUpstream, error) {
	routes, upstreams := slices.Clone(s.cfg.GetHttpRoutes()), map[string]*configv1.HttpUpstream{}
	maps.Copy(upstreams, s.cfg.GetHttpUpstreams())
	d := s.cfg.GetDefaults()
	for _, p := range s.o.plain {
		if !s.o.demo || upstreams[p.Name] != nil {
			continue
		}
		u := &configv1.HttpUpstream{}
		upstreams[p.Name] = u
		if s.o.explain == nil {
			var err error
			if u.Target, err = s.embedHTTP(ctx, p); err != nil {
				return nil, nil, fmt.Errorf("http service %s: %w", p.Name, err)
			}
		}
		for _, r := range p.Routes {
			r = proto.CloneOf(r)
			r.Deadline, r.StreamIdle = firstDuration(r.GetDeadline(), d.GetDeadline()), firstDuration(r.GetStreamIdle(), d.GetStreamIdle())
			r.MaxRequestBytes = cmp.Or(r.GetMaxRequestBytes(), d.GetMaxRequestBytes())
			routes = append(routes, r)
		}
	}
	return routes, upstreams, nil
}

func firstDuration(own, otherwise *durationpb.Duration) *durationpb.Duration {
	if own != nil {
		return own
	}
	return otherwise
}

func (s *snapshot) proxyOptions() proxy.Options {
	return proxy.Options{
		APIKeyHeader: s.cfg.GetAuth().GetApiKeys().GetHeader(), Observer: s.metrics, Tracer: s.gateway.tracers.Tracer("sluice/proxy"),
		Watch: s.gateway.openCalls.Watch, Logger: s.log, Offline: s.o.explain != nil, Counters: s.metrics.Registry(),
	}
}

// openHTTP opens an upstream, or takes that of the snapshot before. What is known of
// it (breakers, budgets) outlives more: a change of its settings, too.
func (s *snapshot) openHTTP(name string, u proxy.Upstream, c *configv1.HttpUpstream) (*proxy.Service, error) {
	o := s.proxyOptions()
	if s.o.explain == nil {
		var err error
		if o.Resolver, err = s.discovery(); err != nil {
			return nil, err
		}
		if u.Target.Service, err = s.resilience(name, "", c.GetResilience()); err != nil {
			return nil, err
		}
		for i := range u.Canaries {
			if u.Canaries[i].Target.Service, err = s.resilience(name, u.Canaries[i].Name, c.GetResilience()); err != nil {
				return nil, err
			}
		}
	}
	key := proto.CloneOf(c)
	key.Resilience = &configv1.Resilience{Outlier: c.GetResilience().GetOutlier()}
	svc, err := part(s, "http_upstream", []any{name, key, s.cfg.GetDiscovery()}, func(r prometheus.Registerer) (*proxy.Service, func() error, error) {
		o.Metrics, o.Balance = r, s.backendMetrics()
		svc, err := proxy.Open(name, u, o)
		if err != nil {
			return nil, nil, err
		}
		return svc, svc.Close, nil
	})
	if err != nil {
		return nil, err
	}
	if s.plain == nil {
		s.plain = map[string]*proxy.Service{}
	}
	s.plain[name] = svc
	return svc, nil
}

// embedHTTP runs an embedded service on a port of loopback: WebSockets need a
// connection of their own.
func (s *snapshot) embedHTTP(ctx context.Context, p HTTPService) (string, error) {
	return part(s, "embedded_http", []any{p.Name}, func(prometheus.Registerer) (string, func() error, error) {
		h, closer, err := p.Embed(ctx, s.embedding())
		if err != nil {
			return "", nil, err
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", nil, errors.Join(err, closer())
		}
		srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := served(srv.Serve(l)); err != nil {
				s.log.Error("an embedded service ended", "service", p.Name, "error", err)
			}
		}()
		return l.Addr().String(), func() error {
			err := srv.Close()
			<-done
			return errors.Join(err, closer())
		}, nil
	})
}

// dearestHTTP is the greatest cost of a plain HTTP route that has a class: those of
// credentials must hold it, as they must hold that of every rule.
func (s *snapshot) dearestHTTP() int {
	routes := slices.Clone(s.cfg.GetHttpRoutes())
	for _, p := range s.o.plain {
		if s.o.demo {
			routes = append(routes, p.Routes...)
		}
	}
	most := 1
	for _, r := range routes {
		if l := r.GetLimit(); l.GetClass() != "" {
			most = max(most, int(l.GetCost()))
		}
	}
	return most
}

// checkHTTPClasses refuses routes that name a limit class that is not there, or cost
// more than it can hold.
func (s *snapshot) checkHTTPClasses(methods []*policy.Method) error {
	var errs []error
	for _, m := range methods {
		if m.Rule.LimitClass == "" {
			continue
		}
		if err := s.limits.Check(m.Rule.LimitClass, m.Rule.LimitCost); err != nil {
			errs = append(errs, fmt.Errorf("http_routes: %s: limit: %w", m.FullName[len("/http/"):], err))
		}
	}
	return errors.Join(errs...)
}

func httpUpstream(u *configv1.HttpUpstream) (proxy.Upstream, error) {
	r, b := u.GetResilience(), u.GetBalancing()
	out := proxy.Upstream{
		Policy: b.GetPolicy(), SlowStart: b.GetSlowStart().AsDuration(),
		Outlier: outlierOptions(r.GetOutlier()),
		Host:    u.GetHost(), UserID: u.GetUserIdHeader(), NoAssertion: u.GetNoAssertion(), IdleTimeout: u.GetIdleTimeout().AsDuration(),
	}
	if h := u.GetHealthCheck(); h != nil {
		out.Health = &proxy.HealthCheck{Path: h.GetPath(), Interval: h.GetInterval().AsDuration(), Timeout: h.GetTimeout().AsDuration(),
			UnhealthyAfter: int(h.GetUnhealthyAfter()), HealthyAfter: int(h.GetHealthyAfter())}
	}
	all, err := faults(r.GetFaults())
	if err != nil {
		return out, err
	}
	for i, f := range all {
		if len(f.Methods) > 0 {
			return out, fmt.Errorf("resilience.faults[%d]: methods are of RPCs, a plain HTTP service has none", i)
		}
		out.Faults = append(out.Faults, proxy.Fault{Delay: f.Delay, Abort: f.Abort, Percent: f.Percent, Header: f.Header, Value: f.Value})
	}
	out.Target = plainTarget(u)
	for _, c := range u.GetCanaries() {
		if len(c.GetMethods()) > 0 {
			return out, fmt.Errorf("canaries: %s: methods are of RPCs, a plain HTTP service has none", c.GetName())
		}
		k := proxy.Canary{Name: c.GetName(), Target: plainTarget(c), Percent: c.GetPercent(), ByRequest: c.GetBy() == "request"}
		for _, m := range c.GetMatch() {
			k.Match = append(k.Match, proxy.CanaryMatch{Header: m.GetHeader(), Cookie: m.GetCookie(), Value: m.GetValue()})
		}
		out.Canaries = append(out.Canaries, k)
	}
	if s := u.GetShadow(); s != nil {
		if len(s.GetMethods()) > 0 {
			return out, errors.New("shadow: methods are of RPCs, a plain HTTP service has none")
		}
		out.Shadow = &proxy.Shadow{Target: plainTarget(s), Percent: s.GetPercent(), MaxInFlight: int(s.GetMaxInFlight())}
	}
	return out, nil
}

// httpTargeted are the messages that say where requests go.
type httpTargeted interface {
	GetTarget() string
	GetEndpoints() []*configv1.Endpoint
	GetTls() *configv1.Tls
}

func plainTarget(t httpTargeted) proxy.Target {
	out := proxy.Target{Target: t.GetTarget(), Endpoints: backends(t.GetEndpoints())}
	if c := t.GetTls(); c != nil {
		out.TLS = &proxy.TLSOptions{CAFile: c.GetCaFile(), CertFile: c.GetCertFile(), KeyFile: c.GetKeyFile(), ServerName: c.GetServerName()}
	}
	return out
}

func (s *snapshot) httpRoute(r *configv1.HttpRoute) proxy.Route {
	m := r.GetMatch()
	out := proxy.Route{
		Name: r.GetName(), Upstream: r.GetUpstream(), WebSocket: r.GetWebsocket(),
		Match: proxy.Match{Hosts: m.GetHosts(), Prefix: m.GetPrefix(), Exact: m.GetExact(), Template: m.GetTemplate(), Regex: m.GetRegex(), Methods: m.GetMethods()},
		Rule: policy.HTTPOptions{Require: r.GetRequire(), Limit: r.GetLimit(), Idempotent: r.GetIdempotent(), Retry: r.GetRetry(), Cache: r.GetCache(),
			Deadline: r.GetDeadline().AsDuration(), StreamIdle: r.GetStreamIdle().AsDuration(),
			StreamMaxAge: s.cfg.GetDefaults().GetStreamMaxAge().AsDuration(), MaxRequestBytes: r.GetMaxRequestBytes()},
		Rewrite:        proxy.Rewrite{Prefix: r.GetRewrite().GetPrefix(), Regex: r.GetRewrite().GetRegex()},
		RequestHeaders: headerRules(r.GetRequestHeaders()), ResponseHeaders: headerRules(r.GetResponseHeaders()),
		RequestJSON: jsonRules(r.GetRequestJson()), ResponseJSON: jsonRules(r.GetResponseJson()),
	}
	for _, h := range m.GetHeaders() {
		out.Match.Headers = append(out.Match.Headers, proxy.HeaderMatch{Name: h.GetName(), Value: h.GetValue()})
	}
	return out
}

func jsonRules(r *configv1.JsonRules) proxy.JSONRules {
	return proxy.JSONRules{Set: r.GetSet(), Remove: r.GetRemove(), Rename: r.GetRename()}
}
