package discovery

import "github.com/prometheus/client_golang/prometheus"

// Outcomes of an update.
const (
	outcomeChanged   = "changed"
	outcomeUnchanged = "unchanged"
	outcomeKept      = "kept" // An answer that is not believed: the old set stays.
	outcomeError     = "error"
)

type metrics struct {
	updates *prometheus.CounterVec
}

func newMetrics(to prometheus.Registerer) *metrics {
	m := &metrics{updates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_discovery_updates_total",
		Help: "Answers of discovery, by source (dns, etcd, consul) and outcome: changed, unchanged, kept (an empty answer that was not believed) or error."},
		[]string{"source", "outcome"})}
	if to != nil {
		to.MustRegister(m.updates)
	}
	return m
}
