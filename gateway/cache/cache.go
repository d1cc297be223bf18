package cache

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Defaults of Options.
const (
	DefaultMaxBytes      = 64 << 20
	DefaultMaxEntryBytes = 1 << 20
	DefaultMaxRefreshes  = 64
)

// Bounds that no option moves.
const (
	// maxForms bounds the renderings beside one answer: field masks are the callers'.
	maxForms = 8
	// formShare is how many times MaxEntryBytes the renderings of an answer may take.
	formShare = 2
	// overhead is what an entry takes beside its bytes: the structures here and otter's.
	overhead = 640
	// maxEpochs bounds the tags that are remembered for fetches on their way; with
	// more, none of those is kept.
	maxEpochs = 4096
)

// Options of a Cache. The zero value is one with the defaults.
type Options struct {
	// MaxBytes bounds keys, answers, renderings and what holds them; 0 means 64 MiB.
	MaxBytes int64
	// MaxEntryBytes bounds an answer with its key; what is larger is given but not
	// kept. 0 means 1 MiB, or MaxBytes where that is less.
	MaxEntryBytes int64
	// MaxRefreshes bounds the fetches that nobody waits for, of answers that are given
	// stale meanwhile; 0 means 64. Further ones wait for a later caller.
	MaxRefreshes int
	// Clock is nil for time.Now.
	Clock func() time.Time
	// Metrics is where sluice_cache_* are registered; nil means nowhere.
	Metrics prometheus.Registerer
}

func (o *Options) fill() error {
	switch {
	case o.MaxBytes < 0 || o.MaxEntryBytes < 0 || o.MaxRefreshes < 0:
		return errors.New("cache: a bound is negative")
	case o.MaxEntryBytes > 1<<30:
		return fmt.Errorf("cache: max_entry_bytes %d is more than 1 GiB", o.MaxEntryBytes)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxEntryBytes > o.MaxBytes {
		return fmt.Errorf("cache: max_entry_bytes %d is more than max_bytes %d", o.MaxEntryBytes, o.MaxBytes)
	}
	if o.MaxEntryBytes == 0 {
		o.MaxEntryBytes = min(DefaultMaxEntryBytes, o.MaxBytes)
	}
	if o.MaxRefreshes == 0 {
		o.MaxRefreshes = DefaultMaxRefreshes
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return nil
}

// Cache holds answers by key. It is safe for concurrent use, and outlives the rules
// that are read with a configuration: each makes its own Routes of it. It has no
// goroutine of its own and needs no Close.
type Cache struct {
	o       Options
	store   *otter.Cache[string, *slot]
	metrics *metrics

	refreshing atomic.Int64
	index      index

	// mu guards what follows. It is never held across a fetch, and before index.mu.
	mu      sync.Mutex
	flights map[string]*flight
	flying  int // flights that run, also those that nobody joins any more
	// seq counts invalidations; epochs has the last one of a tag, for the flights that
	// began before it; floor is the last one of everything.
	seq, floor uint64
	epochs     map[string]uint64
}

// slot holds an entry in the store. A new one stands for the same entry where that
// has become larger.
type slot struct {
	e      *Entry
	weight uint32
	moved  atomic.Bool // the entry is in another slot now
}

// New returns an empty cache.
func New(o Options) (*Cache, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	c := &Cache{o: o, flights: map[string]*flight{}, epochs: map[string]uint64{}}
	c.index.tags = map[string]map[*Entry]struct{}{}
	store, err := otter.New(&otter.Options[string, *slot]{
		MaximumWeight:    uint64(o.MaxBytes), //nolint:gosec // It is positive.
		Weigher:          func(_ string, s *slot) uint32 { return s.weight },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, *slot]) time.Duration { return e.Value.e.left(o.Clock()) }),
		OnAtomicDeletion: c.deleted,
		Clock:            clock(o.Clock),
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	c.store = store
	c.metrics, err = newMetrics(c, o.Metrics)
	return c, err
}

// clock lets otter read ours. Without ticks it has no goroutine: what has expired
// goes with the next writes.
type clock func() time.Time

func (c clock) NowNano() int64                    { return c().UnixNano() }
func (clock) Tick(time.Duration) <-chan time.Time { return nil }

// deleted hears of every slot that leaves the store, under a lock of the store's.
func (c *Cache) deleted(d otter.DeletionEvent[string, *slot]) {
	if d.Value.moved.Load() {
		return
	}
	c.index.remove(d.Value.e)
	switch d.Cause {
	case otter.CauseOverflow:
		c.metrics.evicted(causeSize)
	case otter.CauseExpiration:
		c.metrics.evicted(causeExpired)
	case otter.CauseInvalidation, otter.CauseReplacement:
	}
}

// Stats is what a Cache holds.
type Stats struct {
	// Entries and Bytes are what is kept; what has expired counts until it is removed.
	Entries  int   `json:"entries"`
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"max_bytes"`
	// Fetches are on their way.
	Fetches int `json:"fetches"`
	// Tags are the names by which entries can be invalidated, those of routes included.
	Tags int `json:"tags"`
}

// Stats says what the cache holds.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	flying := c.flying
	c.mu.Unlock()
	c.store.CleanUp()                                                                                            // It weighs behind the writes' backs otherwise.
	return Stats{Entries: c.store.EstimatedSize(), Bytes: int64(c.store.WeightedSize()), MaxBytes: c.o.MaxBytes, //nolint:gosec // It is bounded by MaxBytes.
		Fetches: flying, Tags: c.index.len()}
}

// MaxEntryBytes is the bound of an answer with its key.
func (c *Cache) MaxEntryBytes() int64 { return c.o.MaxEntryBytes }

// Route keeps the answers of one RPC or plain HTTP route by its rule. It is safe for
// concurrent use.
type Route struct {
	c      *Cache
	rule   *policy.Cache
	tag    string // that every answer of the route has
	prefix []byte // of its keys
	counts counters
}

// Route returns the part of the cache for the RPC or route of that name. Routes of
// one name share what is kept, as far as scope and vary of their rules agree.
func (c *Cache) Route(name string, rule *policy.Cache) *Route {
	return &Route{c: c, rule: rule, tag: routeTag(name), prefix: prefix(name, rule), counts: c.metrics.route(name)}
}

// Rule is what the route keeps answers by.
func (r *Route) Rule() *policy.Cache { return r.rule }
