package telemetry

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Metrics are the gateway's Prometheus metrics, in a registry of their own.
// Labels are bounded by the routes: no raw path, no name a caller chose.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	denied   *prometheus.CounterVec
	refused  *prometheus.CounterVec
	upCalls  *prometheus.CounterVec
	upTime   *prometheus.HistogramVec

	// What was looked up in the vectors above, see series.go.
	mu       sync.RWMutex
	series   map[seriesKey]*Series
	serving  [2]atomic.Pointer[prometheus.Gauge] // REST, gRPC
	upstream sync.Map                            // *policy.Method to *upstreamSeries
}

// Seconds; from a cache hit to a slow backend.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// NewMetrics returns the metrics, registered.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		series:   map[seriesKey]*Series{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_requests_total",
			Help: "Requests answered, by edge, route template, method (HTTP method, or gRPC method) and code (HTTP status, or gRPC code)."},
			[]string{"edge", "route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_request_duration_seconds", Buckets: buckets,
			Help: "Time from the first byte of a request to the last of its answer."}, []string{"edge", "route", "method"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_requests_in_flight",
			Help: "Requests being served."}, []string{"edge"}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_denied_total",
			Help: "Calls that a check refused, by check and gRPC method."}, []string{"check", "method"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_refused_total",
			Help: "Requests, calls and connections that a bound of an edge or a listener refused, by the bound (docs/limits.md)."}, []string{"limit"}),
		upCalls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_upstream_requests_total",
			Help: "Calls sent to services, by gRPC method, target and gRPC code."}, []string{"method", "target", "code"}),
		upTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_upstream_duration_seconds", Buckets: buckets,
			Help: "Time a service took to answer."}, []string{"method", "target"}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.inFlight, m.denied, m.refused, m.upCalls, m.upTime,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registry is where the gateway's parts register metrics of their own.
func (m *Metrics) Registry() prometheus.Registerer { return m.registry }

// Handler serves the metrics in the Prometheus text format or, to those who ask for
// it as Prometheus does, in OpenMetrics: only that has exemplars.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Denied counts a call that a check refused; the method is nil where none was
// looked for yet.
func (m *Metrics) Denied(check string, method *policy.Method) {
	name := ""
	if method != nil {
		name = method.FullName[1:]
	}
	m.denied.WithLabelValues(check, name).Inc()
}

// Refused counts what a bound of an edge or a listener refused. Safe for
// concurrent use.
func (m *Metrics) Refused(limit string) { m.refused.WithLabelValues(limit).Inc() }
