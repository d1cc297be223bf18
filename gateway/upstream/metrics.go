package upstream

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of what happens to calls beside their being sent. Labels are bounded by the
// configuration: services, variants, gRPC's codes.
type metrics struct {
	retries, variants, shadow, faults *prometheus.CounterVec
}

// newMetrics registers, or finds what an earlier Conn of the same registry has: counters
// outlive a reload.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{}
	for _, v := range []struct {
		to         **prometheus.CounterVec
		name, help string
		labels     []string
	}{
		{&m.retries, "sluice_upstream_retries_total", "Attempts beyond a call's first that were wanted: sent, or not, for want of budget or time.", []string{"service", "variant", "result"}},
		{&m.variants, "sluice_variant_requests_total", "Calls of services that have canaries, by variant (empty is the service itself) and gRPC code.", []string{"service", "variant", "code"}},
		{&m.shadow, "sluice_shadow_total", "Copies of calls for shadow targets: ok, failed, or dropped before they were sent.", []string{"service", "outcome"}},
		{&m.faults, "sluice_faults_total", "Failures on purpose: delay or abort.", []string{"service", "kind"}},
	} {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: v.name, Help: v.help}, v.labels)
		*v.to = vec
		if reg == nil {
			continue
		}
		err := reg.Register(vec)
		var have prometheus.AlreadyRegisteredError
		if errors.As(err, &have) {
			if vec, ok := have.ExistingCollector.(*prometheus.CounterVec); ok {
				*v.to, err = vec, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", v.name, err)
		}
	}
	return m, nil
}
