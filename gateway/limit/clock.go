package limit

import (
	"sync"
	"time"
)

// clock counts nanoseconds from the start of a Memory, and never goes back:
// after a step back it stands still for no longer than the step took to happen,
// and then runs on. So nobody is locked out until a wrong clock has caught up,
// and nothing is reset.
type clock struct {
	base time.Time
	now  func() time.Time // Nil: the process's monotonic clock, which needs no care.

	mu          sync.Mutex
	last, ahead int64 // What now said last; how far it has stepped back in all.
}

func newClock(now func() time.Time) *clock {
	c := &clock{now: now}
	if now == nil {
		c.base = time.Now()
	} else {
		c.base = now()
	}
	return c
}

// read returns at least 1: a TAT of 0 is in the past from the beginning.
func (c *clock) read() int64 {
	if c.now == nil {
		return int64(time.Since(c.base)) + 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	raw := int64(c.now().Sub(c.base))
	if raw < c.last {
		c.ahead += c.last - raw
	}
	c.last = raw
	return raw + c.ahead + 1
}
