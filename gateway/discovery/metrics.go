package discovery

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

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

// newMetrics registers; what a Registry before this one registered is used on.
func newMetrics(to prometheus.Registerer) *metrics {
	updates := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_discovery_updates_total",
		Help: "Answers of discovery, by source (dns, etcd, consul) and outcome: changed, unchanged, kept (an empty answer that was not believed) or error."},
		[]string{"source", "outcome"})
	if to != nil {
		var before prometheus.AlreadyRegisteredError
		if err := to.Register(updates); errors.As(err, &before) {
			if c, ok := before.ExistingCollector.(*prometheus.CounterVec); ok {
				updates = c
			}
		}
	}
	return &metrics{updates}
}
