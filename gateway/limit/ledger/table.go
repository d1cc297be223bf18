package ledger

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

const (
	// shards is how many locks the keys are spread over.
	shards = 64
	// usual is how many asks a decision makes without allocating for them.
	usual = 8
)

// key is one quota.
type key struct {
	limit, who string
	period     limit.Period
}

func keyOf(a *limit.Ask) key { return key{a.Key.Limit, a.Key.Who, a.Period} }

// table holds the leases. It does no I/O: what it wants from the file it hands
// out as flights, and what it gives back goes to giveBack, which must not block.
type table struct {
	seed     maphash.Seed
	calendar calendar
	shards   [shards]shard
	giveBack func(ret)
}

// ret is a lease that goes back to the file.
type ret struct {
	key    key
	ends   int64
	tokens int64
}

func (t *table) init(maxKeys int, giveBack func(ret)) {
	t.seed, t.giveBack = maphash.MakeSeed(), giveBack
	for i := range t.shards {
		t.shards[i].init(max(maxKeys/shards, 2*usual))
	}
}

func (t *table) index(k key) int {
	h := maphash.String(t.seed, k.who) + 31*maphash.String(t.seed, k.limit) + uint64(k.period)
	return int(h % shards)
}

// hit is one ask of a decision: its entry and what it says.
type hit struct {
	*entry
	outcome
}

// take decides over asks with what is leased, all or nothing: it holds the locks
// of all their shards, and no I/O is done under them. The flights it returns are
// to be sent; when the outcome is refill the caller waits for them and asks again,
// else they fetch ahead of need. answers are filled in unless it is refill.
func (t *table) take(now time.Time, asks []limit.Ask, answers []limit.Answer, flights []*flight) (outcome, []*flight, error) {
	var (
		hitSpace   [usual]hit
		shardSpace [usual]int
		hits       = hitSpace[:0]
		locked     = t.lock(asks, shardSpace[:0])
		today      = t.calendar.at(now)
	)
	defer t.unlock(locked)
	for i := range asks {
		k := keyOf(&asks[i])
		e, err := t.shards[t.index(k)].get(k, t.giveBack)
		if err != nil {
			return denied, nil, err
		}
		e.turn(today.ends(k.period))
		e.seen = now
		hits = append(hits, hit{entry: e})
	}
	result := decide(now, asks, hits)
	for i, h := range hits {
		switch result {
		case refill:
			flights = h.need(flights, &asks[i], h.outcome)
		case admitted:
			flights = h.ahead(flights, asks[i].Size)
			fallthrough
		default:
			answers[i] = h.answer(now, &asks[i], h.outcome != denied)
		}
	}
	return result, flights, nil
}

// decide takes the cost of each ask from its entry, or of none.
func decide(now time.Time, asks []limit.Ask, hits []hit) outcome {
	result := admitted
	for i := range hits {
		h := &hits[i]
		h.outcome = h.check(now, &asks[i])
		switch h.outcome {
		case admitted:
			h.lease -= asks[i].Cost // At once: the same budget may be asked for twice.
		case denied:
			result = denied
		case refill:
			if result == admitted {
				result = refill
			}
		}
	}
	if result != admitted {
		for i, h := range hits {
			if h.outcome == admitted {
				h.lease += asks[i].Cost
			}
		}
	}
	return result
}

// lock locks the shards of asks in one order for all, each once, and returns them.
func (t *table) lock(asks []limit.Ask, in []int) []int {
	for i := range asks {
		in = append(in, t.index(keyOf(&asks[i])))
	}
	slices.Sort(in)
	in = slices.Compact(in)
	for _, i := range in {
		t.shards[i].mu.Lock()
	}
	return in
}

func (t *table) unlock(locked []int) {
	for _, i := range locked {
		t.shards[i].mu.Unlock()
	}
}

// depart returns how many tokens the flight's waiters want at least, and how many
// its key has now. Who comes later waits for another flight.
func (t *table) depart(f *flight) (want, lease int64) {
	s := &t.shards[t.index(f.key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	f.departed = true
	if e := s.entries[f.key]; e != nil && e.flight == f {
		lease = e.lease
	}
	return f.want, lease
}

// land adds what a flight brings to its key, and wakes its waiters.
func (t *table) land(f *flight, now time.Time, granted, row int64, err error) {
	s := &t.shards[t.index(f.key)]
	s.mu.Lock()
	e := s.entries[f.key]
	switch mine := e != nil && e.flight == f; {
	case mine && err == nil:
		e.lease += granted
		e.row, e.checked, e.known = row, now, true
		e.flight = nil
	case mine:
		e.flight = nil
	case err == nil && granted > 0: // The period or the ledger has ended.
		t.giveBack(ret{f.key, f.ends, granted})
	}
	s.mu.Unlock()
	f.err = err
	close(f.done)
}

// used is how many tokens of the period that ends then are used, where the file counted
// row. The file may have been read before a lease landed: then the row that came with the
// lease says more.
func (t *table) used(k key, ends, row int64) int64 {
	s := &t.shards[t.index(k)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil && e.ends == ends {
		return max(row, e.row) - e.lease
	}
	return row
}

// sweep drops the keys that were not asked for since then.
func (t *table) sweep(since time.Time) {
	for i := range t.shards {
		t.shards[i].sweep(since, t.giveBack)
	}
}

// close gives everything back and refuses what comes later.
func (t *table) close() {
	for i := range t.shards {
		t.shards[i].close(t.giveBack)
	}
}

// len is how many keys are in memory.
func (t *table) len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.entries)
		s.mu.Unlock()
	}
	return n
}

// shard is a part of the keys, bounded: who was used longest ago has to go.
type shard struct {
	mu      sync.Mutex
	entries map[key]*entry
	ring    entry // ring.next was used last, ring.prev longest ago
	max     int
	closed  bool
}

func (s *shard) init(maxKeys int) {
	s.entries, s.max = make(map[key]*entry), maxKeys
	s.ring.next, s.ring.prev = &s.ring, &s.ring
}

func (s *shard) get(k key, giveBack func(ret)) (*entry, error) {
	e := s.entries[k]
	if e == nil {
		if s.closed {
			return nil, errClosed
		}
		if len(s.entries) >= s.max && !s.evict(giveBack) {
			return nil, errBusy
		}
		e = &entry{key: k}
		s.entries[k] = e
	} else {
		e.unlink()
	}
	e.link(&s.ring)
	return e, nil
}

// evict drops the key that was used longest ago and does not wait for the file.
func (s *shard) evict(giveBack func(ret)) bool {
	for e := s.ring.prev; e != &s.ring; e = e.prev {
		if e.flight == nil {
			s.drop(e, giveBack)
			return true
		}
	}
	return false
}

func (s *shard) drop(e *entry, giveBack func(ret)) {
	e.unlink()
	delete(s.entries, e.key)
	if e.lease > 0 {
		giveBack(ret{e.key, e.ends, e.lease})
	}
}

func (s *shard) sweep(since time.Time, giveBack func(ret)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.ring.prev; e != &s.ring && e.seen.Before(since); {
		older := e
		e = e.prev
		if older.flight == nil {
			s.drop(older, giveBack)
		}
	}
}

func (s *shard) close(giveBack func(ret)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for s.ring.prev != &s.ring {
		s.drop(s.ring.prev, giveBack)
	}
}
