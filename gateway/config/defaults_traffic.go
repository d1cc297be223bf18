package config

import (
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// fillTraffic sets what concerns calls to services. An upstream's resilience is
// whole afterwards: what it does not state is the gateway's.
func fillTraffic(c *configv1.Config) {
	c.Resilience = orNew(c.Resilience)
	fillResilience(c.Resilience)
	c.Cache = orNew(c.Cache)
	c.Cache.MaxBytes = or(c.Cache.MaxBytes, 64<<20)
	c.Cache.MaxEntryBytes = or(c.Cache.MaxEntryBytes, 1<<20)
	c.Discovery = orNew(c.Discovery)
	c.Discovery.DnsInterval = orDuration(c.Discovery.DnsInterval, 10*time.Second)
	if e := c.Discovery.Etcd; e != nil {
		e.Prefix = or(e.Prefix, "sluice/services/")
	}
	if k := c.Discovery.Consul; k != nil {
		k.Address = or(k.Address, "http://127.0.0.1:8500")
	}
	for _, u := range c.Upstreams {
		u.Balancing, u.Resilience = fillBalancing(u.Balancing), inherit(u.Resilience, c.Resilience)
		fillTargets(u.Endpoints, u.Canaries, u.Shadow)
	}
	for _, u := range c.HttpUpstreams {
		u.Balancing, u.Resilience = fillBalancing(u.Balancing), inherit(u.Resilience, c.Resilience)
		fillTargets(u.Endpoints, u.Canaries, u.Shadow)
		if h := u.HealthCheck; h != nil {
			h.Path = or(h.Path, "/healthz")
			h.Interval = orDuration(h.Interval, 5*time.Second)
			h.Timeout = orDuration(h.Timeout, 2*time.Second)
			h.UnhealthyAfter = or(h.UnhealthyAfter, 2)
			h.HealthyAfter = or(h.HealthyAfter, 1)
		}
	}
	for _, r := range c.HttpRoutes {
		if r.Deadline == nil {
			r.Deadline = proto.CloneOf(c.Defaults.Deadline)
		}
		r.MaxRequestBytes = or(r.MaxRequestBytes, c.Defaults.MaxRequestBytes)
		if r.StreamIdle == nil {
			r.StreamIdle = proto.CloneOf(c.Defaults.StreamIdle)
		}
	}
}

func fillTargets(endpoints []*configv1.Endpoint, canaries []*configv1.Canary, shadow *configv1.Shadow) {
	fillEndpoints(endpoints)
	for _, k := range canaries {
		fillEndpoints(k.Endpoints)
		k.By = or(k.By, "principal")
	}
	if shadow != nil {
		fillEndpoints(shadow.Endpoints)
		shadow.MaxInFlight = or(shadow.MaxInFlight, 64)
	}
}

func fillEndpoints(endpoints []*configv1.Endpoint) {
	for _, e := range endpoints {
		e.Weight = or(e.Weight, 1)
	}
}

func fillBalancing(b *configv1.Balancing) *configv1.Balancing {
	b = orNew(b)
	b.Policy = or(b.Policy, "round_robin")
	b.SlowStart = orDuration(b.SlowStart, 0)
	return b
}

// inherit puts the gateway's messages where an upstream states none.
func inherit(own, from *configv1.Resilience) *configv1.Resilience {
	own = orNew(own)
	own.RetryBudget = orClone(own.RetryBudget, from.RetryBudget)
	own.Breaker = orClone(own.Breaker, from.Breaker)
	own.Outlier = orClone(own.Outlier, from.Outlier)
	own.Concurrency = orClone(own.Concurrency, from.Concurrency)
	if len(own.Faults) == 0 {
		for _, f := range from.Faults {
			own.Faults = append(own.Faults, proto.CloneOf(f))
		}
	}
	fillResilience(own)
	return own
}

func orClone[T any, M interface {
	*T
	proto.Message
}](m, otherwise M) M {
	if m == nil {
		return proto.CloneOf(otherwise)
	}
	return m
}

func fillResilience(r *configv1.Resilience) {
	r.RetryBudget, r.Breaker = orNew(r.RetryBudget), orNew(r.Breaker)
	r.Outlier, r.Concurrency = orNew(r.Outlier), orNew(r.Concurrency)
	r.RetryBudget.Percent = or(r.RetryBudget.Percent, 20)
	r.RetryBudget.MinPerSecond = or(r.RetryBudget.MinPerSecond, 1)

	b := r.Breaker
	b.Window = orDuration(b.Window, 10*time.Second)
	b.MinRequests = or(b.MinRequests, 20)
	b.FailurePercent = or(b.FailurePercent, 50)
	b.OpenFor = orDuration(b.OpenFor, time.Second)
	b.Probes = or(b.Probes, 3)
	b.Successes = or(b.Successes, 3)

	o := r.Outlier
	o.ConsecutiveFailures = or(o.ConsecutiveFailures, 5)
	o.BaseEjection = orDuration(o.BaseEjection, time.Second)
	o.MaxEjection = orDuration(o.MaxEjection, 30*time.Second)
	o.MaxEjectedPercent = or(o.MaxEjectedPercent, 50)

	l := r.Concurrency
	l.Min = or(l.Min, 2)
	l.Max = or(l.Max, max(1000, l.Min))
	l.Initial = or(l.Initial, min(max(100, l.Min), l.Max))
}
