package config

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// crossCheckTraffic looks at upstreams, routes and what happens when services
// fail. Whether a target can be parsed, or a rule compiled, is for those to say who
// use it.
func (f *file) crossCheckTraffic(c *configv1.Config) {
	all := c.GetResilience()
	f.crossCheckResilience(all, "resilience")
	for _, name := range slices.Sorted(maps.Keys(c.GetUpstreams())) {
		u := c.GetUpstreams()[name]
		f.crossCheckResilience(stated(u.GetResilience(), all), "upstreams", name, "resilience")
		f.crossCheckTargets(c, service{u.GetTarget(), u.GetEndpoints(), u.GetCanaries(), u.GetShadow()}, "upstreams", name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.GetHttpUpstreams())) {
		u := c.GetHttpUpstreams()[name]
		f.crossCheckResilience(stated(u.GetResilience(), all), "http_upstreams", name, "resilience")
		f.crossCheckTargets(c, service{u.GetTarget(), u.GetEndpoints(), u.GetCanaries(), u.GetShadow()}, "http_upstreams", name)
	}
	f.crossCheckRoutes(c)
}

// stated is what an upstream has of its own: what is the gateway's was looked at
// there.
func stated(own, all *configv1.Resilience) *configv1.Resilience {
	r := &configv1.Resilience{}
	if !proto.Equal(own.GetConcurrency(), all.GetConcurrency()) {
		r.Concurrency = own.GetConcurrency()
	}
	if !proto.Equal(own.GetOutlier(), all.GetOutlier()) {
		r.Outlier = own.GetOutlier()
	}
	if len(own.GetFaults()) > 0 && (len(all.GetFaults()) == 0 || !proto.Equal(own.GetFaults()[0], all.GetFaults()[0])) {
		r.Faults = own.GetFaults()
	}
	return r
}

func (f *file) crossCheckResilience(r *configv1.Resilience, path ...any) {
	at := func(more ...any) []any { return slices.Concat(path, more) }
	if l := r.GetConcurrency(); l.GetMin() > l.GetInitial() || l.GetInitial() > l.GetMax() {
		f.at(at("concurrency"), "expected min <= initial <= max, got %d, %d and %d", l.GetMin(), l.GetInitial(), l.GetMax())
	}
	if o := r.GetOutlier(); o.GetBaseEjection().AsDuration() > o.GetMaxEjection().AsDuration() {
		f.at(at("outlier"), "base_ejection %v is longer than max_ejection %v", o.GetBaseEjection().AsDuration(), o.GetMaxEjection().AsDuration())
	}
	for i, fault := range r.GetFaults() {
		if fault.GetDelay().AsDuration() == 0 && fault.GetAbort() == "" {
			f.at(at("faults", i), "state delay, abort or both")
		}
		var code codes.Code
		if a := fault.GetAbort(); a != "" && (code.UnmarshalJSON([]byte(`"`+a+`"`)) != nil || code == codes.OK) {
			f.at(at("faults", i, "abort"), "%q is no gRPC code of a failure, such as UNAVAILABLE", a)
		}
		if fault.GetValue() != "" && fault.GetHeader() == "" {
			f.at(at("faults", i), "value needs header")
		}
	}
}

// service is what the two kinds of upstreams have in common.
type service struct {
	target    string
	endpoints []*configv1.Endpoint
	canaries  []*configv1.Canary
	shadow    *configv1.Shadow
}

func (f *file) crossCheckTargets(c *configv1.Config, s service, path ...any) {
	at := func(more ...any) []any { return slices.Concat(path, more) }
	f.crossCheckTarget(c, s.target, at("target"))
	f.crossCheckEndpoints(s.endpoints, at("endpoints"))
	seen, percent := map[string]bool{}, 0.0
	for i, k := range s.canaries {
		f.crossCheckTarget(c, k.GetTarget(), at("canaries", i, "target"))
		f.crossCheckEndpoints(k.GetEndpoints(), at("canaries", i, "endpoints"))
		matches := map[string]bool{}
		for j, m := range k.GetMatch() {
			what := http.CanonicalHeaderKey(m.GetHeader()) + "\x00" + m.GetCookie() + "\x00" + m.GetValue()
			if matches[what] {
				f.at(at("canaries", i, "match", j), "the same header or cookie comes twice")
			}
			matches[what] = true
		}
		if seen[k.GetName()] {
			f.at(at("canaries", i, "name"), "canary %q comes twice", k.GetName())
		}
		seen[k.GetName()] = true
		if percent += k.GetPercent(); percent > 100 {
			f.at(at("canaries", i, "percent"), "the canaries' percent are more than 100 together")
		}
	}
	f.crossCheckTarget(c, s.shadow.GetTarget(), at("shadow", "target"))
	f.crossCheckEndpoints(s.shadow.GetEndpoints(), at("shadow", "endpoints"))
}

// crossCheckEndpoints refuses an address that comes twice: the second would not count,
// and its weight neither.
func (f *file) crossCheckEndpoints(all []*configv1.Endpoint, path []any) {
	seen := map[string]bool{}
	for i, e := range all {
		if seen[e.GetAddress()] {
			f.at(slices.Concat(path, []any{i, "address"}), "address %q comes twice", e.GetAddress())
		}
		seen[e.GetAddress()] = true
	}
}

func (f *file) crossCheckTarget(c *configv1.Config, target string, path []any) {
	switch {
	case strings.HasPrefix(target, "etcd:") && c.GetDiscovery().GetEtcd() == nil:
		f.at(path, "target %q needs discovery.etcd", target)
	case strings.HasPrefix(target, "consul:") && c.GetDiscovery().GetConsul() == nil:
		f.at(path, "target %q needs discovery.consul", target)
	}
}

func (f *file) crossCheckRoutes(c *configv1.Config) {
	seen := map[string]bool{}
	for i, r := range c.GetHttpRoutes() {
		at := func(more ...any) []any { return slices.Concat([]any{"http_routes", i}, more) }
		if seen[r.GetName()] {
			f.at(at("name"), "route %q comes twice", r.GetName())
		}
		seen[r.GetName()] = true
		if _, ok := c.GetHttpUpstreams()[r.GetUpstream()]; !ok {
			f.unknown("upstream of http_upstreams", r.GetUpstream(), slices.Sorted(maps.Keys(c.GetHttpUpstreams())), at("upstream"))
		}
		if class := r.GetLimit().GetClass(); class != "" {
			if _, ok := c.GetLimits().GetClasses()[class]; !ok {
				f.unknown("limit class", class, slices.Sorted(maps.Keys(c.GetLimits().GetClasses())), at("limit", "class"))
			}
		}
		if re := r.GetMatch().GetRegex(); re != "" {
			if _, err := regexp.Compile(re); err != nil {
				f.at(at("match", "regex"), "%v", err)
			}
		}
		if rw := r.GetRewrite(); rw.GetPrefix() != "" && r.GetMatch().GetPrefix() == "" {
			f.at(at("rewrite", "prefix"), "needs match.prefix, whose place it takes")
		} else if rw.GetRegex() != "" && r.GetMatch().GetRegex() == "" {
			f.at(at("rewrite", "regex"), "needs match.regex, whose groups it names")
		}
		for _, m := range r.GetMatch().GetMethods() {
			if m == http.MethodConnect || m == http.MethodTrace {
				f.at(at("match", "methods"), "%s is never passed on", m)
			}
		}
	}
}
