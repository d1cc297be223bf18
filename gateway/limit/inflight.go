package limit

import (
	"hash/maphash"
	"sync"
)

// inFlight counts calls in flight by key. A key that has none is forgotten, so
// there are never more keys than calls.
type inFlight struct {
	seed   maphash.Seed
	shards [64]inFlightShard
}

type inFlightShard struct {
	mu sync.Mutex
	n  map[Key]int
	_  [48]byte // Shards do not share a cache line.
}

func newInFlight() *inFlight {
	f := &inFlight{seed: maphash.MakeSeed()}
	for i := range f.shards {
		f.shards[i].n = map[Key]int{}
	}
	return f
}

func (f *inFlight) shard(k Key) *inFlightShard {
	h := mix(maphash.String(f.seed, k.Limit), maphash.String(f.seed, k.Who))
	return &f.shards[h%uint64(len(f.shards))]
}

// enter counts a call, unless there are most of its key already.
func (f *inFlight) enter(k Key, most int) bool {
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
func (f *inFlight) leave(k Key) {
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
