package resilience

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// What the bound goes by. They are not settings: nobody could say which to choose,
// and docs/resilience.md has what each was tried with.
const (
	// tolerance and slack make the latency that is too much: 2 x usual + 100 ms. The
	// slack keeps a machine's own hiccups from looking like a queue where calls are short.
	tolerance = 2
	slack     = 100 * time.Millisecond
	// A window is as long, or twice the latency (a change must show in it), and has as
	// many answers, or goes on until it has.
	minWindow  = 250 * time.Millisecond
	minAnswers = 20
	// usualOver is how many answers the usual latency is an average of.
	usualOver = 2000
	// dropShare (1 of 10) of answers that say overload are too many.
	dropShare = 10
	// holdFor is how long nothing is cut after cutting was seen not to help.
	holdFor = 10 * time.Second
	// patience is how many windows the bound stays at its least before a trial upwards.
	patience, mostPatience = 10, 160
)

// limiter bounds the calls in flight of a service. It looks at windows of a quarter of
// a second or more: where calls take much longer than usual, or too many say overload,
// and the bound was nearly reached, it is cut; where it was used by half or more and
// latency is fine, it grows. Usual is an average, not a minimum: methods that take 1 ms
// and 2 s in one service must not make the slow ones look like a queue. It is learnt
// while the bound is far, so that a long overload does not become usual.
//
// A queue can be told from calls that simply take longer now by what cutting does to
// throughput (Little's law): with a queue it stays, without it falls with the bound.
// Then what is measured is the new usual, and the bound comes back.
type limiter struct {
	limit, inFlight atomic.Int64
	// Of this window: the most in flight, calls refused, answers that said overload.
	peak, refused, drops atomic.Int64
	ends                 atomic.Int64

	mu      sync.Mutex
	began   time.Duration
	classes []*latency
	trial   trial
	hold    time.Duration
	// waited counts the congested windows at the least bound, patience is how many there
	// are before a trial.
	waited, patience int
}

// latency is what a class's answers took: the bound compares each class with itself,
// so that more calls of a slow one are no overload.
type latency struct {
	sum, n atomic.Int64
	// Of the window that is looked at, and the usual one; guarded by limiter.mu.
	windowMean, usual float64
	windowN, learnt   int64
}

// trial is what a change of the bound is compared with.
type trial struct {
	limit   float64 // 0: there is none
	rate    float64 // answers a second
	up      bool
	windows int
}

// seen is one window.
type seen struct {
	limit, rate, mean, usual float64
	peak, refused            int64
	tooMany                  bool // that said overload
}

// bound is how many calls of this priority may be in flight.
func (l *limiter) bound(p Priority) int64 {
	limit := l.limit.Load()
	if p == Optional {
		return max(limit*4/5, 1)
	}
	return limit
}

