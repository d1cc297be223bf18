package resilience

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// long has the whole tables of docs/decisions/0021-resilience.md made, which takes a minute.
var long = os.Getenv("SLUICE_LONG") != ""

// served is a simulated service of the table of docs/decisions/0021-resilience.md.
type served struct {
	name     string
	capacity float64 // calls a second
	phase    phase
}

func one(work time.Duration, s spread) []kind { return []kind{{share: 1, work: work, spread: s}} }

var servedBy = []served{
	{"queue, 10 of 100 ms", 100, phase{workers: 10, kinds: one(100*time.Millisecond, exact)}},
	{"queue, 10 of 100 ms, exponential", 100, phase{workers: 10, kinds: one(100*time.Millisecond, exp)}},
	{"queue, 10 of 10 ms", 1000, phase{workers: 10, kinds: one(10*time.Millisecond, even)}},
	{"queue, 100 of 50 ms", 2000, phase{workers: 100, kinds: one(50*time.Millisecond, even)}},
	{"slows down, 10 of 100 ms", 100, phase{workers: 10, sharing: true, kinds: one(100*time.Millisecond, even)}},
	{"slows down, 2 of 20 ms", 100, phase{workers: 2, sharing: true, kinds: one(20*time.Millisecond, exp)}},
	{"1 ms, two kinds", 2000, phase{workers: 2, kinds: one(time.Millisecond, twoKind)}},
	{"1 ms, stands still", 2000 * 0.94, phase{workers: 2, stall: 60 * time.Millisecond, stallEvery: time.Second, kinds: one(time.Millisecond, exp)}},
	{"1 ms, heavy tail", 4000, phase{workers: 4, kinds: one(time.Millisecond, heavy)}},
	{"1 ms and 200 ms", 10 / 0.0209, phase{workers: 10, kinds: []kind{{share: 0.9, work: time.Millisecond}, {share: 0.1, work: 200 * time.Millisecond, class: 1}}}},
}

func (s served) load(name string, x float64, lasts time.Duration, steady bool) phase {
	p := s.phase
	p.name, p.rate, p.lasts, p.steady = name, x*s.capacity, lasts, steady
	return p
}

// verdict is what a limit did at one service.
type verdict struct {
	over           float64 // p99 at ten times the load, of that at capacity
	goodput        float64 // at ten times, of the capacity
	shed, shedLate int     // of offered calls at nine tenths: from the start, and in the end of 10 s after the overload
	p50            time.Duration
}

// tried judges a limit: at 95% of the capacity, evenly as an operator measures it, at ten
// times that, and at nine tenths, at random.
func (s served) tried(fresh func() (gate, func(time.Duration))) verdict {
	lasts, begins := 20*time.Second, time.Duration(0)
	switch {
	case s.capacity >= 1000 && !long: // Too short for what the begin of an overload lets in to be less than p99.
		lasts, begins = 2*time.Second, time.Second
	case s.capacity > 1000:
		lasts = 12 * time.Second
	}
	g, advance := fresh()
	rs := simulate(g, advance, s.load("capacity", 0.95, lasts, true), s.load("begins", 10, begins, true),
		s.load("ten times", 10, lasts, true), s.load("after", 0.9, max(lasts, 8*time.Second), false))
	g, advance = fresh()
	ninety := simulate(g, advance, s.load("half", 0.5, time.Second, false), s.load("90%", 0.9, lasts, false))
	return verdict{float64(rs[2].p99) / float64(rs[0].p99), rs[2].goodput() / s.capacity, ninety[1].refused, rs[3].refusedLate, rs[2].p50}
}

func (v verdict) check() error {
	var errs []error
	if v.over > 3 {
		errs = append(errs, fmt.Errorf("p99 is %.1f times that at capacity, not 3", v.over))
	}
	if v.goodput < 0.95 {
		errs = append(errs, fmt.Errorf("goodput is %.1f%% of the capacity, not 95", 100*v.goodput))
	}
	if v.shed+v.shedLate > 0 {
		errs = append(errs, fmt.Errorf("%d calls refused at nine tenths, %d in the end of that after an overload", v.shed, v.shedLate))
	}
	return errors.Join(errs...)
}

func (v verdict) String() string {
	return fmt.Sprintf("p50 %4dms, p99 x %4.1f, goodput %5.1f%%, refused at 90%% %5d, after an overload %5d", v.p50.Milliseconds(), v.over, 100*v.goodput, v.shed, v.shedLate)
}

// TestKnee: at ten times the load a service does as much as ever, calls that are let in do not wait
// long, and nobody is refused at nine tenths of it.
func TestKnee(t *testing.T) {
	for _, s := range servedBy {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			v := s.tried(func() (gate, func(time.Duration)) {
				g, at := newOurs(t, Options{Breaker: BreakerOptions{Off: true}})
				return g, at.advance
			})
			t.Log(v)
			if err := v.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKneeRivals holds the others against the same. One that passes everywhere
// fails the test: then the decision is to be thought over.
func TestKneeRivals(t *testing.T) {
	for _, lib := range rivals {
		t.Run(lib.name, func(t *testing.T) {
			failed := 0
			rows := servedBy[:6]
			if !long {
				rows = rows[:2]
			}
			for _, s := range rows {
				v := s.tried(func() (gate, func(time.Duration)) {
					at := newClock()
					return &rival{now: at.now, bound: lib.initial, answer: lib.answer}, at.advance
				})
				t.Logf("%-34s %v", s.name, v)
				if v.check() != nil {
					failed++
				}
			}
			if failed == 0 {
				t.Error("it does everything that ours does")
			}
		})
	}
	t.Run("failsafe-go", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			failed := 0
			for _, s := range servedBy[:1] {
				v := s.tried(func() (gate, func(time.Duration)) { return newFailsafeLimiter(), time.Sleep })
				t.Logf("%-34s %v", s.name, v)
				if v.check() != nil {
					failed++
				}
			}
			if failed == 0 {
				t.Error("it does everything that ours does")
			}
		})
	})
}
