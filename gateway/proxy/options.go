package proxy

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// Signer makes the assertion that tells a service who calls.
type Signer interface {
	Sign(p *policy.Principal, audience string) (string, error)
}

// Observer is told of every request that was sent, and of every refusal of the entry
// chain. Safe for concurrent use.
type Observer interface {
	UpstreamDone(m *policy.Method, target string, code codes.Code, took time.Duration, span trace.Span)
	Denied(check string, m *policy.Method)
}

// Resolver finds where a target's backends are; discovery.Registry is one.
type Resolver interface {
	Resolve(target string) (discovery.Resolver, error)
}

// Options of a Proxy. Upstreams, Routes and Signer are needed.
type Options struct {
	// Routes in their order: the first that matches counts.
	Routes []Route
	// Upstreams by name.
	Upstreams map[string]Upstream
	// Open opens an upstream, or returns what is open already, and who gave it closes
	// it; nil means that New opens them and Close closes them.
	Open func(name string, u Upstream) (*Service, error)
	// Entry are the checks on a request that is about to be sent.
	Entry policy.Chain
	// Signer signs who calls.
	Signer Signer
	// Watch has end called when the credentials of a call that stays open are not
	// accepted any more, until stop is called; nil means that nobody looks.
	Watch func(c *policy.Call, end func(error)) (stop func())
	// APIKeyHeader is the header of API keys, which services do not get; empty means
	// that there are none.
	APIKeyHeader string
	// Resolver looks targets up; nil means that only addresses and lists are targets.
	Resolver Resolver
	// Observer counts; nil means nobody.
	Observer Observer
	// Counters is where what is counted of all upstreams is registered, and found again
	// after a reload; nil means nowhere.
	Counters prometheus.Registerer
	// Balance and Metrics get what docs/balancing.md and docs/http.md name; nil means
	// nobody.
	Balance *balance.Metrics
	Metrics prometheus.Registerer
	// Tracer makes client spans; nil means none.
	Tracer trace.Tracer
	// Cache keeps the answers of routes whose rules say so; nil means that none are.
	Cache *cache.Cache
	// Offline looks nothing up and calls nobody: every request finds no backend.
	Offline bool
	// Logger gets what is kept from callers; nil means nobody.
	Logger *slog.Logger
}

// Route is a route to a plain HTTP service.
type Route struct {
	// Name is its label, Upstream one of Options.Upstreams.
	Name, Upstream string
	Match          Match
	// Rule is what it is held to; Variables are filled in here.
	Rule            policy.HTTPOptions
	Rewrite         Rewrite
	RequestHeaders  headers.Rules
	ResponseHeaders headers.Rules
	RequestJSON     JSONRules
	ResponseJSON    JSONRules
	// WebSocket upgrades are passed on.
	WebSocket bool
}

// Match says which requests take a route: all that is stated must hold, and of the
// four forms of paths one is stated.
type Match struct {
	// Hosts, or `*.` and a name for all its subdomains; none means any.
	Hosts []string
	// Prefix is whole segments, Exact all of a path, Template one of google.api.http,
	// Regex an RE2 expression that must match all of it.
	Prefix, Exact, Template, Regex string
	// Methods; none means any. GET means HEAD too.
	Methods []string
	// Headers must be there.
	Headers []HeaderMatch
}

// HeaderMatch is a request header; an empty Value means any.
type HeaderMatch struct{ Name, Value string }

// Rewrite says which path is sent.
type Rewrite struct {
	// Prefix stands in the place of Match.Prefix: `/` takes it off.
	Prefix string
	// Regex stands in the place of what Match.Regex matched, with $1 or ${name}.
	Regex string
}

// Upstream is a service that speaks plain HTTP.
type Upstream struct {
	Target
	// Policy and SlowStart are the balance.Options of the same names.
	Policy    string
	SlowStart time.Duration
	Outlier   resilience.OutlierOptions
	// Health asks each backend whether it serves; nil means not.
	Health *HealthCheck
	// Canaries get a part of the requests: the first that takes one counts.
	Canaries []Canary
	// Shadow gets copies of requests without a body, of GET, HEAD, OPTIONS and of
	// routes that are idempotent; nil means none.
	Shadow *Shadow
	// Faults are failures on purpose: of several that a request meets the first counts.
	Faults []Fault
	// Host is the Host header to send; empty means the caller's.
	Host string
	// IdleTimeout is how long a connection without requests is kept for the next one;
	// 0 means 90 s.
	IdleTimeout time.Duration
	// UserID sends X-User-ID beside the assertion; NoAssertion sends no assertion.
	UserID, NoAssertion bool
}

// Target is where requests go.
type Target struct {
	// Target is looked up by Options.Resolver; Endpoints are the backends, where they
	// do not change. One of them is stated.
	Target    string
	Endpoints []discovery.Backend
	// TLS means https; nil means plaintext.
	TLS *TLSOptions
	// Service bounds and breaks; nil means that nothing does.
	Service *resilience.Service
}

// TLSOptions are those of tlsfile.ClientOptions.
type TLSOptions struct{ CAFile, CertFile, KeyFile, ServerName string }

// Canary is a new version that gets a part of the requests.
type Canary struct {
	// Name is the variant, in logs and metrics.
	Name string
	Target
	// Percent of the requests, drawn ByRequest or by who calls.
	Percent   float64
	ByRequest bool
	// Match are requests that always come here: any of these.
	Match []CanaryMatch
}

// CanaryMatch is a request header or a cookie; an empty Value means any.
type CanaryMatch struct{ Header, Cookie, Value string }

// Shadow gets copies. What it answers is dropped.
type Shadow struct {
	Target
	Percent float64
	// MaxInFlight copies are on their way at once; 0 means 64.
	MaxInFlight int
}

// HealthCheck is a GET that must be answered with 200 to 299. Zero fields have
// defaults: 5 s, 2 s, 2 and 1.
type HealthCheck struct {
	Path                         string
	Interval, Timeout            time.Duration
	UnhealthyAfter, HealthyAfter int
}

func (h *HealthCheck) fill() {
	if h.Interval <= 0 {
		h.Interval = 5 * time.Second
	}
	if h.Timeout <= 0 {
		h.Timeout = 2 * time.Second
	}
	h.UnhealthyAfter, h.HealthyAfter = max(h.UnhealthyAfter, 0), max(h.HealthyAfter, 1)
	if h.UnhealthyAfter == 0 {
		h.UnhealthyAfter = 2
	}
}
