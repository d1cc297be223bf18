package load

import (
	"slices"
	"time"
)

// Run is what came of some load.
type Run struct {
	// Latencies, sorted. Of an open loop, from when each request was due.
	Latencies []time.Duration
	// Elapsed is from the first request to the last answer.
	Elapsed time.Duration
	// Late, of an open loop, are how late requests were handed to the connections,
	// sorted: what of the latencies is the load's own fault.
	Late []time.Duration
}

// Percentile is by nearest rank, of sorted values; p is in percent, 99.9 for
// instance. No values, no latency: 0.
func Percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[rank(int64(len(sorted)), p)-1]
}

// rank is which of n values, the least being the first, is the percentile.
func rank(n int64, p float64) int64 {
	// In thousandths of a percent, for 99.9 is no binary fraction.
	const unit = 1000
	whole := int64(p*unit + 0.5)
	return min(max((n*whole+100*unit-1)/(100*unit), 1), n)
}

// Due is when request n of a constant rate is due after the start.
func Due(n int, perSecond float64) time.Duration {
	return time.Duration(float64(n) / perSecond * float64(time.Second))
}

func merged(each [][]time.Duration) []time.Duration {
	all := slices.Concat(each...)
	slices.Sort(all)
	return all
}
