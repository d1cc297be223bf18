package resilience

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// queueOf is the service of issue 10: so many calls at once, each 100 ms.
func queueOf(name string, rate float64, workers int, lasts time.Duration) phase {
	return phase{name: name, lasts: lasts, rate: rate, workers: workers, kinds: one(100*time.Millisecond, exact)}
}

var changes = []overload{
	{"half of the capacity is gone for a while, at nine tenths of it", []phase{
		queueOf("all", 90, 10, 20*time.Second), queueOf("settles", 90, 5, 3*time.Second), queueOf("half", 90, 5, 20*time.Second),
		queueOf("returns", 90, 10, 5*time.Second), queueOf("all again", 90, 10, 20*time.Second),
	}, func(rs []result) error {
		return errors.Join(refuses(rs[0], 0), keeps(rs[2], 0.88*50, 350*time.Millisecond), refuses(rs[4], 0))
	}},
	{"half of the capacity is gone for a while, at ten times", []phase{
		queueOf("all", 1000, 10, 10*time.Second), queueOf("half", 1000, 5, 20*time.Second), queueOf("all again", 1000, 10, 20*time.Second),
	}, func(rs []result) error {
		return errors.Join(keeps(rs[1], 0.95*50, 450*time.Millisecond), keeps(rs[2], 0.95*100, 350*time.Millisecond))
	}},
	{"calls take longer in an overload", []phase{
		queueOf("all", 1000, 10, 10*time.Second),
		{name: "longer", lasts: 20 * time.Second, rate: 1000, workers: 30, kinds: one(300*time.Millisecond, exact)},
	}, func(rs []result) error { return keeps(rs[1], 0.75*100, 900*time.Millisecond) }},
	{"calls take three times as long, and nobody waits", []phase{
		{name: "before", lasts: 10 * time.Second, rate: 90, kinds: waits(100 * time.Millisecond)},
		{name: "longer", lasts: 20 * time.Second, rate: 90, kinds: waits(300 * time.Millisecond)},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), refuses(rs[1], 0)) }},
	{"bursts of 20", []phase{
		{name: "bursts", lasts: 30 * time.Second, rate: 40, batch: 20, workers: 10, kinds: one(100*time.Millisecond, exact)},
	}, func(rs []result) error { return refuses(rs[0], 5) }},
	{"64 calls at once after a quiet time", []phase{
		{name: "few", lasts: 20 * time.Second, rate: 10, workers: 4, kinds: one(5*time.Millisecond, even)},
		{name: "64", lasts: 20 * time.Second, rate: 32, batch: 64, steady: true, workers: 4, kinds: one(5*time.Millisecond, even)},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), refuses(rs[1], 0)) }},
	{"idle, then ten times", []phase{
		queueOf("busy", 50, 10, 10*time.Second), {name: "idle", lasts: 10 * time.Minute}, queueOf("ten times", 1000, 10, 20*time.Second),
	}, func(rs []result) error { return keeps(rs[2], 95, 350*time.Millisecond) }},
	{"a little too much", []phase{
		queueOf("before", 50, 10, 10*time.Second), queueOf("1.3 times", 130, 10, 30*time.Second), queueOf("still", 130, 10, 20*time.Second),
	}, func(rs []result) error {
		return errors.Join(keeps(rs[1], 91, time.Second), keeps(rs[2], 94, 450*time.Millisecond))
	}},
	{"callers that go away after 150 ms", []phase{
		{name: "impatient", lasts: 20 * time.Second, rate: 1000, givesUp: 150 * time.Millisecond, workers: 10, kinds: one(100*time.Millisecond, exact)},
		{name: "still", lasts: 20 * time.Second, rate: 1000, givesUp: 150 * time.Millisecond, workers: 10, kinds: one(100*time.Millisecond, exact)},
	}, func(rs []result) error { return keeps(rs[1], 25, 200*time.Millisecond) }},
}

func TestChanges(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			g, at := newOurs(t, Options{Breaker: BreakerOptions{Off: true}})
			rs := simulate(g, at.advance, c.phases...)
			show(t, rs)
			if err := c.check(rs); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFleet: several gateways before one service do not take each other's queue for its latency.
func TestFleet(t *testing.T) {
	for _, n := range []int{2, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			f, ats := &fleet{}, []*clock{}
			for range n {
				g, at := newOurs(t, Options{Breaker: BreakerOptions{Off: true}})
				f.gates, ats = append(f.gates, g), append(ats, at)
			}
			rs := simulate(f, func(d time.Duration) {
				for _, at := range ats {
					at.advance(d)
				}
			}, queueOf("nine tenths", 90, 10, 20*time.Second), queueOf("ten times", 1000, 10, 30*time.Second), queueOf("still", 1000, 10, 60*time.Second), queueOf("settles", 90, 10, 10*time.Second), queueOf("nine tenths", 90, 10, 20*time.Second))
			show(t, rs)
			if err := errors.Join(refuses(rs[0], 0), keeps(rs[2], 95, 400*time.Millisecond), refuses(rs[4], 0)); err != nil {
				t.Error(err)
			}
		})
	}
}
