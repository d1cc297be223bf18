package ledger

import (
	"context"
	"time"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

const (
	// largestBlock bounds what a crash can cost a caller.
	largestBlock = 1024
	// recheck is how long a quota that was found used up is not looked at again:
	// another process may give back what it leased.
	recheck = time.Second
)

// blockOf is how many tokens of a quota are leased at once: a thousandth, at least
// one. It is also how many a crash can lose, beside the cost of the calls that
// were waiting.
func blockOf(size int64) int64 { return max(1, min(size/1000, largestBlock)) }

// grant says how many tokens to lease of a quota of which used are counted, when
// calls wait for want of them and lease are at hand: what fills the block, less
// when the quota is nearly used up, and never what is not there.
func grant(used, size, want, lease int64) int64 {
	left := max(size-used, 0)
	return min(left, max(want, min(blockOf(size)-lease, left/16)))
}

// entry is one quota in memory. Its shard's lock guards it.
type entry struct {
	key        key
	ends       int64 // the period's end, Unix seconds
	lease      int64 // leased and not used yet
	row        int64 // what the file counted when it was last looked at, the lease included
	checked    time.Time
	known      bool // whether row is known
	flight     *flight
	seen       time.Time
	next, prev *entry
}

// flight is a refill on its way: one a key at a time.
type flight struct {
	key      key
	ends     int64
	size     int64
	want     int64 // guarded by the shard's lock until it departs
	departed bool  // likewise
	queued   bool  // guarded by the writer's lock

	done chan struct{} // closed when it has landed
	err  error         // readable after done
}

// wait waits until the flight has landed, no longer than ctx lasts.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// outcome of an ask, or of a decision over all asks.
type outcome int

const (
	admitted outcome = iota
	denied
	refill // The file must be asked first.
)

// turn begins a new period. A lease of the old one ends with it.
func (e *entry) turn(ends int64) {
	if e.ends != ends {
		e.ends, e.lease, e.row, e.known, e.flight = ends, 0, 0, false, nil
	}
}

// left is how many tokens a quota of this size has left, as far as is known.
func (e *entry) left(size int64) int64 { return max(size-(e.row-e.lease), 0) }

func (e *entry) check(now time.Time, a *limit.Ask) outcome {
	switch {
	case a.Cost > a.Size:
		return denied
	case e.known && e.left(a.Size) < a.Cost: // A quota made smaller is seen here, too.
		if age := now.Sub(e.checked); age >= 0 && age < recheck {
			return denied
		}
		return refill
	case e.lease >= a.Cost:
		return admitted
	}
	return refill
}

// need adds the flight that brings what the ask lacks.
func (e *entry) need(flights []*flight, a *limit.Ask, o outcome) []*flight {
	if o != refill {
		return flights
	}
	f := e.fly(a.Size)
	if !f.departed {
		f.want += max(a.Cost-e.lease, 0)
	}
	return append(flights, f)
}

// ahead adds a flight when the lease runs low and another block is to be had.
func (e *entry) ahead(flights []*flight, size int64) []*flight {
	if e.flight != nil || !e.known || e.lease > blockOf(size)/4 || grant(e.row, size, 0, e.lease) <= 0 {
		return flights
	}
	return append(flights, e.fly(size))
}

func (e *entry) fly(size int64) *flight {
	if e.flight == nil {
		e.flight = &flight{key: e.key, ends: e.ends, size: size, done: make(chan struct{})}
	}
	return e.flight
}

func (e *entry) answer(now time.Time, a *limit.Ask, ok bool) limit.Answer {
	out := limit.Answer{OK: ok, Remaining: e.left(a.Size), Reset: max(time.Unix(e.ends, 0).Sub(now), 0)}
	switch {
	case ok:
	case a.Cost > a.Size:
		out.Retry = -1
	default:
		out.Retry = out.Reset
	}
	return out
}

func (e *entry) link(ring *entry) {
	e.prev, e.next = ring, ring.next
	e.prev.next, e.next.prev = e, e
}

func (e *entry) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}
