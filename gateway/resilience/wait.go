package resilience

import "time"

// Wait returns how long to wait before attempt n (the first retry is 1): drawn at
// random below base, doubled for each further one, and below most ("full jitter":
// many callers that failed together must not come back together). rnd returns a
// number in [0, n), as math/rand/v2's Int64N does.
func Wait(n int, base, most time.Duration, rnd func(n int64) int64) time.Duration {
	bound := most
	if shift := n - 1; shift < 32 && base<<shift < most {
		bound = base << max(shift, 0)
	}
	if bound <= 0 {
		return 0
	}
	return time.Duration(rnd(int64(bound) + 1))
}
