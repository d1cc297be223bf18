package gateway

import (
	"math/rand/v2"
	"sync/atomic"
)

// current is the snapshot that new requests get. Whoever takes one holds it until
// it gives it back, and an old one is closed when nobody holds it. Taking costs an
// addition on one of several counters and two loads of what seldom changes, so
// that processors do not wait for each other; docs/decisions/0025-reload.md.
type current struct{ p atomic.Pointer[version] }

// holds is how many counters a snapshot has: a power of two.
const holds = 16

// version counts who holds a snapshot.
type version struct {
	snapshot *snapshot
	counts   [holds]hold
	retired  atomic.Bool
	// wake has room for one: whoever retires it looks at all counters again.
	wake chan struct{}
}

// hold is one of a version's counters, and what a request keeps of the snapshot.
type hold struct {
	n  atomic.Int64
	of *version
	_  [48]byte // Counters do not share a cache line.
}

func newVersion(s *snapshot) *version {
	v := &version{snapshot: s, wake: make(chan struct{}, 1)}
	for i := range v.counts {
		v.counts[i].of = v
	}
	return v
}

// take returns the current snapshot, held. The counter is raised first, and the
// pointer looked at again: who swaps it looks at the counters afterwards, so one of
// both sees the other.
func (c *current) take() *hold {
	for {
		v := c.p.Load()
		h := &v.counts[rand.Uint32()%holds] //nolint:gosec // Only spreads.
		h.n.Add(1)
		if c.p.Load() == v {
			return h
		}
		h.Release()
	}
}

// Release gives the snapshot back. Once.
func (h *hold) Release() {
	h.n.Add(-1)
	if h.of.retired.Load() {
		select {
		case h.of.wake <- struct{}{}:
		default:
		}
	}
}

// retire waits until nobody holds a version that is not current any more. A counter
// that was zero once since then stays so, but for those who give it back at once.
func (v *version) retire() {
	v.retired.Store(true)
	for i := range v.counts {
		for v.counts[i].n.Load() > 0 {
			<-v.wake
		}
	}
}
