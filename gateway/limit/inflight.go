package limit

import (
	"hash/maphash"
	"sync"
)

// InFlight counts calls in flight by key, for one Limiter or for several that take
// each other's place. A key that has none is forgotten, so there are never more
// keys than calls. Safe for concurrent use.
type InFlight struct {
	seed   maphash.Seed
	shards [64]inFlightShard
}

type inFlightShard struct {
	mu sync.Mutex
	n  map[Key]int
	_  [48]byte // Shards do not share a cache line.
}

// NewInFlight makes an InFlight.
func NewInFlight() *InFlight {
	f := &InFlight{seed: maphash.MakeSeed()}
	for i := range f.shards {
		f.shards[i].n = map[Key]int{}
	}
	return f
}

func (f *InFlight) shard(k Key) *inFlightShard {
	h := mix(maphash.String(f.seed, k.Limit), maphash.String(f.seed, k.Who))
	return &f.shards[h%uint64(len(f.shards))]
}

// enter counts a call, unless there are most of its key already.
func (f *InFlight) enter(k Key, most int) bool {
	s := f.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.n[k]
	if n >= most {
		return false
	}
	s.n[k] = n + 1
	return true
}

// leave takes a call off again. The empty key was never entered.
func (f *InFlight) leave(k Key) {
	if k == (Key{}) {
		return
	}
	s := f.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.n[k]; n > 1 {
		s.n[k] = n - 1
	} else {
		delete(s.n, k)
	}
}
