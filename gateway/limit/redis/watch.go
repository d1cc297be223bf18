package redis

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

const (
	// dialTimeout bounds connecting and the greeting.
	dialTimeout = 500 * time.Millisecond
	// probeUp is how often Redis is looked at while it is up, so that the metric is
	// right without traffic, too.
	probeUp = time.Second
	// probeFirst and probeDown are how long after a failure the first probe comes,
	// and how far probes are apart at most: a hiccup costs little, and neither does
	// a long outage.
	probeFirst = 25 * time.Millisecond
	probeDown  = 250 * time.Millisecond
	// giveUp is how long a connection may be silent before another is tried.
	giveUp = time.Second
	// errorReplies is how many decisions in a row Redis may answer with an error.
	errorReplies = 3
)

// errNotConnected is what a client that lost its connection fails with.
var errNotConnected = errors.New("redis: the connection is lost")

// health is a small breaker. Decisions open it; the watch alone closes it.
type health struct {
	up      atomic.Bool
	replies atomic.Int32  // error replies in a row
	opened  chan struct{} // of size 1: wakes the watch
	cause   atomic.Pointer[error]
}

func (h *health) succeeded() {
	if h.replies.Load() != 0 {
		h.replies.Store(0)
	}
}

// open sends the decisions that follow straight to the fallback.
func (h *health) open(cause error) {
	if h.up.CompareAndSwap(true, false) {
		h.cause.Store(&cause)
		select {
		case h.opened <- struct{}{}:
		default:
		}
	}
}

// fail notes a decision that Redis did not make: one that was too late or lost its
// connection opens the breaker, an error reply only with others.
func (s *Store) fail(err error) {
	if _, ok := rueidis.IsRedisErr(err); ok && s.state.replies.Add(1) < errorReplies {
		return
	}
	s.state.open(err)
}

// conn is one connection to Redis. It is never dialed again: a decision would
// have to wait for that.
type conn struct {
	client rueidis.Client
}

// watch connects, probes and says when Redis is up, until ctx ends.
func (s *Store) watch(ctx context.Context) {
	w := watcher{store: s}
	defer w.drop()
	for {
		err := w.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		w.judge(err)
		select {
		case <-ctx.Done():
			return
		case <-s.state.opened:
			w.judge(*s.state.cause.Load())
			if !pause(ctx, probeFirst) {
				return
			}
		case <-time.After(w.wait):
		}
	}
}

// watcher is what only the watch's goroutine touches.
type watcher struct {
	store *Store
	known bool          // whether up was ever found out
	up    bool          // what was said last
	since time.Time     // when up was said
	good  time.Time     // when a probe of the present connection last succeeded
	wait  time.Duration // until the next probe
}

// judge tells the decisions, the log and the metric what a probe found out, each
// transition once.
func (w *watcher) judge(err error) {
	s := w.store
	now := time.Now()
	if err == nil {
		w.wait = probeUp
		s.state.replies.Store(0)
		s.state.up.Store(true)
		s.metrics.up.Set(1)
		if !w.up {
			if w.known {
				s.log.Info("redis is back: limits are shared again", "down_for", now.Sub(w.since).Round(time.Millisecond).String())
			}
			w.known, w.up, w.since = true, true, now
		}
		return
	}
	w.wait = min(max(2*w.wait, probeFirst), probeDown)
	s.state.up.Store(false)
	s.metrics.up.Set(0)
	if w.up || !w.known {
		s.log.Warn("redis does not answer: the fallback decides over limits", "fallback", string(s.fallback), "err", err)
		w.known, w.up, w.since, w.wait = true, false, now, probeFirst
	}
}

// probe asks Redis for a decision of its own: only one that writes proves that
// Redis does not just listen, but may be written to, has memory and accepts the
// password.
func (w *watcher) probe(ctx context.Context) error {
	s := w.store
	c := s.conn.Load()
	if c == nil {
		client, err := connect(s.dial)
		if err != nil {
			return err
		}
		c = &conn{client: client}
		w.good = time.Now()
		s.conn.Store(c)
	}
	probe := []limit.Ask{{Key: limit.Key{Limit: "probe"}, Cost: 1, Size: 1 << 20, Emission: time.Microsecond}}
	keys, args := s.command(probe)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := parse(s.script.Exec(ctx, c.client, keys, args), make([]limit.Answer, 1))
	late := errors.Is(err, context.DeadlineExceeded)
	_, reply := rueidis.IsRedisErr(err)
	switch {
	case err == nil || reply:
		w.good = time.Now()
	case !late || time.Since(w.good) > giveUp:
		w.drop()
	}
	return err
}

// drop ends the present connection. It does not wait: to close a connection that
// is stuck takes rueidis a second.
func (w *watcher) drop() {
	if c := w.store.conn.Swap(nil); c != nil {
		w.store.watched.Go(c.client.Close)
	}
}

// pause waits; it reports false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
