package resilience

import (
	"sync"
	"sync/atomic"
	"time"
)

const buckets = 10

// window counts over a sliding time, in tenths of it: what is older than the time
// leaves a tenth at a time. Counting takes no lock but for the first of a tenth.
type window struct {
	mu   sync.Mutex // Rolls a bucket over.
	ring [buckets]bucket
}

// bucket is one tenth: all that was counted, and those of them that are marked.
type bucket struct {
	tick          atomic.Int64
	total, marked atomic.Int64
}

// at returns the bucket of this time.
func (w *window) at(now, length time.Duration) *bucket {
	tick := int64(now / (length / buckets))
	b := &w.ring[tick%buckets]
	if b.tick.Load() != tick {
		w.roll(b, tick)
	}
	return b
}

// roll empties a bucket for its new tenth. A length that changed makes ticks go back:
// that too empties it.
func (w *window) roll(b *bucket, tick int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.tick.Load() == tick {
		return
	}
	b.total.Store(0)
	b.marked.Store(0)
	b.tick.Store(tick)
}

// sum returns what was counted in the time before now.
func (w *window) sum(now, length time.Duration) (total, marked int64) {
	last := int64(now / (length / buckets))
	for i := range w.ring {
		b := &w.ring[i]
		if t := b.tick.Load(); t > last-buckets && t <= last {
			total += b.total.Load()
			marked += b.marked.Load()
		}
	}
	return total, marked
}

func (w *window) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.ring {
		w.ring[i].total.Store(0)
		w.ring[i].marked.Store(0)
	}
}
