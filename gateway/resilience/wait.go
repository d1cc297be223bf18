package resilience

import "time"

// Wait returns how long to wait before the nth retry (from 1): drawn at random up to
// base, doubled for each further one, and never above most. It is "full jitter"
// (Brooker, Exponential Backoff And Jitter): callers that failed together must not
// come back together. rnd returns a number in [0, n), as math/rand/v2's Int64N does.
func Wait(n int, base, most time.Duration, rnd func(n int64) int64) time.Duration {
	shift := min(max(n-1, 0), 62)
	bound := most
	if base <= most>>shift { // Not base<<shift <= most: that could overflow.
		bound = base << shift
	}
	if bound <= 0 {
		return 0
	}
	return time.Duration(rnd(int64(bound) + 1))
}
