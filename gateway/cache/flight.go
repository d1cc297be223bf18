package cache

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Status is what the cache did with a call, for the access log and metrics.
type Status uint8

// What it can do.
const (
	Hit        Status = iota // a fresh answer was given
	Negative                 // a failure that is kept was given
	Stale                    // an old answer was given: another fetches, or the service failed
	Revalidate               // an old answer was given, and a fetch begun
	Miss                     // the answer was fetched
	Coalesced                // another's fetch was waited for
	Bypass                   // the call cannot have a key, or its answer cannot be shared
	statuses
)

var statusNames = [statuses]string{"hit", "negative", "stale", "revalidate", "miss", "coalesced", "bypass"}

// String is the status as logs and metrics name it.
func (s Status) String() string { return statusNames[s] }

var errPanicked = errors.New("cache: the fetch panicked")

// Fetch gets an answer that is not kept. Its context has the values of the caller's
// who began it, but neither its deadline nor its end: it ends when nobody waits any
// more. The fetch bounds its own time. Its entry is the cache's from then on; an error
// goes to those who wait, and is kept for nobody.
type Fetch func(ctx context.Context) (*Entry, error)

// flight is one fetch, for all who wait for it.
type flight struct {
	key    string
	start  uint64 // seq when it began
	tags   []string
	cancel context.CancelFunc
	done   chan struct{}
	// waiting and refresh are guarded by Cache.mu. A refresh goes on without anyone.
	waiting int
	refresh bool
	// What came of it, once done is closed.
	e   *Entry
	err error
}

// freshness is what an entry may be used for.
type freshness int

const (
	useless freshness = iota
	onError
	whileRevalidate
	fresh
)

// find returns what is kept under a key, and what for it is good.
func (r *Route) find(key string) (*Entry, freshness) {
	s, ok := r.c.store.GetIfPresent(key)
	if !ok || s.e.dead.Load() {
		return nil, useless
	}
	e := s.e
	age := r.c.o.Clock().Sub(e.at)
	if e.Err != nil {
		if age < min(e.ttl, r.rule.NegativeTTL) {
			return e, fresh
		}
		return nil, useless
	}
	ttl := min(e.ttl, r.rule.TTL) // The rule may have changed since.
	switch {
	case age < ttl:
		return e, fresh
	case e.NoStale:
	case age < ttl+r.rule.StaleWhileRevalidate:
		return e, whileRevalidate
	case age < ttl+r.rule.StaleIfError:
		return e, onError
	}
	return nil, useless
}

// Get returns an entry that is fresh, or nil. A kept failure is in its Err. What else
// there is, Do finds: calls that Get has answered are counted, others not.
func (r *Route) Get(key []byte) (*Entry, Status) {
	e, f := r.find(view(key))
	if f != fresh {
		return nil, Miss
	}
	return e, r.given(e)
}

func (r *Route) given(e *Entry) Status {
	s := Hit
	switch {
	case e.Pass:
		s = Bypass
	case e.Err != nil:
		s = Negative
	}
	r.counts.add(s)
	return s
}

// Bypassed counts a call that went past the cache.
func (r *Route) Bypassed() Status { r.counts.add(Bypass); return Bypass }

// Do returns the answer under a key: a kept one, or what fetch gets. Of those who miss
// at once one fetches, on a goroutine of its own, so that no caller who leaves takes
// the answer from the others; when the last has left, the fetch is canceled. A stale
// answer is given at once where the rule says so, and one goroutine gets another. tags
// are those of the entry that are known before: no caller who comes after one of them
// was invalidated joins a fetch that began before that, and open says that fetch may
// add others. The error is fetch's, the context's, or that of a kept failure.
func (r *Route) Do(ctx context.Context, key []byte, tags []string, open bool, fetch Fetch) (*Entry, Status, error) {
	k := string(key)
	e, use := r.find(k)
	switch use {
	case fresh:
		return e, r.given(e), e.Err
	case whileRevalidate:
		s := Stale
		if r.refresh(ctx, k, tags, open, fetch) {
			s = Revalidate
		}
		r.counts.add(s)
		return e, s, nil
	case useless, onError:
	}
	f, first, got := r.join(ctx, k, tags, open, fetch)
	if got != nil { // It came in between.
		return got, r.given(got), got.Err
	}
	s := Coalesced
	if first {
		s = Miss
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		r.c.leave(f)
		r.counts.add(s)
		return nil, s, context.Cause(ctx)
	}
	if f.err == nil {
		if f.e.Pass && !first {
			s = Bypass
		}
		r.counts.add(s)
		return f.e, s, f.e.Err
	}
	if use == onError && serviceFailed(f.err) && !e.dead.Load() {
		r.counts.add(Stale)
		return e, Stale, nil
	}
	if !first && callersOwn(f.err) {
		return r.alone(ctx, fetch)
	}
	r.counts.add(s)
	return nil, s, f.err
}

