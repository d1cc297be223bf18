package balance

import (
	"errors"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts the backends of all groups of a gateway. Nil counts nothing.
type Metrics struct {
	ejections *prometheus.CounterVec
	backends  *prometheus.Desc
	panics    *prometheus.Desc

	mu     sync.Mutex
	groups []group
}

type group interface {
	target() string
	Backends() []BackendState
	Panics() bool
}

// NewMetrics returns metrics that are registered: where there are some already, those.
func NewMetrics(to prometheus.Registerer) *Metrics {
	m := &Metrics{
		ejections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_upstream_ejections_total",
			Help: "How often a backend was left out because it failed, by target."}, []string{"target"}),
		backends: prometheus.NewDesc("sluice_upstream_backends",
			"Backends, by target and state: connecting, ready, slow_start, ejected, unhealthy or failed.", []string{"target", "state"}, nil),
		panics: prometheus.NewDesc("sluice_upstream_panic",
			"1 while no backend of the target is well, so that all that can be reached are called.", []string{"target"}, nil),
	}
	if to == nil {
		return m
	}
	var before prometheus.AlreadyRegisteredError
	if err := to.Register(m); errors.As(err, &before) {
		if have, ok := before.ExistingCollector.(*Metrics); ok {
			return have
		}
	}
	return m
}

// Describe is prometheus.Collector's.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.backends
	to <- m.panics
	m.ejections.Describe(to)
}

// Collect is prometheus.Collector's. Groups with one name are counted together.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	m.ejections.Collect(to)
	m.mu.Lock()
	groups := slices.Clone(m.groups)
	m.mu.Unlock()
	counts, panics := map[string]map[string]int{}, map[string]float64{}
	for _, g := range groups {
		name := g.target()
		if counts[name] == nil {
			counts[name] = map[string]int{}
		}
		for _, b := range g.Backends() {
			counts[name][b.State]++
		}
		panics[name] += 0
		if g.Panics() {
			panics[name] = 1
		}
	}
	for name, by := range counts {
		for _, s := range states {
			to <- prometheus.MustNewConstMetric(m.backends, prometheus.GaugeValue, float64(by[s]), name, s)
		}
		to <- prometheus.MustNewConstMetric(m.panics, prometheus.GaugeValue, panics[name], name)
	}
}

func (m *Metrics) add(g group) {
	if m == nil {
		return
	}
	m.ejections.WithLabelValues(g.target()) // So that it is there, at zero.
	m.mu.Lock()
	defer m.mu.Unlock()
	m.groups = append(m.groups, g)
}

func (m *Metrics) remove(g group) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.groups = slices.DeleteFunc(m.groups, func(x group) bool { return x == g })
}

func (m *Metrics) ejected(name string) {
	if m != nil {
		m.ejections.WithLabelValues(name).Inc()
	}
}
