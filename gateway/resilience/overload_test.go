package resilience

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func newOurs(t testing.TB, o Options, classes ...string) (*ours, *clock) {
	t.Helper()
	c := newClock()
	o.Clock = c.now
	s, err := NewService(o)
	if err != nil {
		t.Fatal(err)
	}
	g := &ours{service: s}
	if len(classes) == 0 {
		classes = []string{"read", "write"}
	}
	for _, name := range classes {
		g.class = append(g.class, s.Class(name))
	}
	return g, c
}

func show(t *testing.T, rs []result) {
	t.Helper()
	for _, r := range rs {
		t.Logf("%-10s offered %6.0f/s good %5.0f/s refused %6d (second half %6d) too late %5d p50 %4dms p99 %4dms bound %4d (least %d)", r.name, float64(r.offered)/r.lasted.Seconds(),
			r.goodput(), r.refused, r.refusedLate, r.tooOld, r.p50.Milliseconds(), r.p99.Milliseconds(), r.limit, r.lowest)
	}
}

// overload is a simulation with what has to come of it.
type overload struct {
	name   string
	phases []phase
	check  func([]result) error
}

// The simulated service works 10 calls at once, each 10 ms: its capacity is 1000 a second.
const capacity, workers = 1000, 10

func works(d time.Duration) []kind { return []kind{{share: 1, work: d}} }
func waits(d time.Duration) []kind { return []kind{{share: 1, work: d, waiting: true}} }

var tick = 10 * time.Millisecond

func times(name string, x float64, lasts time.Duration) phase {
	return phase{name: name, lasts: lasts, rate: x * capacity, workers: workers, kinds: works(tick)}
}

// keeps says that a phase has so much goodput, a second, and answers so fast.
func keeps(r result, good float64, p99 time.Duration) error {
	var errs []error
	if r.goodput() < good {
		errs = append(errs, fmt.Errorf("%s: %.0f good answers a second, not %.0f", r.name, r.goodput(), good))
	}
	if r.p99 > p99 {
		errs = append(errs, fmt.Errorf("%s: p99 %v, not %v", r.name, r.p99, p99))
	}
	return errors.Join(errs...)
}

// refuses says that a phase refuses no more than so many, and none in its second half.
func refuses(r result, most int) error {
	if r.refused > most || r.refusedLate > 0 {
		return fmt.Errorf("%s: %d refused, %d of them in the second half; not more than %d, and none", r.name, r.refused, r.refusedLate, most)
	}
	return nil
}

// stretch is how long a phase of the capacity's multiples lasts.
var stretch = map[bool]time.Duration{true: 10 * time.Second, false: 4 * time.Second}[long]

func hiccups() (out []phase) {
	for range 20 {
		out = append(out, phase{name: "works", lasts: 2 * time.Second, rate: 900, workers: 2, kinds: works(time.Millisecond)},
			phase{name: "stands", lasts: 80 * time.Millisecond, rate: 900, workers: 0, kinds: works(time.Millisecond)})
	}
	return out
}

