package load

import (
	"slices"
	"testing"
	"time"
)

// A histogram's percentiles are at most a 64th above those of the values.
func TestHistogram(t *testing.T) {
	var values []time.Duration
	for v := time.Duration(1); v < time.Minute; v += v/7 + 1 {
		values = append(values, v)
	}
	var h Histogram
	h.Add(values[:len(values)/2])
	h.Add(values[len(values)/2:])
	slices.Sort(values)
	for _, p := range []float64{0, 1, 50, 90, 99, 99.9, 100} {
		got, want := h.Percentile(p), Percentile(values, p)
		if got < want || got > want+want/64 {
			t.Errorf("p%v: %v, want %v", p, got, want)
		}
	}
	if got := h.Percentile(100); got != values[len(values)-1] {
		t.Errorf("longest %d, want %d", got, values[len(values)-1])
	}
	if got := new(Histogram).Percentile(99); got != 0 {
		t.Errorf("p99 of nothing: %v", got)
	}
}

// Ranges follow one another without a gap, and each value is in its own.
func TestHistogramRanges(t *testing.T) {
	for i := range 40 << subBits {
		if bucket(uint64(upper(i))) != i || bucket(uint64(upper(i))+1) != i+1 {
			t.Fatalf("range %d ends at %d, which is in range %d; the next value is in %d", i, upper(i), bucket(uint64(upper(i))), bucket(uint64(upper(i))+1))
		}
	}
}
