package redis

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	up        prometheus.Gauge
	fallbacks prometheus.Counter
	crowded   prometheus.Counter
	seconds   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, f Fallback) (metrics, error) {
	m := metrics{
		up: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_limit_redis_up",
			Help: "1 while Redis decides over limits, 0 while the fallback does."}),
		fallbacks: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_limit_fallback_total",
			Help:        "Decisions over limits that the fallback made instead of Redis.",
			ConstLabels: prometheus.Labels{"fallback": string(f)}}),
		crowded: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_limit_redis_crowded_total",
			Help: "Decisions over limits that found too many others waiting for Redis: made by the local store, or refused."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_limit_redis_seconds",
			Help:    "Time that Redis took for a decision over limits.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .02, .05, .1, .25, 1}}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.up), r.Register(m.fallbacks), r.Register(m.crowded), r.Register(m.seconds))
}
