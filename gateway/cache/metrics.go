package cache

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Why entries go, as sluice_cache_evictions_total and sluice_cache_invalidations_total
// name it.
const (
	causeSize    = "size"
	causeExpired = "expired"

	byTag    = "tag"
	byTarget = "target"
	byRoute  = "method"
	byPurge  = "purge"
)

type metrics struct {
	requests      *prometheus.CounterVec
	evictions     *prometheus.CounterVec
	invalidations *prometheus.CounterVec
}

func newMetrics(c *Cache, to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_cache_requests_total",
			Help: "Calls of methods whose answers are kept, by method and result: hit, negative, stale, revalidate, miss, coalesced, bypass."}, []string{"method", "result"}),
		evictions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_cache_evictions_total",
			Help: "Kept answers that were removed for lack of room (size) or because they were too old (expired)."}, []string{"cause"}),
		invalidations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_cache_invalidations_total",
			Help: "Invalidations, by what they named: tag, target (the path of a write), method, purge (everything)."}, []string{"by"}),
	}
	for _, cause := range []string{causeSize, causeExpired} { // So that they are there, at zero.
		m.evictions.WithLabelValues(cause)
	}
	for _, by := range []string{byTag, byTarget, byRoute, byPurge} {
		m.invalidations.WithLabelValues(by)
	}
	if to == nil {
		return m, nil
	}
	for _, p := range []prometheus.Collector{
		m.requests, m.evictions, m.invalidations,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_cache_bytes", Help: "Memory of kept answers with their keys and renderings, in bytes."},
			func() float64 { return float64(c.store.WeightedSize()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_cache_entries", Help: "Kept answers."},
			func() float64 { return float64(c.store.EstimatedSize()) }),
	} {
		if err := to.Register(p); err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) evicted(cause string)  { m.evictions.WithLabelValues(cause).Inc() }
func (m *metrics) invalidated(by string) { m.invalidations.WithLabelValues(by).Inc() }

// counters are those of one route, looked up once.
type counters [statuses]prometheus.Counter

func (m *metrics) route(name string) counters {
	if len(name) > 0 && name[0] == '/' { // As all metrics name an RPC.
		name = name[1:]
	}
	var out counters
	for s := range out {
		out[s] = m.requests.WithLabelValues(name, Status(s).String())
	}
	return out
}

func (c *counters) add(s Status) { c[s].Inc() }
