package ledger

import (
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

func periodName(p limit.Period) string {
	if p == limit.Month {
		return "month"
	}
	return "day"
}

// ends returns the end of the period of UTC that t is in, in Unix seconds.
func ends(t time.Time, p limit.Period) int64 {
	t = t.UTC()
	if p == limit.Month {
		return time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC).Unix()
	}
	return time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, time.UTC).Unix()
}

// calendar remembers the ends of the present day and month: to work them out
// takes longer than the rest of a decision.
type calendar struct{ today atomic.Pointer[today] }

// today is what holds from one midnight to the next, in Unix seconds.
type today struct{ from, day, month int64 }

func (c *calendar) at(now time.Time) *today {
	t, s := c.today.Load(), now.Unix()
	if t == nil || s < t.from || s >= t.day {
		day := ends(now, limit.Day)
		t = &today{from: day - 24*60*60, day: day, month: ends(now, limit.Month)}
		c.today.Store(t)
	}
	return t
}

func (t *today) ends(p limit.Period) int64 {
	if p == limit.Month {
		return t.month
	}
	return t.day
}
