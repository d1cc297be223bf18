package resilience

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Outlier leaves out single backends that fail while others of the same service do
// not. A backend is out for longer each time, and its first call after that decides
// alone: a failure leaves it out again. Of several backends one may always be left
// out, and one always stays. It is safe for concurrent use, and independent of Service.
type Outlier struct {
	options OutlierOptions
	clock   func() time.Time
	start   time.Time
	// known is replaced as a whole: calls read it without a lock.
	known atomic.Pointer[map[string]*backend]
	mu    sync.Mutex
}

type backend struct {
	failures atomic.Int64 // in a row
	until    atomic.Int64 // that it is left out, since start; 0: it is not
	// How long the next time, in BaseEjection, and how often so far; guarded by Outlier.mu.
	level int64
	times uint64
}

// NewOutlier returns one without backends. A nil clock means time.Now.
func NewOutlier(o OutlierOptions, clock func() time.Time) *Outlier {
	if clock == nil {
		clock = time.Now
	}
	out := &Outlier{options: o.withDefaults(), clock: clock, start: clock()}
	out.known.Store(&map[string]*backend{})
	return out
}

// now is the time since start, and never 0, which means "not left out".
func (o *Outlier) now() time.Duration { return o.clock().Sub(o.start) + 1 }

// Update sets which backends there are. What is known of those that stay is kept.
func (o *Outlier) Update(ids []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before, next := *o.known.Load(), make(map[string]*backend, len(ids))
	for _, id := range ids {
		if next[id] = before[id]; next[id] == nil {
			next[id] = &backend{}
		}
	}
	o.known.Store(&next)
	o.release(o.now())
}

// Report tells that a call of a backend succeeded or failed (by the backend's fault:
// a caller that went away is not reported). Unknown backends are ignored. It returns
// true where this made the backend be left out: the caller may pick anew.
func (o *Outlier) Report(id string, ok bool) (ejected bool) {
	b := (*o.known.Load())[id]
	if b == nil {
		return false
	}
	if ok {
		if b.failures.Load() != 0 && !o.out(b) {
			b.failures.Store(0)
		}
		return false
	}
	if o.options.Off || o.out(b) || b.failures.Add(1) < int64(o.options.ConsecutiveFailures) {
		return false
	}
	return o.eject(id, b)
}

// Ejected says whether a backend is to be left out now.
func (o *Outlier) Ejected(id string) bool {
	b := (*o.known.Load())[id]
	return b != nil && o.out(b)
}

func (o *Outlier) out(b *backend) bool {
	until := b.until.Load()
	return until != 0 && o.now() < time.Duration(until)
}

// eject leaves a backend out, if so many may be.
func (o *Outlier) eject(id string, b *backend) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	options, now := &o.options, o.now()
	known := *o.known.Load()
	if known[id] != b || o.out(b) || len(o.ejected(now)) >= options.most(len(known)) {
		return false // It is gone, another was faster, or no more may be out.
	}
	if b.until.Load() != 0 { // It forgets a time for each longest ejection that it was in service.
		served := now - time.Duration(b.until.Load())
		b.level = max(b.level-int64(served/options.MaxEjection), 0)
	}
	b.level++
	b.times++
	longest := int64(options.MaxEjection / options.BaseEjection) // times the base: no overflow
	b.level = min(b.level, longest+1)
	b.until.Store(int64(now + min(options.BaseEjection*time.Duration(b.level), options.MaxEjection)))
	b.failures.Store(int64(options.ConsecutiveFailures) - 1) // One more decides when it is back.
	return true
}

// most is how many of n backends may be out.
func (o *OutlierOptions) most(n int) int {
	return min(max(n*o.MaxEjectedPercent/100, 1), n-1)
}

// ejected are the backends that are out, those that come back first first.
func (o *Outlier) ejected(now time.Duration) []*backend {
	var out []*backend
	for _, b := range *o.known.Load() {
		if time.Duration(b.until.Load()) > now {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b *backend) int { return int(a.until.Load() - b.until.Load()) })
	return out
}

// release takes back in what there may not be out any more: the last that are left
// must not be those that are left out.
func (o *Outlier) release(now time.Duration) {
	out := o.ejected(now)
	for _, b := range out[:max(len(out)-max(o.options.most(len(*o.known.Load())), 0), 0)] {
		b.until.Store(int64(now))
	}
}

// Backends says how they are, ordered by id, for the admin page.
func (o *Outlier) Backends() []OutlierState {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, known := o.now(), *o.known.Load()
	var out []OutlierState
	for _, id := range slices.SortedFunc(maps.Keys(known), strings.Compare) {
		b := known[id]
		s := OutlierState{ID: id, Failures: int(b.failures.Load()), Ejections: b.times}
		if until := time.Duration(b.until.Load()); until > now {
			s.EjectedUntil = o.start.Add(until)
		}
		out = append(out, s)
	}
	return out
}

// OutlierState is one backend.
type OutlierState struct {
	ID string
	// Failures in a row.
	Failures int
	// EjectedUntil is zero where the backend is not left out.
	EjectedUntil time.Time
	// Ejections is how often it was left out.
	Ejections uint64
}