// alone fetches for one caller, where what another's fetch failed by says nothing
// about this one: a credential that has just expired. Nothing is kept.
func (r *Route) alone(ctx context.Context, fetch Fetch) (*Entry, Status, error) {
	r.counts.add(Miss)
	e, err := fetch(ctx)
	if err != nil {
		return nil, Miss, err
	}
	return e, Miss, e.Err
}

// serviceFailed says that an error is the service's trouble and says nothing about
// what it would have answered (Cache.stale_if_error).
func serviceFailed(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.ResourceExhausted:
		return true
	}
	return false
}

// callersOwn says that an error may be about who asked.
func callersOwn(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Canceled:
		return true
	}
	return false
}

// join finds the flight of a key or begins one; or an entry that another has just put
// in: who misses while that lands would fetch once more.
func (r *Route) join(ctx context.Context, key string, tags []string, open bool, fetch Fetch) (f *flight, first bool, got *Entry) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if f = c.flights[key]; f != nil && !c.outdated(f.start, f.tags, open) {
		f.waiting++
		return f, false, nil
	}
	if e, use := r.find(key); use == fresh {
		return nil, false, e
	}
	f = r.begin(key, tags)
	f.waiting = 1
	go r.run(ctx, f, fetch)
	return f, true, nil
}

// refresh begins a flight that nobody waits for, unless one is on its way or there are
// enough of them.
func (r *Route) refresh(ctx context.Context, key string, tags []string, open bool, fetch Fetch) bool {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil && !c.outdated(f.start, f.tags, open) {
		return false
	}
	if c.refreshing.Add(1) > int64(c.o.MaxRefreshes) {
		c.refreshing.Add(-1)
		return false
	}
	f := r.begin(key, tags)
	f.refresh = true
	go func() {
		defer c.refreshing.Add(-1)
		r.run(ctx, f, fetch)
	}()
	return true
}

// begin notes a flight; mu is held.
func (r *Route) begin(key string, tags []string) *flight {
	c := r.c
	f := &flight{key: key, start: c.seq, tags: append(tags[:len(tags):len(tags)], r.tag), done: make(chan struct{})}
	c.flights[key] = f // In the place of one that is outdated, which whoever waits for it still gets.
	c.flying++
	return f
}

// leave is what a caller does who waits no longer.
func (c *Cache) leave(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiting--; f.waiting > 0 || f.refresh {
		return
	}
	if c.flights[f.key] == f {
		delete(c.flights, f.key) // Who comes now begins another.
	}
	if f.cancel != nil {
		f.cancel()
	}
}

// run is the goroutine of a flight.
func (r *Route) run(ctx context.Context, f *flight, fetch Fetch) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r.c.mu.Lock()
	if f.cancel = cancel; f.waiting == 0 && !f.refresh { // All left before it began.
		cancel()
	}
	r.c.mu.Unlock()
	e, err := fetched(ctx, fetch)
	r.c.settle(r, f, e, err)
}

// fetched does not let a panic end the process: there is no caller on this goroutine
// who could be told.
func fetched(ctx context.Context, fetch Fetch) (e *Entry, err error) {
	defer func() {
		if v := recover(); v != nil {
			e, err = nil, fmt.Errorf("%w: %v", errPanicked, v)
		}
	}()
	e, err = fetch(ctx)
	if err == nil && e == nil {
		err = errors.New("cache: a fetch without an answer")
	}
	return e, err
}

// settle keeps what a flight has brought, where it may be kept, and tells who waits.
func (c *Cache) settle(r *Route, f *flight, e *Entry, err error) {
	switch {
	case err == nil && !e.NoStore:
		c.keep(r, f, e)
	case err != nil && !serviceFailed(err) && status.Code(err) != codes.Canceled:
		// The service has answered: what it said before is not true any more.
		if s, ok := c.store.GetIfPresent(f.key); ok {
			c.drop(s.e)
		}
	}
	c.mu.Lock()
	f.e, f.err = e, err
	if c.flights[f.key] == f {
		delete(c.flights, f.key)
	}
	if c.flying--; c.flying == 0 {
		clear(c.epochs)
	}
	c.mu.Unlock()
	close(f.done)
}

// keep puts an entry into the store, unless something it was made from has been
// invalidated since its flight began.
func (c *Cache) keep(r *Route, f *flight, e *Entry) {
	e.init(r, f.key, c.o.Clock())
	n := e.weight()
	if e.ttl <= 0 || n > c.o.MaxEntryBytes {
		e.kept = false
		return
	}
	c.mu.Lock()
	if e.kept = !c.outdated(f.start, e.tagged, false); e.kept {
		c.index.add(e)
	}
	c.mu.Unlock()
	if !e.kept {
		return
	}
	c.store.Set(f.key, &slot{e: e, weight: uint32(n)}) //nolint:gosec // MaxEntryBytes is at most 1 GiB.
	if e.dead.Load() {                                 // Invalidated between the two.
		c.drop(e)
	}
}
