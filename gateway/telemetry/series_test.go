package telemetry

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// counted is what the registry has of our metrics: counters, gauges, and the
// number of what histograms saw.
func counted(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sluice_") {
			continue
		}
		for _, s := range f.GetMetric() {
			labels := make([]string, 0, 4)
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			v := s.GetCounter().GetValue() + s.GetGauge().GetValue() + float64(s.GetHistogram().GetSampleCount())
			out[f.GetName()[len("sluice_"):]+" "+strings.Join(labels, " ")] = v
		}
	}
	return out
}

func same(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			t.Errorf("%s is %v (%t), want %v", k, g, ok, v)
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s %v is not wanted", k, v)
		}
	}
}

// TestSeries: series that were made at start show nothing until they are used,
// and count the same as those that are looked up: an edge may say which or not,
// or say the wrong ones.
func TestSeries(t *testing.T) {
	const route, rpc = "/v1/users/{user_id}", "shop.user.v1.UserService/GetUser"
	m := NewMetrics()
	tele := New(Options{Metrics: m, Tracer: untraced()})
	rest, grpc := tele.Series(policy.EdgeREST, route, "GET"), tele.Series(policy.EdgeGRPC, "", rpc)
	same(t, counted(t, m), map[string]float64{})
	if tele.Series(policy.EdgeREST, route, "GET") != rest {
		t.Error("two series for the same labels")
	}
	one := func(edge policy.Edge, method, route, rpc string, s *Series, code string) {
		ctx, r := tele.Begin(context.Background(), edge, propagation.MapCarrier{})
		r.Method, r.Route, r.RPC, r.Series = method, route, rpc, s
		r.End(ctx, code, false)
	}
	for _, s := range []*Series{rest, nil, grpc} {
		one(policy.EdgeREST, "GET", route, rpc, s, "200")
		one(policy.EdgeREST, "HEAD", route, rpc, s, "200")
		one(policy.EdgeREST, "BREW", "", "", s, "404")
		one(policy.EdgeREST, "GET", route, rpc, s, "503")
		one(policy.EdgeGRPC, "", "", rpc, s, "OK")
		one(policy.EdgeGRPC, "", "", "", s, "Unimplemented")
	}
	_, open := tele.Begin(context.Background(), policy.EdgeGRPC, propagation.MapCarrier{})
	same(t, counted(t, m), map[string]float64{
		"requests_total 200 rest GET " + route:        3,
		"requests_total 200 rest HEAD " + route:       3,
		"requests_total 404 rest OTHER ":              3,
		"requests_total 503 rest GET " + route:        3,
		"requests_total OK grpc " + rpc + " ":         3,
		"requests_total Unimplemented grpc  ":         3,
		"request_duration_seconds rest GET " + route:  6,
		"request_duration_seconds rest HEAD " + route: 3,
		"request_duration_seconds rest OTHER ":        3,
		"request_duration_seconds grpc " + rpc + " ":  3,
		"request_duration_seconds grpc  ":             3,
		"requests_in_flight rest":                     0,
		"requests_in_flight grpc":                     1,
	})
	open.End(context.Background(), "OK", false)
}

// TestSeriesAtOnce: nothing is lost of what many count at once, codes beyond those
// that are remembered included.
func TestSeriesAtOnce(t *testing.T) {
	m := NewMetrics()
	tele := New(Options{Metrics: m, Tracer: untraced()})
	const callers, each, many = 8, 300, 2 * maxCodes
	var work sync.WaitGroup
	for c := range callers {
		work.Go(func() {
			for i := range each * many {
				ctx, r := tele.Begin(context.Background(), policy.EdgeREST, propagation.MapCarrier{})
				r.Method, r.Route = "GET", "/"
				r.End(ctx, StatusCode(200+(i+c)%many), false)
			}
		})
	}
	work.Wait()
	want := map[string]float64{"requests_in_flight rest": 0, "request_duration_seconds rest GET /": callers * each * many}
	for i := range many {
		want[fmt.Sprintf("requests_total %d rest GET /", 200+i)] = callers * each
	}
	same(t, counted(t, m), want)
	if n := len(m.Series(policy.EdgeREST, "/", "GET").tally.seen.Load().codes); n != maxCodes {
		t.Errorf("%d codes are remembered, want %d", n, maxCodes)
	}
}

// TestUpstreamDone counts by method, target and code; a code of a service's own
// making is Unknown.
func TestUpstreamDone(t *testing.T) {
	m := NewMetrics()
	a, b := &policy.Method{FullName: "/s/A"}, &policy.Method{FullName: "/s/B"}
	for range 2 {
		m.UpstreamDone(a, "one", codes.OK, time.Second, nil)
		m.UpstreamDone(a, "two", codes.OK, time.Second, nil)
		m.UpstreamDone(b, "one", codes.NotFound, time.Second, nil)
		m.UpstreamDone(b, "one", codes.Unauthenticated, time.Second, nil)
		m.UpstreamDone(b, "one", codes.Unauthenticated+1, time.Second, nil)
		m.UpstreamDone(b, "one", 4_000_000_000, time.Second, nil)
	}
	same(t, counted(t, m), map[string]float64{
		"upstream_requests_total OK s/A one":              2,
		"upstream_requests_total OK s/A two":              2,
		"upstream_requests_total NotFound s/B one":        2,
		"upstream_requests_total Unauthenticated s/B one": 2,
		"upstream_requests_total Unknown s/B one":         4,
		"upstream_duration_seconds s/A one":               2,
		"upstream_duration_seconds s/A two":               2,
		"upstream_duration_seconds s/B one":               8,
	})
}

func TestStatusCode(t *testing.T) {
	for _, status := range []int{-1, 0, 99, 100, 200, 404, 599, 600, 999} {
		if got := StatusCode(status); got != strconv.Itoa(status) {
			t.Errorf("%d is %q", status, got)
		}
	}
}

// TestCountingAllocatesNothing, once a route has been asked for.
func TestCountingAllocatesNothing(t *testing.T) {
	m := NewMetrics()
	s, method := m.Series(policy.EdgeREST, "/", "GET"), &policy.Method{FullName: "/s/A"}
	for name, f := range map[string]func(){
		"a request":             func() { s.tally.done(StatusCode(200), time.Millisecond, nil) },
		"looking a series up":   func() { m.Series(policy.EdgeREST, "/", "GET") },
		"requests being served": func() { m.gauge(policy.EdgeGRPC).Inc() },
		"a call of a service":   func() { m.UpstreamDone(method, "one", codes.NotFound, time.Millisecond, nil) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkUpstreamDone(b *testing.B) {
	m, method := NewMetrics(), &policy.Method{FullName: "/shop.user.v1.UserService/GetUser"}
	b.ReportAllocs()
	for b.Loop() {
		m.UpstreamDone(method, "inprocess:user", codes.OK, time.Millisecond, nil)
	}
}

// BenchmarkSeries: what counting costs where the edge has the series, where they
// are looked up, and as Prometheus's own look-ups do it.
func BenchmarkSeries(b *testing.B) {
	const edge, route, method = policy.EdgeREST, "/v1/users/{user_id}", "GET"
	m := NewMetrics()
	s := m.Series(edge, route, method)
	for name, f := range map[string]func(){
		"had":       func() { s.tally.done("200", time.Millisecond, nil) },
		"looked-up": func() { m.Series(edge, route, method).tally.done("200", time.Millisecond, nil) },
		"prometheus": func() {
			m.requests.WithLabelValues(string(edge), route, method, "200").Inc()
			m.duration.WithLabelValues(string(edge), route, method).Observe(.001)
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