var overloads = []overload{
	{"rising to ten times, and back", []phase{
		times("half", 0.5, stretch), times("once", 1, stretch), times("twice", 2, stretch),
		times("5 times", 5, stretch), times("10 times", 10, stretch), times("half again", 0.5, stretch),
	}, func(rs []result) error {
		errs := []error{refuses(rs[0], 0)}
		for _, r := range rs[2:5] {
			errs = append(errs, keeps(r, 0.9*capacity, 500*time.Millisecond))
		}
		return errors.Join(append(errs, refuses(rs[5], 100))...)
	}},
	{"ten times from the start", []phase{times("10 times", 10, stretch)}, func(rs []result) error {
		return keeps(rs[0], 0.9*capacity, 300*time.Millisecond)
	}},
	{"ten times for long", []phase{times("half", 0.5, 5*time.Second), times("10 times", 10, stretch), times("still", 10, stretch)}, func(rs []result) error {
		return errors.Join(keeps(rs[1], 0.9*capacity, 300*time.Millisecond), keeps(rs[2], 0.9*capacity, 300*time.Millisecond))
	}},
	{"methods of 1 ms and 600 ms", []phase{
		{name: "few", lasts: 3 * stretch, rate: 300, kinds: bimodal},
		{name: "many", lasts: 3 * stretch, rate: 2000, kinds: bimodal},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), refuses(rs[1], 200)) }},
	{"more of the slow methods", []phase{
		{name: "tenth", lasts: 20 * time.Second, rate: 400, kinds: bimodal},
		{name: "half", lasts: 20 * time.Second, rate: 400, kinds: []kind{{share: .5, work: time.Millisecond, waiting: true}, {share: .5, work: 600 * time.Millisecond, waiting: true, class: 1}}},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), refuses(rs[1], 400)) }},
	{"calls take 40 times as long, without a queue", []phase{
		{name: "10 ms", lasts: 15 * time.Second, rate: capacity, kinds: waits(tick)},
		{name: "400 ms", lasts: 30 * time.Second, rate: capacity, kinds: waits(400 * time.Millisecond)},
		{name: "10 ms", lasts: 15 * time.Second, rate: capacity, kinds: waits(tick)},
	}, func(rs []result) error {
		return errors.Join(refuses(rs[0], 0), refuses(rs[1], 6000), refuses(rs[2], 0))
	}},
	{"slower from the least bound", []phase{
		times("10 times", 10, 5*time.Second), {name: "1 worker", lasts: 30 * time.Second, rate: capacity, workers: 1, kinds: works(tick)},
		{name: "400 ms", lasts: time.Minute, rate: 200, kinds: waits(400 * time.Millisecond)},
	}, func(rs []result) error {
		return errors.Join(keeps(rs[1], 90, 900*time.Millisecond), refuses(rs[2], 4000))
	}},
	{"a tenth of the capacity, and back", []phase{
		times("all", 0.5, 15*time.Second), {name: "tenth", lasts: 30 * time.Second, rate: capacity / 2, workers: 1, kinds: works(tick)},
		times("all again", 0.5, 15*time.Second),
	}, func(rs []result) error {
		return errors.Join(refuses(rs[0], 0), keeps(rs[1], 90, time.Second), refuses(rs[2], 250))
	}},
	{"a method that hangs", []phase{
		{name: "fine", lasts: 15 * time.Second, rate: capacity, kinds: waits(5 * time.Millisecond)},
		{name: "hangs", lasts: 30 * time.Second, rate: capacity, kinds: []kind{{share: .9, work: 5 * time.Millisecond, waiting: true}, {share: .1, work: time.Minute, waiting: true}}},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), keeps(rs[1], 0.9*0.95*capacity, tick)) }},
	{"a machine that stands still now and then", hiccups(), func(rs []result) (err error) {
		for _, r := range rs {
			err = errors.Join(err, refuses(r, 0))
		}
		return err
	}},
	{"half of the calls fail at once", []phase{{name: "failing", lasts: 20 * time.Second, rate: capacity, kinds: waits(50 * time.Millisecond), fail: 0.4}},
		func(rs []result) error { return refuses(rs[0], 0) }},
}

var bimodal = []kind{{share: .9, work: time.Millisecond, waiting: true}, {share: .1, work: 600 * time.Millisecond, waiting: true, class: 1}}

func TestOverload(t *testing.T) {
	for _, c := range overloads {
		t.Run(c.name, func(t *testing.T) {
			g, at := newOurs(t, Options{Breaker: BreakerOptions{Off: true}})
			rs := simulate(g, at.advance, c.phases...)
			if len(rs) < 10 {
				show(t, rs)
			}
			if err := c.check(rs); err != nil {
				t.Error(err)
			}
			if n := g.service.limiter.inFlight.Load(); n < 0 {
				t.Errorf("%d calls in flight", n)
			}
		})
	}
}

// TestOptionalIsShedFirst: while a third of the calls are optional branches, ten times
// the load refuses these before whole requests.
func TestOptionalIsShedFirst(t *testing.T) {
	g, at := newOurs(t, Options{})
	warm, over := times("half", 0.5, 5*time.Second), times("one and a bit", 1.2, 20*time.Second)
	warm.optional, over.optional = 0.33, 0.33
	rs := simulate(g, at.advance, warm, over)
	show(t, rs)
	whole := float64(rs[1].refusedOf[Whole]) / float64(rs[1].offeredOf[Whole])
	optional := float64(rs[1].refusedOf[Optional]) / float64(rs[1].offeredOf[Optional])
	if whole > 0.001 || optional < 0.3 {
		t.Errorf("refused %.2f%% of the whole requests and %.2f%% of the optional branches", 100*whole, 100*optional)
	}
}
