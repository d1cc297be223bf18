package resilience

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
)

// The libraries of the field, driven through the same tables as ours: the evidence of
// docs/decisions/0021-resilience.md. The cases that a library fails are named, so that
// a version that passes them makes the test fail, and us think again.

var (
	errFailed    = errors.New("failed")
	errCancelled = errors.New("cancelled")
)

type sony struct {
	b *gobreaker.TwoStepCircuitBreaker[struct{}]
}

func newSony(c breakerCase) *sony {
	return &sony{gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		// It has one number for both.
		MaxRequests: uint32(c.successes), Interval: 10 * time.Second, BucketPeriod: time.Second, Timeout: 5 * time.Second, //nolint:gosec // Small.
		ReadyToTrip: func(n gobreaker.Counts) bool {
			results := n.TotalSuccesses + n.TotalFailures
			return results >= 4 && n.TotalFailures*2 >= results
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errCancelled) },
	})}
}

func (s *sony) enter(Priority) (func(Outcome), bool) {
	done, err := s.b.Allow()
	return func(o Outcome) {
		switch o {
		case Success:
			done(nil)
		case Ignored:
			done(errCancelled)
		case Failure, Overload:
			done(errFailed)
		}
	}, err == nil
}

func (s *sony) state() string {
	return map[gobreaker.State]string{gobreaker.StateClosed: "closed", gobreaker.StateHalfOpen: "half_open", gobreaker.StateOpen: "open"}[s.b.State()]
}

type failsafeBreaker struct {
	b circuitbreaker.CircuitBreaker[any]
}

func newFailsafe(c breakerCase) *failsafeBreaker {
	return &failsafeBreaker{circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 4, 10*time.Second).
		WithDelay(5 * time.Second).WithSuccessThreshold(uint(c.successes)).Build()} //nolint:gosec // Small.
}

func (f *failsafeBreaker) enter(Priority) (func(Outcome), bool) {
	return func(o Outcome) {
		switch o {
		case Success:
			f.b.RecordSuccess()
		case Failure, Overload:
			f.b.RecordFailure()
		case Ignored: // It has no word for it.
		}
	}, f.b.TryAcquirePermit()
}

func (f *failsafeBreaker) state() string {
	return map[circuitbreaker.State]string{circuitbreaker.ClosedState: "closed", circuitbreaker.HalfOpenState: "half_open", circuitbreaker.OpenState: "open"}[f.b.State()]
}

func TestLibrariesBreaker(t *testing.T) {
	for _, lib := range []struct {
		name  string
		make  func(breakerCase) breakerLike
		fails map[string]bool
	}{
		{"gobreaker", func(c breakerCase) breakerLike { return newSony(c) }, map[string]bool{
			"more successes than probes": true, "more probes than successes": true, // It has one number for both.
			"a lost probe does not wedge": true,
		}},
		{"failsafe-go", func(c breakerCase) breakerLike { return newFailsafe(c) }, map[string]bool{
			"more successes than probes": true, "more probes than successes": true, // It has one number for both.
			"a probe that went away gives its place back": true, "a lost probe does not wedge": true,
			"a late failure of before is not a probe's": true, "a late success of before is not a probe's": true,
			"late results do not add probes": true, "a late failure of before does not open again": true,
		}},
	} {
		for _, c := range breakerCases {
			t.Run(lib.name+"/"+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					err := c.run(lib.make(c), time.Sleep)
					if failed := err != nil; failed != lib.fails[c.name] {
						t.Errorf("fails: %v, and the decision says %v (%v)", failed, lib.fails[c.name], err)
					}
				})
			})
		}
	}
}

type failsafeLimiter struct {
	l adaptivelimiter.AdaptiveLimiter[any]
}

func newFailsafeLimiter() *failsafeLimiter {
	return &failsafeLimiter{adaptivelimiter.NewBuilder[any]().WithLimits(20, 1000, 100).Build()}
}

func (f *failsafeLimiter) limit() int { return f.l.Limit() }

func (f *failsafeLimiter) enter(Priority) (func(Outcome), bool) {
	p, ok := f.l.TryAcquirePermit()
	return func(o Outcome) {
		if o == Success {
			p.Record()
		} else {
			p.Drop()
		}
	}, ok
}

// TestLibrariesConcurrency drives failsafe-go's limiter through the same overloads as
// ours: SLUICE_LONG=1 go test -v shows the figures side by side.
func TestLibrariesConcurrency(t *testing.T) {
	fails := map[string]bool{
		// Its bound grows by 1 or 2 a second, and no further than 5 calls in flight for 1.
		"methods of 1 ms and 600 ms": true, "more of the slow methods": true, "calls take 40 times as long, without a queue": true,
		"a method that hangs": true,
		// The usual latency is an average of the last ones: what is slow becomes usual.
		"slower from the least bound": true,
		// And it shrinks while it is not used, so that a pause of 80 ms meets it.
		"a machine that stands still now and then": true,
	}
	for _, c := range overloads {
		if !fails[c.name] && !long {
			continue // Those that it fails are the reason for ours.
		}
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rs := simulate(newFailsafeLimiter(), time.Sleep, c.phases...)
				if len(rs) < 10 {
					show(t, rs)
				}
				if err := c.check(rs); (err != nil) != fails[c.name] {
					t.Errorf("fails: %v, and the decision says %v (%v)", err != nil, fails[c.name], err)
				}
			})
		})
	}
}
