package jwks

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of fetches, as the metric names them.
const (
	outcomeGood        = "ok"
	outcomeUnreachable = "unreachable"
	outcomeStatus      = "bad_status"
	outcomeTooLarge    = "too_large"
	outcomeMalformed   = "malformed"
	outcomeUnusable    = "no_usable_key"
	outcomeDiscovery   = "bad_discovery"
)

// failure is why a fetch was no good.
type failure struct {
	outcome string
	error
}

func (f failure) Unwrap() error { return f.error }

func outcomeOf(err error) string {
	if err == nil {
		return outcomeGood
	}
	if f, ok := errors.AsType[failure](err); ok {
		return f.outcome
	}
	return outcomeUnreachable
}

// collector tells of all sources on one registry, by issuer. A registry takes
// the names once only, and a reload has two sources of one issuer for a moment:
// the newer is told of.
type collector struct {
	fetches            *prometheus.CounterVec
	age, keys, skipped *prometheus.Desc

	mu      sync.Mutex
	sources map[string]*Source
}

// watch has reg tell of s. Nil registries are told nothing.
func watch(reg prometheus.Registerer, s *Source) (*collector, error) {
	c := &collector{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_jwks_fetches_total", Help: "Fetches of an issuer's key set, by outcome.",
		}, []string{"issuer", "outcome"}),
		age: prometheus.NewDesc("sluice_jwks_keys_age_seconds",
			"Time since the last good fetch of an issuer's key set, or since the start where there was none.", []string{"issuer"}, nil),
		keys: prometheus.NewDesc("sluice_jwks_keys",
			"Keys of an issuer in use; none when the last good fetch is too long ago.", []string{"issuer"}, nil),
		skipped: prometheus.NewDesc("sluice_jwks_keys_skipped",
			"Keys of an issuer's last good key set that cannot be used, by reason: malformed, unsupported, other_use, weak or certificate.", []string{"issuer", "reason"}, nil),
		sources: map[string]*Source{},
	}
	if reg != nil {
		if err := reg.Register(c); err != nil {
			already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
			if !ok {
				return nil, fmt.Errorf("metrics of key sets: %w", err)
			}
			if c, ok = already.ExistingCollector.(*collector); !ok {
				return nil, fmt.Errorf("metrics of key sets: %w", err)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sources[s.name] = s
	return c, nil
}

func (c *collector) forget(s *Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sources[s.name] == s {
		delete(c.sources, s.name)
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	c.fetches.Describe(to)
	to <- c.age
	to <- c.keys
	to <- c.skipped
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.fetches.Collect(to)
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range c.sources {
		age, keys := s.state()
		to <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, age.Seconds(), name)
		to <- prometheus.MustNewConstMetric(c.keys, prometheus.GaugeValue, float64(keys), name)
		if set := s.keys.Load(); set != nil {
			for _, reason := range skipReasons {
				to <- prometheus.MustNewConstMetric(c.skipped, prometheus.GaugeValue, float64(set.skippedBy(reason)), name, reason)
			}
		}
	}
}
