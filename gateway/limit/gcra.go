package limit

import (
	"math/bits"
	"time"
)

// The generic cell rate algorithm (ITU-T I.371, annex A, virtual scheduling):
// all that is kept of a budget is its theoretical arrival time (TAT), the moment
// at which the budget is full again. TAT minus now is the debt; each token adds
// one emission to it; a call is admitted while the debt stays within the window,
// Size emissions. A TAT that has passed says as much as no TAT at all, which is
// why a table of them can forget by itself.

// maxWindow bounds every sum of times, in nanoseconds (36 years): a clock of
// less than that and two windows stay within an int64.
const maxWindow = int64(1) << 60

// span is the time of n tokens, at most maxWindow.
func span(n int64, emission time.Duration) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(emission))
	if hi != 0 || lo > uint64(maxWindow) {
		return maxWindow
	}
	return int64(lo)
}

// cell is a budget looked at: times in nanoseconds.
type cell struct {
	window int64 // Of a full budget.
	debt   int64 // 0 to window.
	cost   int64
}

// weigh looks at the budget of a, whose TAT is tat (0: never used). A debt larger
// than the window counts as the window: a budget that was made smaller, or a
// clock that lies, locks nobody out for longer than an empty budget does.
func weigh(a *Ask, tat, now int64) cell {
	w := span(a.Size, a.Emission)
	return cell{window: w, debt: min(max(tat-now, 0), w), cost: span(a.Cost, a.Emission)}
}

// admits says whether there is room for the cost.
func (c *cell) admits(a *Ask) bool { return a.Cost <= a.Size && c.cost <= c.window-c.debt }

// answer describes the budget as it stands; ok says whether it had room.
func (c *cell) answer(a *Ask, ok bool) Answer {
	out := Answer{OK: ok, Remaining: min((c.window-c.debt)/int64(a.Emission), a.Size), Reset: time.Duration(c.debt)}
	switch {
	case ok:
	case a.Cost > a.Size:
		out.Retry = -1
	default:
		out.Retry = time.Duration(c.cost - (c.window - c.debt))
	}
	return out
}
