package resilience

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector reads a service when it is scraped: calls pay for no metric but the
// counters that they need anyway. Their names are in docs/resilience.md.
type collector struct {
	service                                         *Service
	state, changes, limit, inFlight, knee, overload *prometheus.Desc
	usualIn, shed, retries                          *prometheus.Desc
}

func newCollector(s *Service) *collector {
	labels := prometheus.Labels{"service": s.name, "variant": s.variant}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, variable, labels)
	}
	return &collector{
		service:  s,
		state:    desc("sluice_breaker_state", "State of the breaker of a service's class: 0 closed, 1 half open, 2 open.", "class"),
		changes:  desc("sluice_breaker_transitions_total", "Changes of a breaker to each state.", "class", "to"),
		limit:    desc("sluice_concurrency_limit", "Calls of a service that may be in flight now."),
		inFlight: desc("sluice_concurrency_in_flight", "Calls of a service that are in flight."),
		knee:     desc("sluice_concurrency_knee", "Calls that the service is thought to work on at once: beyond, they wait."),
		overload: desc("sluice_concurrency_state", "State of the concurrency limit: 0 free, 1 probing, 2 holding an overload."),
		usualIn:  desc("sluice_concurrency_usual_seconds", "Latency of a class without a queue, as estimated: the limit goes by it.", "class"),
		shed:     desc("sluice_shed_total", "Calls refused without being sent: by an open breaker, or by the concurrency limit.", "class", "reason", "priority"),
		retries:  desc("sluice_retries_total", "Retries that the budget granted or denied.", "outcome"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.state, c.changes, c.limit, c.inFlight, c.knee, c.overload, c.usualIn, c.shed, c.retries} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	s := c.service
	for _, class := range s.all() {
		b := &class.breaker
		gauge(c.state, float64(b.looks(b.word.Load(), s.now())), class.name)
		for state, name := range stateNames {
			count(c.changes, b.entered[state].Load(), class.name, name)
		}
		gauge(c.usualIn, s.limiter.usualOf(class).Seconds(), class.name)
		for r, reason := range reasons {
			for p, priority := range priorityNames {
				count(c.shed, class.shed[r][p].Load(), class.name, reason, priority)
			}
		}
	}
	if o := s.options.Load(); !o.Concurrency.Off {
		gauge(c.limit, float64(s.limiter.limit.Load()))
		state, knee := s.limiter.shown()
		gauge(c.knee, knee)
		gauge(c.overload, float64(state))
	}
	gauge(c.inFlight, float64(s.limiter.inFlight.Load()))
	count(c.retries, s.budget.granted.Load(), "granted")
	count(c.retries, s.budget.denied.Load(), "denied")
}
