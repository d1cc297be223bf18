package resilience

import (
	"testing"
	"time"
)

func newOurs(t *testing.T, o Options, classes ...string) (*ours, *clock) {
	t.Helper()
	c := newClock()
	o.Clock = c.now
	s, err := NewService(o)
	if err != nil {
		t.Fatal(err)
	}
	g := &ours{service: s}
	if len(classes) == 0 {
		classes = []string{"read"}
	}
	for _, name := range classes {
		g.class = append(g.class, s.Class(name))
	}
	return g, c
}

func show(t *testing.T, rs []result) {
	t.Helper()
	for _, r := range rs {
		t.Logf("%-14s offered %6d refused %6d (late %5d) good/s %7.0f tooOld %5d p50 %7v p99 %7v limit %d lowest %d optional refused %d/%d", r.name, r.offered, r.refused, r.refusedLate, r.goodput(),
			r.tooOld, r.p50.Round(time.Millisecond), r.p99.Round(time.Millisecond), r.limit, r.lowest, r.refusedOf[Optional], r.offeredOf[Optional])
	}
}

func TestSimX(t *testing.T) {
	k10 := []kind{{share: 1, work: 10 * time.Millisecond}}
	g, c := newOurs(t, Options{})
	var ps []phase
	for _, x := range []float64{0.5, 0.9, 1, 2, 5, 10, 10, 0.5} {
		ps = append(ps, phase{name: "load", lasts: 20 * time.Second, rate: 2000 * x, workers: 20, kinds: k10, optional: .3})
	}
	show(t, simulate(g, c.advance, ps...))
	t.Log("cold 10x")
	g, c = newOurs(t, Options{})
	show(t, simulate(g, c.advance, phase{name: "10x", lasts: 120 * time.Second, rate: 20000, workers: 20, kinds: k10}, phase{name: "10x", lasts: 120 * time.Second, rate: 20000, workers: 20, kinds: k10}))
	t.Log("bimodal waits")
	bi := []kind{{share: .9, work: time.Millisecond, waiting: true}, {share: .1, work: 800 * time.Millisecond, waiting: true}}
	g, c = newOurs(t, Options{})
	show(t, simulate(g, c.advance, phase{name: "50", lasts: 60 * time.Second, rate: 500, kinds: bi}, phase{name: "bi", lasts: 60 * time.Second, rate: 2000, kinds: bi}, phase{name: "bi", lasts: 60 * time.Second, rate: 5000, kinds: bi}))
	t.Log("step: waiting 10ms -> 400 ms -> 10ms")
	g, c = newOurs(t, Options{})
	a, b := []kind{{share: 1, work: 10 * time.Millisecond, waiting: true}}, []kind{{share: 1, work: 400 * time.Millisecond, waiting: true}}
	show(t, simulate(g, c.advance, phase{name: "10", lasts: 30 * time.Second, rate: 1000, kinds: a}, phase{name: "400", lasts: 30 * time.Second, rate: 1000, kinds: b}, phase{name: "10", lasts: 30 * time.Second, rate: 1000, kinds: a}))
	t.Log("capacity tenth, back")
	g, c = newOurs(t, Options{})
	show(t, simulate(g, c.advance, phase{name: "20w", lasts: 30 * time.Second, rate: 1000, workers: 20, kinds: k10}, phase{name: "2w", lasts: 60 * time.Second, rate: 1000, workers: 2, kinds: k10}, phase{name: "20w", lasts: 30 * time.Second, rate: 1000, workers: 20, kinds: k10}))
	t.Log("hung method 10%")
	g, c = newOurs(t, Options{})
	h := []kind{{share: .9, work: 5 * time.Millisecond, waiting: true}, {share: .1, work: 5000 * time.Millisecond, waiting: true}}
	show(t, simulate(g, c.advance, phase{name: "ok", lasts: 30 * time.Second, rate: 1000, kinds: a}, phase{name: "hung", lasts: 60 * time.Second, rate: 1000, kinds: h}, phase{name: "ok", lasts: 30 * time.Second, rate: 1000, kinds: a}))
}
