package limit

import (
	"hash/maphash"
	"math/bits"
	"sync"
)

// A table of TATs that never grows: buckets of places, allocated once, free of
// pointers (the collector does not look into it), 16 bytes a place. A key may
// stand in one of two buckets and goes into the emptier one, which fills the
// table evenly: with 95 places of 100 taken, about two keys in a hundred find
// both full.

const (
	ways      = 8   // Places of a bucket: two cache lines.
	maxShards = 256 // Locks, on a table large enough.
)

// bucket is ways places. A tag is 56 bits of the key's hash over 8 bits that say
// how large the window of its budget is. Within two buckets two keys have the
// same 56 bits once in 2^52 look-ups, and nobody can look for such keys, because
// the hash is keyed by the process.
type bucket struct {
	tags [ways]uint64
	tats [ways]int64
}

// shard guards its part of the buckets. It is as large as a cache line.
type shard struct {
	mu sync.Mutex
	_  [56]byte
}

type table struct {
	seeds   [2]maphash.Seed
	shards  []shard
	per     uint64 // Buckets of a shard.
	buckets []bucket
}

// newTable makes a table of at most keys places, and at least 16.
func newTable(keys int) *table {
	n := max(keys/ways, 2)
	shards := 1
	for shards < maxShards && n/(shards*2) >= 64 {
		shards *= 2
	}
	t := &table{shards: make([]shard, shards), per: uint64(n / shards)}
	t.buckets = make([]bucket, shards*int(t.per))
	t.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	return t
}

// place is where a budget stands or may stand.
type place struct {
	shard int
	tag   uint64 // Low 8 bits 0.
	a, b  *bucket
	in    *bucket // Nil: in neither.
	way   int
	cell  cell
}

// places returns the number of places.
func (t *table) places() int { return len(t.buckets) * ways }

// locate finds the buckets of a key. who may be bytes, so that a check need not
// make a string of an address.
func (t *table) locate(limit, who string) place {
	return t.at(
		mix(maphash.String(t.seeds[0], limit), maphash.String(t.seeds[0], who)),
		mix(maphash.String(t.seeds[1], limit), maphash.String(t.seeds[1], who)))
}

func (t *table) locateBytes(limit string, who []byte) place {
	return t.at(
		mix(maphash.String(t.seeds[0], limit), maphash.Bytes(t.seeds[0], who)),
		mix(maphash.String(t.seeds[1], limit), maphash.Bytes(t.seeds[1], who)))
}

// mix joins the hashes of a limit and of whom it counts. For one limit no two
// hashes fall together; the multiplier (the golden ratio) parts the limits.
func mix(limit, who uint64) uint64 { return bits.RotateLeft64(limit, 31)*0x9e3779b97f4a7c15 + who }

func (t *table) at(h1, h2 uint64) place {
	s := int(h1 >> 56 & uint64(len(t.shards)-1))
	part := t.buckets[uint64(s)*t.per:][:t.per]
	i := (h1 & 0xffffffff) * t.per >> 32
	// The other bucket is never the same one, and under the same lock.
	j := i + 1 + (h2&0xffffffff)*(t.per-1)>>32
	if j >= t.per {
		j -= t.per
	}
	return place{shard: s, tag: max(h2&^0xff, 1<<8), a: &part[i], b: &part[j]}
}

// find looks the key up and returns its TAT, or 0. The shard is locked.
func (p *place) find() int64 {
	for _, b := range [2]*bucket{p.a, p.b} {
		for i := range b.tags {
			if b.tags[i]^p.tag < 1<<8 {
				p.in, p.way = b, i
				return b.tats[i]
			}
		}
	}
	p.in = nil
	return 0
}

// store writes the TAT of a budget with this window, and says whether a live
// entry had to go for it. The shard is locked. Others of the same decision may
// have been written since find.
func (p *place) store(tat, window, now int64) (evicted bool) {
	if p.in != nil && p.in.tags[p.way]^p.tag < 1<<8 {
		p.in.tats[p.way] = tat
		return false
	}
	p.in, p.way = p.a, -1
	na, wa := p.a.free(now)
	nb, wb := p.b.free(now)
	switch {
	case na == 0 && nb == 0:
		p.in, p.way = p.leastUsed(now)
		evicted = true
	case na >= nb:
		p.in, p.way = p.a, wa
	default:
		p.in, p.way = p.b, wb
	}
	p.in.tags[p.way], p.in.tats[p.way] = p.tag|windowCode(window), tat
	return evicted
}

// free counts the places whose TAT has passed, which say nothing any more, and
// returns one.
func (b *bucket) free(now int64) (n, way int) {
	for i, tat := range b.tats {
		if tat <= now {
			n, way = n+1, i
		}
	}
	return n, way
}

// leastUsed is the entry of both buckets that has used the smallest part of its
// budget. The part counts and not the time: by time, one call on a limit of ten
// an hour would outweigh a whole burst on one of fifty a second.
func (p *place) leastUsed(now int64) (in *bucket, way int) {
	least := 2.0
	for _, b := range [2]*bucket{p.a, p.b} {
		for i, tat := range b.tats {
			if used := float64(tat-now) / float64(codedWindow(b.tags[i])); used < least {
				least, in, way = used, b, i
			}
		}
	}
	if in == nil { // All far over a window that was made smaller since.
		in, way = p.a, 0
	}
	return in, way
}

// windowCode is the window to a quarter of an octave, rounded down, in 8 bits.
func windowCode(window int64) uint64 {
	w := uint64(max(window, 4))
	octave := bits.Len64(w) - 3 // w >> octave is 4 to 7.
	return uint64(octave)<<2 | w>>octave&3
}

func codedWindow(tag uint64) int64 { return int64(4+tag&3) << (tag & 0xff >> 2) }

// live estimates how many entries have not passed: it looks at all of a table of
// a million places, and at a part of a larger one.
func (t *table) live(now int64) int {
	const look = 1 << 20
	step := max(1, t.places()/look)
	n, seen := 0, 0
	for s := 0; s < len(t.shards); s += step {
		part := t.buckets[uint64(s)*t.per:][:t.per]
		t.shards[s].mu.Lock()
		for i := range part {
			free, _ := part[i].free(now)
			n += ways - free
		}
		t.shards[s].mu.Unlock()
		seen++
	}
	return n * len(t.shards) / seen
}

// lock locks the shards of all places, each once, in the order of their numbers,
// so that two decisions never wait for each other in a ring. It returns them.
func (t *table) lock(places []place, held []int) []int {
	for i := range places {
		held = append(held, places[i].shard)
	}
	for i := 1; i < len(held); i++ { // Insertion sort: there are few.
		for j := i; j > 0 && held[j] < held[j-1]; j-- {
			held[j], held[j-1] = held[j-1], held[j]
		}
	}
	for i, s := range held {
		if i == 0 || s != held[i-1] {
			t.shards[s].mu.Lock()
		}
	}
	return held
}

func (t *table) unlock(held []int) {
	for i, s := range held {
		if i == 0 || s != held[i-1] {
			t.shards[s].mu.Unlock()
		}
	}
}
