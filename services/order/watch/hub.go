// Package watch wakes those who watch an order when it has changed, in this
// process or in another one on the same database. It carries no orders, only the
// word that there is something to read: a watcher that is slow misses nothing and
// holds nothing up, for it reads the history (order/store) at its own pace.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// defaultInterval is how late a change of another process may be noticed.
const defaultInterval = 200 * time.Millisecond

// Source tells how far the history of orders has come.
type Source interface {
	// Revisions calls report with the latest revision of each order that exists.
	Revisions(ctx context.Context, ids []string, report func(id string, revision int64)) error
}

// Options are what a hub needs.
type Options struct {
	// Source is polled for changes of other processes. Required.
	Source Source
	// Interval is the time between two polls. Default: 200 ms.
	Interval time.Duration
	// Logger takes failing polls, once until they succeed again. Default:
	// slog.Default().
	Logger *slog.Logger
}

// Hub knows the watchers of one process. It has one poller for all of them, which
// asks by the ids that are watched: its work grows with those, not with what is
// bought. It is safe for concurrent use.
type Hub struct {
	source Source
	log    *slog.Logger

	mu       sync.Mutex
	watchers map[string]map[*Watcher]struct{}

	draining  chan struct{}
	drainOnce sync.Once
	stop      func()
}

// New starts a hub. It must be closed.
func New(o Options) *Hub {
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	h := &Hub{
		source: o.Source, log: o.Logger,
		watchers: make(map[string]map[*Watcher]struct{}),
		draining: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	h.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		h.pollEvery(ctx, o.Interval)
	}()
	return h
}

// Watcher is woken when its order may have changed.
type Watcher struct {
	hub     *Hub
	orderID string
	wake    chan struct{}
	seen    atomic.Int64
}

// Watch registers a watcher of an order, which must be closed. Register before
// reading the order: what changes after the read then wakes.
func (h *Hub) Watch(orderID string) *Watcher {
	w := &Watcher{hub: h, orderID: orderID, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers[orderID] == nil {
		h.watchers[orderID] = make(map[*Watcher]struct{})
	}
	h.watchers[orderID][w] = struct{}{}
	return w
}

// Wake receives after a change. Several changes may wake once, and a wake may
// find nothing new.
func (w *Watcher) Wake() <-chan struct{} { return w.wake }

// Seen says which revision the watcher has reached, so that polls wake it only
// for later ones.
func (w *Watcher) Seen(revision int64) { w.seen.Store(revision) }

// Close ends the watch.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	delete(w.hub.watchers[w.orderID], w)
	if len(w.hub.watchers[w.orderID]) == 0 {
		delete(w.hub.watchers, w.orderID)
	}
}

// Changed wakes the watchers of an order that has reached a revision. Call it
// after the commit: woken earlier, they would read the state before.
func (h *Hub) Changed(orderID string, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers[orderID] {
		if w.seen.Load() < revision {
			select {
			case w.wake <- struct{}{}:
			default: // Awake already, and yet to read.
			}
		}
	}
}

// Draining is closed when watches should end.
func (h *Hub) Draining() <-chan struct{} { return h.draining }

// Drain tells all watches to end. It may be called again.
func (h *Hub) Drain() { h.drainOnce.Do(func() { close(h.draining) }) }

// Close drains and ends the poller.
func (h *Hub) Close() {
	h.Drain()
	h.stop()
}

func (h *Hub) pollEvery(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := h.poll(ctx)
		if err != nil && !failing && !errors.Is(err, context.Canceled) {
			h.log.Error("watch: changes of other processes are not seen for now", "error", err)
		}
		failing = err != nil
	}
}

func (h *Hub) poll(ctx context.Context) error {
	h.mu.Lock()
	ids := make([]string, 0, len(h.watchers))
	for id := range h.watchers {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	return h.source.Revisions(ctx, ids, h.Changed)
}
