package cache

import (
	"maps"
	"slices"
	"sync"
	"unsafe"

	"github.com/maypok86/otter/v2"
)

// routeTag is the tag that every answer of a route has. No tag of a rule begins so.
func routeTag(name string) string { return "\x00" + name }

// Target is the tag of answers to GET of a path, decoded and without its query. Host is
// empty for RPCs, which are the same under every name. No tag of a rule begins so.
func Target(host, path string) string { return "\x01" + host + path }

// index finds entries by tag.
type index struct {
	mu   sync.Mutex
	tags map[string]map[*Entry]struct{}
}

func (x *index) add(e *Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range e.tagged {
		set := x.tags[t]
		if set == nil {
			set = map[*Entry]struct{}{}
			x.tags[t] = set
		}
		set[e] = struct{}{}
	}
}

func (x *index) remove(e *Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range e.tagged {
		set := x.tags[t]
		delete(set, e)
		if len(set) == 0 {
			delete(x.tags, t)
		}
	}
}

func (x *index) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.tags)
}

// kill marks the entries of the tags as dead and returns them; nil means all. From
// here on nobody is given them, wherever they are.
func (x *index) kill(tags []string) []*Entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	if tags == nil {
		tags = slices.Collect(maps.Keys(x.tags))
	}
	var out []*Entry
	for _, t := range tags {
		for e := range x.tags[t] {
			if !e.dead.Swap(true) {
				out = append(out, e)
			}
		}
	}
	return out
}

// Invalidate removes the answers that have one of the tags, and sees to it that no
// fetch that is on its way puts one in: it may have read what was there before. It
// returns how many answers were removed.
func (c *Cache) Invalidate(tags ...string) int {
	if len(tags) == 0 {
		return 0
	}
	return c.invalidate(byTag, tags)
}

// InvalidateTargets does the same for tags that Target has made, after a write to their
// paths (RFC 9111, 4.4).
func (c *Cache) InvalidateTargets(targets ...string) int {
	if len(targets) == 0 {
		return 0
	}
	return c.invalidate(byTarget, targets)
}

// InvalidateRoute removes the answers of an RPC or route.
func (c *Cache) InvalidateRoute(name string) int {
	return c.invalidate(byRoute, []string{routeTag(name)})
}

// Purge removes every answer.
func (c *Cache) Purge() int { return c.invalidate(byPurge, nil) }

func (c *Cache) invalidate(by string, tags []string) int {
	c.metrics.invalidated(by)
	c.mu.Lock()
	c.seq++
	switch {
	case tags == nil:
		c.floor = c.seq
	case c.flying > 0:
		for _, t := range tags {
			c.epochs[t] = c.seq
		}
		if len(c.epochs) > maxEpochs {
			c.floor = c.seq
			clear(c.epochs)
		}
	}
	gone := c.index.kill(tags)
	c.mu.Unlock()
	for _, e := range gone {
		c.drop(e)
	}
	return len(gone)
}

// outdated says whether one of the tags was invalidated after start; with open, of
// tags that are not known, whether any was. mu is held.
func (c *Cache) outdated(start uint64, tags []string, open bool) bool {
	if c.floor > start || open && c.seq > start {
		return true
	}
	for _, t := range tags {
		if c.epochs[t] > start {
			return true
		}
	}
	return false
}

// drop takes an entry out of the store, where it is still in there.
func (c *Cache) drop(e *Entry) {
	c.store.ComputeIfPresent(e.key, func(s *slot) (*slot, otter.ComputeOp) {
		if s.e != e {
			return s, otter.CancelOp
		}
		return nil, otter.InvalidateOp
	})
}

// weighAgain tells the store that an entry has become larger, where it is still in
// there.
func (c *Cache) weighAgain(e *Entry) {
	c.store.ComputeIfPresent(e.key, func(s *slot) (*slot, otter.ComputeOp) {
		if s.e != e {
			return s, otter.CancelOp
		}
		e.formsMu.Lock()
		n := e.weight() + e.formBytes
		e.formsMu.Unlock()
		s.moved.Store(true)
		return &slot{e: e, weight: uint32(n)}, otter.WriteOp //nolint:gosec // At most three times MaxEntryBytes.
	})
}

// view is the bytes as a string, for a look-up that does not keep it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
