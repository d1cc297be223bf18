package balance

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// clock is a time that stands still.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// newGroup has the backends a, b, c …, each as heavy as weights says.
func newGroup(t testing.TB, o Options, weights ...int) (*Group[struct{}], *clock) {
	t.Helper()
	c := &clock{t: time.Unix(1_800_000_000, 0)}
	o.Clock, o.Ready, o.Name = c.now, true, "x"
	g, err := New[struct{}](o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	g.set(weights...)
	return g, c
}

func (g *Group[C]) set(weights ...int) {
	var bs []discovery.Backend
	for i, w := range weights {
		if w > 0 {
			bs = append(bs, discovery.Backend{Addr: string(rune('a' + i)), Weight: w})
		}
	}
	g.Update(bs, func(*Member[C], discovery.Backend) (c C) { return c })
}

// spread is who gets n calls, each of which ends at once.
func (g *Group[C]) spread(n int) map[string]int {
	got := map[string]int{}
	for range n {
		m := g.Pick(nil)
		got[m.Addr]++
		m.Done(resilience.Success)
	}
	return got
}

// TestSpread: who gets how many of 6,000 calls. Turns are exact, chance is nearly so.
func TestSpread(t *testing.T) {
	for _, c := range []struct {
		policy  string
		weights []int
		want    []int
		off     int // by how many calls it may be off
	}{
		{"", []int{1, 1, 1}, []int{2000, 2000, 2000}, 0},
		{RoundRobin, []int{1, 5, 9}, []int{2000, 2000, 2000}, 0},
		{RoundRobin, []int{1}, []int{6000}, 0},
		{Weighted, []int{1, 2, 3}, []int{1000, 2000, 3000}, 3},
		{Weighted, []int{1, 1, 1}, []int{2000, 2000, 2000}, 0},
		{Weighted, []int{1000, 1}, []int{5994, 6}, 5},
		{LeastRequest, []int{1, 1, 1}, []int{2000, 2000, 2000}, 250},
		{LeastRequest, []int{1, 2, 3}, []int{1000, 2000, 3000}, 350},
	} {
		t.Run(fmt.Sprint(c.policy, c.weights), func(t *testing.T) {
			g, _ := newGroup(t, Options{Policy: c.policy}, c.weights...)
			got := g.spread(6000)
			for i, want := range c.want {
				if n := got[string(rune('a'+i))]; n < want-c.off || n > want+c.off {
					t.Errorf("%c: %d calls, want %d±%d: %v", 'a'+i, n, want, c.off, got)
				}
			}
		})
	}
}

// TestWeightedIsSmooth: a heavy backend does not get its calls in one go.
func TestWeightedIsSmooth(t *testing.T) {
	g, _ := newGroup(t, Options{Policy: Weighted}, 3, 2, 1)
	row, most, last := 0, 0, ""
	for range 600 {
		m := g.Pick(nil)
		if row++; m.Addr != last {
			row, last = 1, m.Addr
		}
		most = max(most, row)
	}
	if most > 3 {
		t.Errorf("%d calls in a row went to one backend", most)
	}
}

// TestLeastRequest: a backend that does not answer gets few calls.
func TestLeastRequest(t *testing.T) {
	g, _ := newGroup(t, Options{Policy: LeastRequest}, 1, 1, 1)
	got := map[string]int{}
	for range 3000 {
		m := g.Pick(nil)
		if got[m.Addr]++; m.Addr != "b" {
			m.Done(resilience.Success)
		}
	}
	if got["b"] > 20 || got["a"] < 1000 {
		t.Errorf("a slow backend is not spared: %v", got)
	}
}

// TestSlowStart: a new backend's share grows from a tenth to its whole.
func TestSlowStart(t *testing.T) {
	for _, policy := range []string{RoundRobin, Weighted, LeastRequest} {
		t.Run(policy, func(t *testing.T) {
			g, c := newGroup(t, Options{Policy: policy, SlowStart: 100 * time.Second}, 1, 1, 0)
			c.add(200 * time.Second)
			g.set(1, 1, 1)
			for _, step := range []struct {
				after time.Duration
				share float64
				state string
			}{{0, .1, StateSlowStart}, {20 * time.Second, .2, StateSlowStart}, {30 * time.Second, .5, StateSlowStart}, {50 * time.Second, 1, StateReady}} {
				c.add(step.after)
				got, want := float64(g.spread(9000)["c"]), 9000*step.share/(2+step.share)
				if math.Abs(got-want) > 150 {
					t.Errorf("after %v more: %.0f calls, want %.0f", step.after, got, want)
				}
				if s := g.Backends()[2].State; s != step.state {
					t.Errorf("after %v more it is %s", step.after, s)
				}
			}
			g.Set("c", Unhealthy, errors.New("no"))
			if n := g.spread(100)["c"]; n != 0 {
				t.Errorf("an unhealthy backend got %d calls", n)
			}
			g.Set("c", Ready, nil)
			if s := g.Backends()[2].State; s != StateSlowStart {
				t.Errorf("back, it is %s", s)
			}
			g.Set("a", Connecting, nil)
			g.Set("a", Ready, nil)
			if s := g.Backends()[0].State; s != StateReady {
				t.Errorf("a connection that was made anew begins slowly: %s", s)
			}
		})
	}
}

// TestEjection: a backend that fails is left out, comes back, and its calls in flight
// are counted throughout, updates included.
func TestEjection(t *testing.T) {
	reg := prometheus.NewRegistry()
	g, c := newGroup(t, Options{Metrics: NewMetrics(reg), SlowStart: 10 * time.Second,
		Outlier: resilience.OutlierOptions{ConsecutiveFailures: 3, BaseEjection: 5 * time.Second}}, 1, 1, 1)
	c.add(time.Minute)
	var held *Member[struct{}]
	fail := func(o resilience.Outcome, n int) {
		for n > 0 {
			m := g.Pick(nil)
			if m.Addr != "b" {
				m.Done(resilience.Success)
				continue
			}
			if n--; held == nil {
				held = m
				continue
			}
			m.Done(o)
		}
	}
	fail(resilience.Ignored, 9)
	fail(resilience.Failure, 2)
	fail(resilience.Success, 1)
	fail(resilience.Failure, 2)
	if s := g.Backends()[1]; s.State != StateReady || s.InFlight != 1 {
		t.Fatalf("not three in a row: %+v", s)
	}
	fail(resilience.Overload, 1)
	g.set(1, 1, 1, 1) // Another comes; b stays as it is.
	if got := g.spread(300); got["b"] != 0 || got["d"] == 0 {
		t.Errorf("left out, and: %v", got)
	}
	if s := g.Backends()[1]; s.State != StateEjected || s.Ejections != 1 || s.InFlight != 1 || s.EjectedUntil.Sub(c.now()).Round(time.Second) != 5*time.Second {
		t.Errorf("it is %+v", s)
	}
	if got := gathered(t, reg); got["sluice_upstream_ejections_total x"] != 1 || got["sluice_upstream_backends ejected x"] != 1 ||
		got["sluice_upstream_backends slow_start x"] != 1 || got["sluice_upstream_backends ready x"] != 2 || got["sluice_upstream_panic x"] != 0 {
		t.Errorf("metrics: %v", got)
	}
	held.Done(resilience.Success)
	c.add(6 * time.Second)
	if got := g.spread(300); got["b"] == 0 || got["b"] > 30 {
		t.Errorf("back, it begins slowly: %v", got)
	}
	if s := g.Backends()[1]; s.State != StateSlowStart || s.InFlight != 0 {
		t.Errorf("it is %+v", s)
	}
	if again := NewMetrics(reg); again != g.o.Metrics {
		t.Error("metrics that are registered are not used")
	}
}

// TestNobodyIsWell: then all that can be reached are called, and nobody else.
func TestNobodyIsWell(t *testing.T) {
	g, _ := newGroup(t, Options{}, 1, 1, 1)
	g.Set("a", Unhealthy, errors.New("not serving"))
	g.Set("b", Failed, errors.New("refused"))
	if got := g.spread(30); got["c"] != 30 || g.Panics() {
		t.Errorf("one is well: %v", got)
	}
	g.Set("c", Unhealthy, nil)
	if got := g.spread(30); got["a"] != 15 || got["c"] != 15 || !g.Panics() {
		t.Errorf("nobody is well: %v", got)
	}
	if s := g.Backends(); s[0].State != StateUnhealthy || s[0].LastError != "not serving" || s[1].State != StateFailed {
		t.Errorf("states: %+v", s)
	}
	g.Set("a", Failed, nil)
	g.Set("c", Connecting, nil)
	if m := g.Pick(&Pick{}); m != nil {
		t.Errorf("%s cannot be reached", m.Addr)
	}
	g.Set("b", Ready, nil)
	if got := g.spread(3); got["b"] != 3 || g.Panics() {
		t.Errorf("one is back: %v", got)
	}
	g.set()
	if g.Pick(nil) != nil {
		t.Error("there is nobody")
	}
}

// TestAvoid: a retry goes elsewhere, where there is an elsewhere.
func TestAvoid(t *testing.T) {
	for _, policy := range []string{RoundRobin, Weighted, LeastRequest} {
		g, _ := newGroup(t, Options{Policy: policy}, 1, 2, 3)
		got := map[string]int{}
		for range 600 {
			p := Pick{Avoid: "c"}
			g.Pick(&p).Done(resilience.Success)
			got[p.Chosen]++
		}
		if got["c"] != 0 || got["a"] < 100 || got["b"] < 100 {
			t.Errorf("%s: %v", policy, got)
		}
		g.set(0, 0, 1)
		p := Pick{Avoid: "c"}
		if g.Pick(&p); p.Chosen != "c" {
			t.Errorf("%s: the only one was avoided: %q", policy, p.Chosen)
		}
	}
}

// TestUpdate: what stays is kept, what goes is returned, duplicates count once.
func TestUpdate(t *testing.T) {
	g, err := New[string](Options{})
	if err != nil {
		t.Fatal(err)
	}
	open := func(m *Member[string], b discovery.Backend) string { return "to " + m.Addr + fmt.Sprint(b.Weight) }
	g.Update([]discovery.Backend{{Addr: "a"}, {Addr: "b"}, {Addr: "a", Weight: 7}}, open)
	if g.Pick(nil) != nil {
		t.Error("a backend that is not ready was picked")
	}
	g.Set("a", Ready, nil)
	g.Set("nobody", Ready, nil)
	m := g.Pick(nil)
	if m.Conn != "to a0" {
		t.Errorf("conn %q", m.Conn)
	}
	if gone := g.Update([]discovery.Backend{{Addr: "a", Weight: 2}}, open); len(gone) != 1 || gone[0] != "to b0" {
		t.Errorf("gone: %v", gone)
	}
	if s := g.Backends(); len(s) != 1 || s[0].InFlight != 1 || s[0].Weight != 2 {
		t.Errorf("%+v", s)
	}
	g.Update(nil, open)
	m.Done(resilience.Failure) // Of one that is gone.
	if _, err := New[int](Options{Policy: "best"}); err == nil || !strings.Contains(err.Error(), "least_request") {
		t.Errorf("an unknown policy: %v", err)
	}
}

// TestConcurrent: picks, reports and updates at once, for the race detector, and no
// call is lost count of.
func TestConcurrent(t *testing.T) {
	for _, policy := range []string{RoundRobin, Weighted, LeastRequest} {
		g, c := newGroup(t, Options{Policy: policy, SlowStart: time.Second, Outlier: resilience.OutlierOptions{ConsecutiveFailures: 2}}, 1, 2, 3, 4)
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 2000 {
					p := Pick{Avoid: "a"}
					m := g.Pick(&p)
					if m == nil {
						t.Error("nobody was left")
						return
					}
					m.Done(resilience.Outcome((i + w) % 4))
				}
			})
		}
		wg.Go(func() {
			for i := range 200 {
				g.set(1, 2, 3, 1+i%5)
				g.Set("b", []State{Unhealthy, Ready}[i%2], nil)
				c.add(50 * time.Millisecond)
				g.Backends()
			}
		})
		wg.Wait()
		for _, b := range g.Backends() {
			if b.InFlight != 0 {
				t.Errorf("%s: %d calls of %s are still in flight", policy, b.InFlight, b.Addr)
			}
		}
	}
}

// TestPickAllocatesNothing holds for every policy, also during a slow start.
func TestPickAllocatesNothing(t *testing.T) {
	for _, policy := range []string{RoundRobin, Weighted, LeastRequest} {
		g, _ := newGroup(t, Options{Policy: policy, SlowStart: time.Hour}, 1, 2, 3)
		p := &Pick{Avoid: "a"}
		if n := testing.AllocsPerRun(1000, func() { g.Pick(p).Done(resilience.Success) }); n != 0 {
			t.Errorf("%s: %v allocations", policy, n)
		}
	}
}

// BenchmarkPick is a pick and its end, of ten backends, by as many callers as there
// are processors.
func BenchmarkPick(b *testing.B) {
	for _, policy := range []string{RoundRobin, Weighted, LeastRequest} {
		b.Run(policy, func(b *testing.B) {
			g, _ := newGroup(b, Options{Policy: policy}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					g.Pick(nil).Done(resilience.Success)
				}
			})
		})
	}
}

// gathered is all series by their name and the values of their labels.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			if got[key] = m.GetGauge().GetValue(); m.GetCounter() != nil {
				got[key] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}
