package resilience

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// limiter bounds the calls in flight of a service: it counts them, collects what a
// window of time shows, and has knee decide the next limit. Counting takes atomic
// operations only; the lock is for the one call that ends a window.
type limiter struct {
	// limit is for whole requests, optional for the branches that may be missing.
	limit, optional, inFlight atomic.Int64
	// Of this window: the most in flight, calls refused by priority, answers that said
	// overload.
	peak, drops atomic.Int64
	// overdue are the calls given up after longer than their method usually takes: that the
	// service did not answer them by then is its own.
	overdue atomic.Int64
	refused [len(priorityNames)]atomic.Int64
	ends    atomic.Int64
	// cut is when a probe or an overload last lowered the limit: latencies of calls that
	// began before it tell of the queue that there was then.
	cut atomic.Int64

	mu      sync.Mutex
	began   time.Duration
	first   int64 // in flight when the window began
	methods []*latency
	knee    knee
}

// latency is what the answers of one method took, or of a class where methods are not
// told apart. Each is compared with itself, so that more calls of a slow method do not
// look like a queue.
type latency struct {
	of *Class
	// sum and n are of calls that began after the last cut, old counts the others.
	sum, n, old atomic.Int64
	// early is what calls given up before they usually end took, left how many they were: they
	// were in flight, so what they had is work.
	early, left atomic.Int64

	// Guarded by limiter.mu: the mean and the count of the window looked at, and the
	// latency without a queue, in nanoseconds, with how many answers it was learnt from.
	windowMean, usual float64
	// due is usual, for those who do not have the lock.
	due             atomic.Int64
	windowN, learnt int64
}

// seen is what a window showed. Work is in calls: as many as would be in flight if each
// answer had taken its usual latency. A service without a queue has as much work as calls in
// flight, and a service with one has less, however long its queue (Little's law).
type seen struct {
	now, took         time.Duration
	limit, peak       float64
	first             float64 // in flight when it began
	work, mean, usual float64
	span              float64 // what a unit of work takes: the slow methods' latency where these are most of it
	answers, timed    float64 // timed are the answers that mean and usual are of
	refused, whole    float64 // whole are those of refused that were no optional branches
	drops, overdue    float64
	left              float64 // of answers: those who did not wait for one
}

// bound is how many calls of this priority may be in flight.
func (l *limiter) bound(p Priority) int64 {
	if p == Optional {
		return l.optional.Load()
	}
	return l.limit.Load()
}

// enter counts a call in, if the bound allows it. Refusing writes next to nothing: it
// has to be cheap when most calls are refused.
func (l *limiter) enter(p Priority, o *ConcurrencyOptions) bool {
	for {
		n := l.inFlight.Load()
		if n >= l.bound(p) && !o.Off {
			l.refused[p].Add(1)
			return false
		}
		if !l.inFlight.CompareAndSwap(n, n+1) {
			continue
		}
		if n >= l.peak.Load() {
			l.peak.Store(n + 1)
		}
		return true
	}
}

func (l *limiter) leave() { l.inFlight.Add(-1) }

// count counts what came of a call.
func (l *limiter) count(c *latency, out Outcome, took, now time.Duration) {
	took = max(took, time.Microsecond) // A clock that is set back would make it negative.
	switch {
	case out == Success && int64(now-took) >= l.cut.Load():
		c.sum.Add(int64(took))
		c.n.Add(1)
	case out == Success:
		c.old.Add(1)
	case out == Overload:
		l.drops.Add(1)
	case out == Ignored:
		switch due := c.due.Load(); {
		case due == 0:
		case int64(took) > due:
			l.overdue.Add(1)
		default:
			c.early.Add(int64(took))
			c.left.Add(1)
		}
	}
}

// turn ends the window when it is over. Each outcome may end it: one that says nothing of
// latency may be the only sign of life of a service whose callers all give up.
func (l *limiter) turn(now time.Duration, o *ConcurrencyOptions) {
	if int64(now) < l.ends.Load() || !l.mu.TryLock() {
		return
	}
	defer l.mu.Unlock()
	if int64(now) < l.ends.Load() || l.answers() < minAnswers && now < l.began+l.knee.starved() {
		return
	}
	s := l.look(now)
	l.knee.decide(s, o)
	l.learn(s)
	l.set(o)
	l.cut.Store(int64(l.knee.cut))
	l.began = now
	l.ends.Store(int64(now + l.knee.window()))
}

