package resilience

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The states of a breaker, as its metric has them.
const (
	closed   = 0
	halfOpen = 1
	open     = 2
)

var stateNames = [...]string{closed: "closed", halfOpen: "half_open", open: "open"}

// lostAfter is when a probe that was never done is taken for lost, and another may go
// out in its place. It is longer than deadlines are.
const lostAfter = time.Minute

// breaker stops the calls of a class while they fail anyway (Nygard, Release It!).
// While it is closed, calls pass without a lock.
type breaker struct {
	// word is epoch<<3 | forced<<2 | state. Every change of state is a new epoch, and a
	// result of an earlier epoch says nothing about this one.
	word atomic.Uint64
	// until is when an open breaker lets probes out.
	until  atomic.Int64
	window window // total: results; marked: failures
	// entered counts the changes to each state.
	entered [3]atomic.Uint64

	mu        sync.Mutex
	since     time.Duration
	probes    []probe // in flight while half open
	issued    uint32
	successes int
}

// probe is a call that tries whether the service is back.
type probe struct {
	id uint32
	at time.Duration
}

// step is a change of state: nothing if from is to.
type step struct{ from, to uint64 }

func stateOf(word uint64) uint64 { return word & 3 }
func forced(word uint64) bool    { return word&4 != 0 }

// acquire lets a call pass or says after how long to ask again. What it returns goes
// with the call to done.
func (b *breaker) acquire(now time.Duration, o *BreakerOptions) (word uint64, id uint32, after time.Duration, s step) {
	word = b.word.Load()
	if stateOf(word) == closed {
		return word, 0, 0, s
	}
	if wait := time.Duration(b.until.Load()) - now; stateOf(word) == open && (wait > 0 || forced(word)) {
		return word, 0, max(wait, shortRetry), s
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	word = b.word.Load()
	switch {
	case stateOf(word) == closed:
		return word, 0, 0, s
	case stateOf(word) == open:
		if wait := time.Duration(b.until.Load()) - now; wait > 0 || forced(word) {
			return word, 0, max(wait, shortRetry), s
		}
		s = b.change(halfOpen, false, now)
		word = b.word.Load()
	}
	b.probes = slices.DeleteFunc(b.probes, func(p probe) bool { return now-p.at >= lostAfter })
	if len(b.probes) >= o.Probes {
		return word, 0, shortRetry, s
	}
	b.issued++
	b.probes = append(b.probes, probe{b.issued, now})
	return word, b.issued, 0, s
}

// done counts the result of a call that acquire let pass.
func (b *breaker) done(word uint64, id uint32, out Outcome, now time.Duration, o *BreakerOptions) (s step) {
	if o.Off || word != b.word.Load() || forced(word) {
		return s
	}
	failed := out == Failure || out == Overload
	if stateOf(word) == halfOpen {
		return b.probed(word, id, out, now, o)
	}
	if out == Ignored {
		return s
	}
	here := b.window.at(now, o.Window)
	here.total.Add(1)
	if !failed {
		return s
	}
	here.marked.Add(1)
	total, failures := b.window.sum(now, o.Window)
	if total < int64(o.MinRequests) || failures*100 < total*int64(o.FailurePercent) {
		return s
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if word != b.word.Load() {
		return s // Another was faster.
	}
	b.until.Store(int64(now + o.OpenFor))
	return b.change(open, false, now)
}

// probed counts the result of a probe.
func (b *breaker) probed(word uint64, id uint32, out Outcome, now time.Duration, o *BreakerOptions) (s step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.probes, func(p probe) bool { return p.id == id })
	if word != b.word.Load() || i < 0 { // The state went on, or the probe was taken for lost.
		return s
	}
	b.probes = slices.Delete(b.probes, i, i+1)
	switch {
	case out == Ignored:
		return s
	case out != Success:
		b.until.Store(int64(now + o.OpenFor))
		return b.change(open, false, now)
	}
	if b.successes++; b.successes < o.Successes {
		return s
	}
	return b.change(closed, false, now)
}

// change begins a new epoch. The lock is held.
func (b *breaker) change(to uint64, force bool, now time.Duration) step {
	word := b.word.Load()
	next := (word>>3+1)<<3 | to
	if force {
		next |= 4
	}
	b.window.clear()
	b.probes, b.successes = b.probes[:0], 0
	if stateOf(word) != to {
		b.since = now
		b.entered[to].Add(1)
	}
	b.word.Store(next)
	return step{stateOf(word), to}
}

// force holds a state, or (not hold) lets it go, from closed.
func (b *breaker) force(to uint64, hold bool, now time.Duration) step {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.change(to, hold, now)
}

// off closes a breaker that is switched off, unless an operator holds it.
func (b *breaker) off(now time.Duration) (s step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if word := b.word.Load(); stateOf(word) == closed || forced(word) {
		return s
	}
	return b.change(closed, false, now)
}

// looks is the state as operators see it: one that is open, and would let the next
// call try, is half open although nobody has called.
func (b *breaker) looks(word uint64, now time.Duration) uint64 {
	if stateOf(word) == open && !forced(word) && now >= time.Duration(b.until.Load()) {
		return halfOpen
	}
	return stateOf(word)
}

// shown is the state and since when.
func (b *breaker) shown() (word uint64, since time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.word.Load(), b.since
}
