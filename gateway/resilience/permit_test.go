package resilience

import (
	"testing"
	"time"
)

// TestWhatIsNoTimeOfTheService: of an attempt, the bound is told how long the service
// took; nothing where that is not known, and not how long its caller was sending.
func TestWhatIsNoTimeOfTheService(t *testing.T) {
	now := time.Unix(0, 0)
	s, err := NewService(Options{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	c := s.Class("read")
	took := func(change func(Permit) Permit, out Outcome) (int64, time.Duration) {
		n, sum := c.latency.n.Load(), c.latency.sum.Load()
		p, err := c.Acquire(Whole)
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Second)
		change(p).Done(out)
		return c.latency.n.Load() - n, time.Duration(c.latency.sum.Load() - sum)
	}
	for name, tc := range map[string]struct {
		change func(Permit) Permit
		out    Outcome
		n      int64
		took   time.Duration
	}{
		"an answer":                    {func(p Permit) Permit { return p }, Success, 1, 10 * time.Second},
		"behind an upload":             {func(p Permit) Permit { return p.Later(9 * time.Second) }, Success, 1, time.Second},
		"of a stream":                  {Permit.Untimed, Success, 0, 0},
		"of a caller who went away":    {func(p Permit) Permit { return p }, Ignored, 0, 0},
		"of a service that has failed": {func(p Permit) Permit { return p }, Failure, 0, 0},
	} {
		if n, d := took(tc.change, tc.out); n != tc.n || d != tc.took {
			t.Errorf("%s: %d of %v", name, n, d)
		}
		if n := s.limiter.inFlight.Load(); n != 0 {
			t.Errorf("%s: %d in flight", name, n)
		}
	}
	if total, failures := c.breaker.window.sum(s.now(), time.Hour); total > 4 || failures > 1 {
		t.Errorf("%d, %d", total, failures)
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
