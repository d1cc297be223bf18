package load

import (
	"math/bits"
	"time"
)

// Histogram counts latencies in little memory, for soaks of millions: each
// counts as the upper end of a range of a 64th of its size. The longest is exact.
type Histogram struct {
	counts  [64 << subBits]int64
	total   int64
	longest time.Duration
}

const subBits = 6

// Add counts latencies; none is negative.
func (h *Histogram) Add(latencies []time.Duration) {
	for _, d := range latencies {
		h.counts[bucket(uint64(d))]++ //nolint:gosec // not negative
		h.longest = max(h.longest, d)
	}
	h.total += int64(len(latencies))
}

// Percentile is as of the function of that name, give or take the width of a
// range.
func (h *Histogram) Percentile(p float64) time.Duration {
	left := rank(h.total, p)
	for i, n := range h.counts {
		if left -= n; n > 0 && left <= 0 {
			return min(upper(i), h.longest)
		}
	}
	return h.longest
}

// bucket numbers the ranges: by the highest bit, and the subBits below it.
func bucket(v uint64) int {
	high := bits.Len64(v)
	if high <= subBits {
		return int(v) //nolint:gosec // less than 64
	}
	shift := high - subBits - 1
	return (shift+1)<<subBits | int(v>>shift&(1<<subBits-1)) //nolint:gosec // of 6 bits
}

// upper is the largest value of a range.
func upper(i int) time.Duration {
	if i < 1<<subBits {
		return time.Duration(i)
	}
	shift, sub := i>>subBits-1, uint64(i&(1<<subBits-1)) //nolint:gosec // of 6 bits
	return time.Duration((1<<subBits+sub+1)<<shift - 1)  //nolint:gosec // of what was counted
}