// enter counts a call in, if the bound allows it. Refusing writes next to nothing: it
// has to be cheap when most calls are refused.
func (l *limiter) enter(p Priority, o *ConcurrencyOptions) bool {
	for {
		n := l.inFlight.Load()
		if n >= l.bound(p) && !o.Off {
			l.refused.Add(1)
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

// done counts an answer, and looks at the window when it is over.
func (l *limiter) done(c *latency, out Outcome, took, now time.Duration, o *ConcurrencyOptions) {
	switch out {
	case Success:
		c.sum.Add(int64(took))
		c.n.Add(1)
	case Overload:
		l.drops.Add(1)
	case Failure, Ignored: // How fast something failed tells nothing of load.
		return
	}
	if int64(now) < l.ends.Load() || !l.mu.TryLock() {
		return
	}
	defer l.mu.Unlock()
	if int64(now) < l.ends.Load() || l.answers() < minAnswers {
		return
	}
	s := l.look(now)
	l.learn(s)
	next := l.decide(s, now, float64(o.Min), float64(o.Max))
	l.limit.Store(int64(math.Round(min(max(next, float64(o.Min)), float64(o.Max)))))
	l.began = now
	l.ends.Store(int64(now + max(minWindow, 2*time.Duration(s.mean))))
}

// answers is how many the window has.
func (l *limiter) answers() int64 {
	n := l.drops.Load()
	for _, c := range l.classes {
		n += c.n.Load()
	}
	return n
}

// look takes the window's counts and begins the next.
func (l *limiter) look(now time.Duration) seen {
	s := seen{limit: float64(l.limit.Load()), peak: l.peak.Swap(l.inFlight.Load()), refused: l.refused.Swap(0)}
	drops := l.drops.Swap(0)
	var n int64
	for _, c := range l.classes {
		c.windowN = c.n.Swap(0)
		sum := c.sum.Swap(0)
		if c.windowN == 0 {
			continue
		}
		c.windowMean = float64(sum) / float64(c.windowN)
		if c.learnt == 0 {
			c.usual = c.windowMean
		}
		n += c.windowN
		s.mean += float64(sum)
		s.usual += c.usual * float64(c.windowN)
	}
	if n > 0 {
		s.mean /= float64(n)
		s.usual /= float64(n)
	}
	s.rate = float64(n) / max(now-l.began, time.Millisecond).Seconds()
	s.tooMany = drops > 0 && drops*dropShare >= n+drops
	return s
}

// near says that the bound was reached or nearly, used that half of it was needed, far
// that less than a quarter was. From a quarter of the bound a queue of twice the usual
// latency is half a bound: what is learnt there cannot push the bound up without end.
func (s seen) near() bool       { return s.refused > 0 || float64(s.peak) >= 0.8*s.limit }
func (s seen) used() bool       { return s.refused > 0 || float64(s.peak) >= 0.5*s.limit }
func (s seen) far() bool        { return s.refused == 0 && float64(s.peak) < 0.25*s.limit }
func (s seen) tooMuch() float64 { return tolerance*s.usual + float64(slack) }

// learn moves the usual latencies: down always, up only while the bound is far.
func (l *limiter) learn(s seen) {
	for _, c := range l.classes {
		if c.windowN == 0 || c.learnt > 0 && c.windowMean > c.usual && !s.far() {
			continue
		}
		c.learnt += c.windowN
		weight := max(float64(c.windowN)/float64(c.learnt), min(float64(c.windowN)/usualOver, 0.2))
		c.usual += (c.windowMean - c.usual) * weight
	}
}

// decide returns the next bound.
func (l *limiter) decide(s seen, now time.Duration, least, most float64) float64 {
	congested := s.near() && now >= l.hold && (s.mean > s.tooMuch() || s.tooMany)
	switch {
	case l.trial.up:
		return l.tried(s, now, least)
	case !congested:
		l.trial, l.waited, l.patience = trial{}, 0, patience
		return grown(s)
	case s.limit <= least && most > least:
		return l.atLeast(s, least)
	case l.trial.windows == 0: // It has answers from before.
		l.trial.windows++
	case l.trial.limit == 0:
		l.trial.limit, l.trial.rate = s.limit, s.rate
	case s.limit <= l.trial.limit/2:
		if !l.trial.queue(s) {
			return l.newUsual(now, l.trial.limit)
		}
		l.trial.limit, l.trial.rate = s.limit, s.rate
	}
	if s.tooMany {
		return s.limit * 0.7
	}
	return s.limit * min(max(s.tooMuch()/s.mean, 0.7), 0.95)
}

// grown is the next bound where nothing is wrong: fast where calls are refused though
// latency is far from too much, by a tenth where it is used, not at all close to it.
func grown(s seen) float64 {
	switch {
	case !s.used() || s.tooMany || s.mean > 0.9*s.tooMuch():
		return s.limit
	case s.refused > 0 && s.mean <= s.tooMuch()/2:
		return s.limit * 1.5
	default:
		return s.limit + max(1, s.limit/10)
	}
}

// atLeast is for congestion that the least bound does not end: maybe calls just take
// longer now. After some windows it tries twice the bound.
func (l *limiter) atLeast(s seen, least float64) float64 {
	if l.waited++; l.waited < l.patience {
		return least
	}
	l.trial = trial{limit: s.limit, rate: s.rate, up: true}
	return 2 * least
}

// tried looks at a trial upwards when its second window is over: the first has calls
// from before.
func (l *limiter) tried(s seen, now time.Duration, least float64) float64 {
	if l.trial.windows++; l.trial.windows < 2 {
		return s.limit
	}
	if !l.trial.queue(s) {
		return l.newUsual(now, s.limit)
	}
	l.trial, l.waited, l.patience = trial{}, 0, min(2*l.patience, mostPatience)
	return least
}

// queue says whether throughput stayed while the bound changed from the trial's to
// this one: by less than half as much, as logarithms.
func (t trial) queue(s seen) bool {
	if t.rate <= 0 || s.rate <= 0 {
		return true
	}
	return math.Log(s.rate/t.rate)/math.Log(s.limit/t.limit) < 0.5
}

// newUsual takes what is measured for usual, and goes to a bound.
func (l *limiter) newUsual(now time.Duration, limit float64) float64 {
	for _, c := range l.classes {
		if c.windowN > 0 {
			c.usual, c.learnt = max(c.usual, c.windowMean), usualOver
		}
	}
	l.trial, l.waited, l.patience, l.hold = trial{}, 0, patience, now+holdFor
	return limit
}

// fit brings the bound between new limits.
func (l *limiter) fit(o *ConcurrencyOptions) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit.Store(min(max(l.limit.Load(), int64(o.Min)), int64(o.Max)))
}

// add makes a class known.
func (l *limiter) add(c *latency) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.classes = append(l.classes, c)
}

// usualOf is a class's usual latency.
func (l *limiter) usualOf(c *latency) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(c.usual)
}