// set puts the limit that was decided in force.
func (l *limiter) set(o *ConcurrencyOptions) {
	if math.IsNaN(l.knee.limit) { // No arithmetic gets a service out of it.
		l.knee.limit = float64(o.Initial)
	}
	l.knee.limit = min(max(l.knee.limit, float64(o.Min)), float64(o.Max))
	l.limit.Store(int64(math.Round(min(l.knee.limit+l.knee.reserve, float64(o.Max)))))
	l.optional.Store(max(int64(math.Round(l.knee.limit*optionalShare)), 1))
}

// answers is how many the window has.
func (l *limiter) answers() int64 {
	n := l.drops.Load()
	for _, c := range l.methods {
		n += c.n.Load() + c.old.Load()
	}
	return n
}

// look takes the window's counts and begins the next.
func (l *limiter) look(now time.Duration) seen {
	s := seen{now: now, took: max(now-l.began, time.Millisecond), limit: l.knee.limit,
		first: float64(l.first), whole: float64(l.refused[Whole].Swap(0)), drops: float64(l.drops.Swap(0)),
		overdue: float64(l.overdue.Swap(0))}
	l.first = l.inFlight.Load()
	s.peak = float64(l.peak.Swap(l.first))
	s.refused = s.whole + float64(l.refused[Optional].Swap(0))
	s.answers = s.drops
	for _, c := range l.methods {
		c.windowN = c.n.Swap(0)
		sum, all := float64(c.sum.Swap(0)), float64(c.windowN+c.old.Swap(0))
		if c.windowN > 0 {
			c.windowMean = sum / float64(c.windowN)
			if c.learnt == 0 {
				c.usual = c.windowMean
			}
		}
		early, left := float64(c.early.Swap(0)), float64(c.left.Swap(0))
		s.answers += all + left
		s.left += left
		s.work += all*c.usual + early
		s.span += all * c.usual * c.usual
		s.timed += float64(c.windowN)
		s.mean += sum
		s.usual += c.usual * float64(c.windowN)
	}
	if s.timed > 0 {
		s.mean /= s.timed
		s.usual /= s.timed
	}
	if s.work > 0 {
		s.span /= s.work
	}
	s.work /= float64(s.took)
	return s
}

// learn moves the usual latencies: all by the ratio that a probe found, else each to
// what its window showed while nothing limits the calls. Down is faster than up, for
// a window can show a queue, but not a latency that is not there.
func (l *limiter) learn(s seen) {
	scale := l.knee.takeScale()
	for _, c := range l.methods {
		c.usual *= scale
		c.due.Store(int64(c.usual))
		if c.windowN == 0 || c.learnt > 0 && l.knee.mode != free {
			continue
		}
		c.learnt += c.windowN
		weight := min(s.took.Seconds()/learnUp, 1)
		if c.windowMean < c.usual {
			weight = min(s.took.Seconds()/learnDown, 1)
		}
		weight = max(weight, float64(c.windowN)/float64(c.learnt))
		c.usual += min(c.windowMean-c.usual, max(c.usual/2, float64(time.Microsecond))) * weight
		c.due.Store(int64(c.usual))
	}
}

// fit brings the limit between new bounds.
func (l *limiter) fit(o *ConcurrencyOptions) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(o)
}

// add makes a class or method known.
func (l *limiter) add(c *latency) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.methods = append(l.methods, c)
}

// usualOf is a class's usual latency: the mean of its methods', by their calls.
func (l *limiter) usualOf(of *Class) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum, n float64
	for _, c := range l.methods {
		if c.of == of {
			sum += c.usual * float64(c.learnt)
			n += float64(c.learnt)
		}
	}
	return time.Duration(sum / max(n, 1))
}

// shown is what the metrics show of the knee.
func (l *limiter) shown() (mode, float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.knee.mode == free {
		return free, l.knee.peak
	}
	return l.knee.mode, l.knee.at
}
