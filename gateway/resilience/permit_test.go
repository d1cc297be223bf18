package resilience

import (
	"testing"
	"time"
)

// TestWhatIsNoTimeOfTheService: of an attempt, the bound is told how long the service
// took; nothing where that is not known, and not how long its caller was sending.
func TestWhatIsNoTimeOfTheService(t *testing.T) {
	plain := func(p Permit, _ func(), out Outcome) { p.Done(out) }
	for name, tc := range map[string]struct {
		attempt func(p Permit, later func(), out Outcome)
		out     Outcome
		n       int64
		took    time.Duration
	}{
		"an answer": {plain, Success, 1, 9 * time.Second},
		"behind an upload": {func(p Permit, later func(), out Outcome) {
			l := p.Place()
			l.Leave()
			later()
			l.Return()
			later()
			l.Done(out)
		}, Success, 1, time.Second},
		"of a stream": {func(p Permit, later func(), out Outcome) {
			l := p.Place()
			l.Leave()
			later()
			l.Done(out)
		}, Success, 0, 0},
		"of a caller who went away":    {plain, Ignored, 0, 0},
		"of a service that has failed": {plain, Failure, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(0, 0)
			s, err := NewService(Options{Clock: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			s.limiter.ends.Store(int64(time.Hour)) // The window goes on: its counts are looked at.
			c := s.Class("read")
			p, err := c.Acquire(Whole)
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(9 * time.Second)
			tc.attempt(p, func() { now = now.Add(time.Second) }, tc.out)
			if n, took := c.latency.n.Load(), time.Duration(c.latency.sum.Load()); n != tc.n || took != tc.took {
				t.Errorf("%d of %v", n, took)
			}
			if n := s.limiter.inFlight.Load(); n != 0 {
				t.Errorf("%d in flight", n)
			}
			if got := s.States()[0]; (got.Requests == 1) != (tc.out != Ignored) || (got.Failures == 1) != (tc.out == Failure) {
				t.Errorf("the breaker has %+v", got)
			}
		})
	}
}

// TestProbesComeBack: a probe whose caller goes away is given back: others try in its
// place at once, and the breaker closes by them.
func TestProbesComeBack(t *testing.T) {
	now := time.Unix(0, 0)
	s, err := NewService(Options{Breaker: BreakerOptions{MinRequests: 1, Probes: 1, Successes: 1}, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	c := s.Class("read")
	p, err := c.Acquire(Whole)
	if err != nil {
		t.Fatal(err)
	}
	p.Done(Failure)
	now = now.Add(2 * time.Second)
	for range 100 {
		p, err := c.Acquire(Whole)
		if err != nil {
			t.Fatal("a probe was not given back: ", err)
		}
		p.Done(Ignored)
	}
	if p, err = c.Acquire(Whole); err != nil {
		t.Fatal(err)
	}
	p.Done(Success)
	if got := s.States()[0].State; got != "closed" {
		t.Error(got)
	}
}

// TestReturnedRetries: retries that are granted and not sent are there for others.
func TestReturnedRetries(t *testing.T) {
	now := time.Unix(0, 0)
	s, err := NewService(Options{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if !s.TryRetry() {
			t.Fatalf("there is none, after %d that were not sent", i)
		}
		now = now.Add(10 * time.Millisecond)
		s.ReturnRetry()
	}
}
