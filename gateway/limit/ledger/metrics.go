package ledger

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	errs prometheus.Counter
	took prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, t *table) (metrics, error) {
	m := metrics{
		errs: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_quota_errors_total",
			Help: "Writes to the ledger of quotas that failed."}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_quota_commit_seconds",
			Help:    "Time that a write to the ledger of quotas took.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}}),
	}
	if r == nil {
		return m, nil
	}
	keys := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_quota_keys",
		Help: "Quotas that are held in memory."}, func() float64 { return float64(t.len()) })
	return m, errors.Join(r.Register(m.errs), r.Register(m.took), r.Register(keys))
}
