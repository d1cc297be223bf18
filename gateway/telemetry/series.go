package telemetry

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Series are the metrics of the requests of one edge, route and method. They are
// looked up when they are first needed, so that a request does atomic work only,
// and that /metrics has no zeros of what was never asked for. Safe for concurrent
// use.
type Series struct {
	edge          policy.Edge
	route, method string
	tally         tally
}

// of says whether these are the series of a request's labels.
func (s *Series) of(edge policy.Edge, route, method string) bool {
	return s != nil && s.edge == edge && s.route == route && s.method == method
}

// tally counts outcomes by code and observes times, with Prometheus's own
// look-ups done once for each code.
type tally struct {
	count func(code string) prometheus.Counter
	time  func() prometheus.Observer

	mu   sync.Mutex // of those who replace seen
	seen atomic.Pointer[tallied]
}

// tallied is what was looked up. It never changes.
type tallied struct {
	time  prometheus.Observer
	codes []codeCounter
}

type codeCounter struct {
	code    string
	counter prometheus.Counter
}

// maxCodes bounds what a tally remembers: more than any route answers with, and
// few enough to go through one by one. Codes beyond are looked up each time.
const maxCodes = 24

// done counts one. The span is that of the trace which the time is an example of;
// nil where nobody traces.
func (t *tally) done(code string, took time.Duration, span trace.Span) {
	seen := t.seen.Load()
	counter := seen.counter(code)
	if counter == nil {
		seen, counter = t.first(code)
	}
	counter.Inc()
	if span == nil || !exemplify(seen.time, took, span) {
		seen.time.Observe(took.Seconds())
	}
}

// exemplify observes a time together with the trace that is kept of it; it is false
// when none is.
func exemplify(times prometheus.Observer, took time.Duration, span trace.Span) bool {
	of := span.SpanContext()
	e, ok := times.(prometheus.ExemplarObserver)
	if !ok || !of.IsSampled() {
		return false
	}
	e.ObserveWithExemplar(took.Seconds(), prometheus.Labels{exemplarTrace: of.TraceID().String()})
	return true
}

// exemplarTrace is the label of exemplars that Grafana looks for by default.
const exemplarTrace = "trace_id"

// counter returns nil for a code that was not seen yet. There are one or two as
// a rule, the most frequent first.
func (s *tallied) counter(code string) prometheus.Counter {
	if s == nil {
		return nil
	}
	for i := range s.codes {
		if s.codes[i].code == code {
			return s.codes[i].counter
		}
	}
	return nil
}

// first looks a code up that was not seen before.
func (t *tally) first(code string) (*tallied, prometheus.Counter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.seen.Load()
	if c := seen.counter(code); c != nil {
		return seen, c
	}
	counter := t.count(code)
	if seen == nil {
		seen = &tallied{time: t.time()}
	}
	if len(seen.codes) < maxCodes {
		all := append(seen.codes[:len(seen.codes):len(seen.codes)], codeCounter{code, counter})
		seen = &tallied{time: seen.time, codes: all}
		t.seen.Store(seen)
	}
	return seen, counter
}

// seriesKey is the labels that all requests of a Series have.
type seriesKey struct {
	edge          policy.Edge
	route, method string
}

// Series returns the series of a route. The method is the HTTP method or, on the
// gRPC edge, the gRPC method without the leading slash. Labels are bounded by the
// routes, and so is what is remembered.
func (m *Metrics) Series(edge policy.Edge, route, method string) *Series {
	key := seriesKey{edge, route, method}
	m.mu.RLock()
	s := m.series[key]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.series[key]; s != nil {
		return s
	}
	s = &Series{edge: edge, route: route, method: method, tally: tally{
		count: func(code string) prometheus.Counter {
			return m.requests.WithLabelValues(string(edge), route, method, code)
		},
		time: func() prometheus.Observer { return m.duration.WithLabelValues(string(edge), route, method) },
	}}
	m.series[key] = s
	return s
}

// gauge returns the number of requests being served at an edge.
func (m *Metrics) gauge(edge policy.Edge) prometheus.Gauge {
	at := &m.serving[0]
	switch edge {
	case policy.EdgeREST:
	case policy.EdgeGRPC:
		at = &m.serving[1]
	default:
		return m.inFlight.WithLabelValues(string(edge))
	}
	if g := at.Load(); g != nil {
		return *g
	}
	g := m.inFlight.WithLabelValues(string(edge)) // The same for all who come at once.
	at.Store(&g)
	return g
}

// upstreamSeries are those of a method, which has one target as a rule.
type upstreamSeries struct {
	target string
	tally  tally
}

// UpstreamDone counts a call that was sent to a service. A code that gRPC does
// not know counts as Unknown: services do not make labels. The span is the call's,
// nil where nobody traces it.
func (m *Metrics) UpstreamDone(method *policy.Method, target string, code codes.Code, took time.Duration, span trace.Span) {
	if code > codes.Unauthenticated {
		code = codes.Unknown
	}
	v, ok := m.upstream.Load(method)
	if !ok {
		v, _ = m.upstream.LoadOrStore(method, m.newUpstream(method.FullName[1:], target))
	}
	s := v.(*upstreamSeries)
	if s.target != target {
		s = m.newUpstream(method.FullName[1:], target)
	}
	s.tally.done(code.String(), took, span)
}

func (m *Metrics) newUpstream(method, target string) *upstreamSeries {
	return &upstreamSeries{target: target, tally: tally{
		count: func(code string) prometheus.Counter { return m.upCalls.WithLabelValues(method, target, code) },
		time:  func() prometheus.Observer { return m.upTime.WithLabelValues(method, target) },
	}}
}

// StatusCode is an HTTP status as End wants it, without a string for each request.
func StatusCode(status int) string {
	if i := status - firstStatus; i >= 0 && i < len(statusCodes) {
		return statusCodes[i]
	}
	return strconv.Itoa(status)
}

const firstStatus = 100

var statusCodes = func() (all [500]string) {
	for i := range all {
		all[i] = strconv.Itoa(firstStatus + i)
	}
	return all
}()

// Forget drops what is remembered of methods that no call goes by any more. What was
// counted stays.
func (m *Metrics) Forget(of []*policy.Method) {
	for _, method := range of {
		m.upstream.Delete(method)
	}
}
