package resilience

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// quiet are streams whose callers wait for something to happen.
func quiet(share float64) kind { return kind{share: share, stream: true, class: 1} }

// initial says that a phase has left the limit about where it began.
func initial(r result) error {
	if r.limit < 95 || r.lowest < 95 { // Known to take 10 ms, a service has a second of calls.
		return fmt.Errorf("%s: the limit is %d, it was %d", r.name, r.limit, r.lowest)
	}
	return nil
}

// waitings are simulations of calls whose callers are waited for.
var waitings = []overload{
	{"uploads of 1 s to a service of 10 ms", []phase{
		{name: "uploads", lasts: 20 * time.Second, rate: 100, deadline: time.Minute, kinds: []kind{{share: 1, work: tick, waiting: true, upload: time.Second}}},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), initial(rs[0])) }},
	{"uploads that are ten times too many, and then fewer", []phase{
		{name: "ten times", lasts: 10 * time.Second, rate: 1000, workers: 10, deadline: 5 * time.Second, kinds: []kind{{share: 1, work: 10 * tick, upload: time.Second}}},
		{name: "settles", lasts: 10 * time.Second, rate: 50, workers: 10, deadline: 5 * time.Second, kinds: []kind{{share: 1, work: 10 * tick, upload: time.Second}}},
		{name: "half", lasts: 20 * time.Second, rate: 50, workers: 10, deadline: 5 * time.Second, kinds: []kind{{share: 1, work: 10 * tick, upload: time.Second}}},
	}, func(rs []result) error { return refuses(rs[2], 200) }},
	{"200 streams at once and nothing else", []phase{
		{name: "streams", lasts: 30 * time.Second, rate: 40, batch: 200, steady: true, kinds: []kind{quiet(1)}},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), initial(rs[0])) }},
	{"streams after an overload", []phase{
		queueOf("ten times", 1000, 10, 10*time.Second),
		{name: "streams", lasts: 30 * time.Second, rate: 10, kinds: []kind{quiet(1)}},
		queueOf("half", 50, 10, 10*time.Second),
	}, func(rs []result) error { return errors.Join(refuses(rs[1], 0), refuses(rs[2], 0)) }},
	{"50 streams a second beside 90% of the capacity", []phase{
		{name: "both", lasts: 30 * time.Second, rate: 140, workers: 10, kinds: []kind{{share: 90.0 / 140, work: 10 * tick, spread: exact}, quiet(50.0 / 140)}},
	}, func(rs []result) error { return refuses(rs[0], 0) }},
	{"a service of 10 s that nothing is known of, and callers who go away", []phase{
		{name: "cold", lasts: 30 * time.Second, rate: 7, deadline: time.Minute, kinds: []kind{
			{share: 0.8, work: 10 * time.Second, waiting: true, spread: exact}, {share: 0.2, work: 10 * time.Second, waiting: true, givesUp: 500 * time.Millisecond},
		}},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), initial(rs[0])) }},
	{"callers who go away early, and many of them", []phase{
		{name: "answered", lasts: 10 * time.Second, rate: 50, kinds: waits(10 * tick)},
		{name: "going", lasts: 20 * time.Second, rate: 500, kinds: []kind{{share: 1, work: 10 * tick, waiting: true, givesUp: tick}}},
		{name: "again", lasts: 10 * time.Second, rate: 50, kinds: waits(10 * tick)},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), refuses(rs[1], 0), refuses(rs[2], 0)) }},
	{"99 of 100 go away before they can be answered", []phase{
		{name: "answered", lasts: 10 * time.Second, rate: 50, kinds: waits(10 * tick)},
		{name: "going", lasts: 6 * time.Second, rate: 250, kinds: []kind{{share: 0.99, work: 10 * tick, waiting: true, givesUp: 4 * tick}, {share: 0.01, work: 10 * tick, waiting: true}}},
		{name: "more", lasts: 6 * time.Second, rate: 2500, kinds: []kind{{share: 0.99, work: 10 * tick, waiting: true, givesUp: 4 * tick}, {share: 0.01, work: 10 * tick, waiting: true}}},
		{name: "still", lasts: 6 * time.Second, rate: 2500, kinds: []kind{{share: 0.99, work: 10 * tick, waiting: true, givesUp: 4 * tick}, {share: 0.01, work: 10 * tick, waiting: true}}},
	}, func(rs []result) error { return errors.Join(refuses(rs[0], 0), refuses(rs[1], 0), refuses(rs[3], 0)) }},
}

// TestWaitingCallers: what callers take, and that they go away, bounds no calls.
func TestWaitingCallers(t *testing.T) {
	for _, c := range waitings {
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

// TestPlaces: a place is in flight or is not, however its ends meet.
func TestPlaces(t *testing.T) {
	s, err := NewService(Options{Breaker: BreakerOptions{Off: true}})
	if err != nil {
		t.Fatal(err)
	}
	c := s.Class("read")
	for i := range 1000 {
		permit, err := c.Acquire(Whole)
		if err != nil {
			t.Fatal(err)
		}
		p := permit.Place()
		p.Leave()
		p.Leave()
		if n := s.limiter.inFlight.Load(); n != 0 {
			t.Fatalf("%d in flight while the caller is waited for", n)
		}
		var wg sync.WaitGroup
		wg.Go(p.Return)
		wg.Go(func() { p.Done(Outcome(i % 4)) })
		wg.Wait()
		p.Done(Failure)
		p.Return()
		p.Leave()
		if n := s.limiter.inFlight.Load(); n != 0 {
			t.Fatalf("%d in flight after the end", n)
		}
	}
	var none Permit
	p := none.Place()
	p.Leave()
	p.Return()
	p.Done(Success)
}

// TestClockIsSetBack: a clock that steps leaves a limit that is one.
func TestClockIsSetBack(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, -time.Second, time.Hour} {
		g, at := newOurs(t, Options{Breaker: BreakerOptions{Off: true}})
		for i := range 20000 {
			done, ok := g.enter(Whole)
			if !ok {
				t.Fatalf("step %v: call %d is refused", step, i)
			}
			if i%5000 == 50 {
				at.advance(step)
			}
			at.advance(tick)
			done(Success)
		}
		at.advance(5 * time.Hour)
		for range 100 {
			at.advance(tick)
			if done, ok := g.enter(Whole); ok {
				at.advance(tick)
				done(Success)
			}
		}
		usual := g.service.limiter.usualOf(g.class[0])
		if n := g.limit(); n < 24 || usual < 5*time.Millisecond || usual > time.Second {
			t.Errorf("step %v: the limit is %d, the usual latency %v", step, n, usual)
		}
	}
}
