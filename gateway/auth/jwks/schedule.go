package jwks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// fetch is one that goes on; err is set when done is closed.
type fetch struct {
	done chan struct{}
	err  error
}

// demand is a fetch on behalf of an unknown key id: the one that goes on, or one
// of its own if the last that was demanded is long enough ago. If it is not,
// nobody waits, but one is due as soon as it is. A flood of made-up ids costs the
// issuer no more than that.
func (s *Source) demand() (f *fetch, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch wait := s.untilDemand(); {
	case s.current != nil:
		return s.current, false
	case s.closed:
		return nil, false
	case wait > 0:
		s.wantLocked()
		return nil, false
	}
	return s.demandLocked(), true
}

func (s *Source) demandLocked() *fetch {
	s.demanded = time.Now()
	if s.due != nil {
		s.due.Stop()
		s.due = nil
	}
	return s.startLocked()
}

// untilDemand is the time until tokens may cause a fetch again.
func (s *Source) untilDemand() time.Duration {
	if s.demanded.IsZero() {
		return 0
	}
	return time.Until(s.demanded.Add(s.o.MinInterval))
}

// want has a fetch follow as soon as tokens may cause one. Without it a new key
// would be found only if one of its tokens came at the right moment.
func (s *Source) want() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wantLocked()
}

func (s *Source) wantLocked() {
	if s.closed || s.due != nil {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(max(0, s.untilDemand()), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed || s.due != t { // Stopped too late.
			return
		}
		s.due = nil
		if s.current == nil {
			s.demandLocked()
		}
	})
	s.due = t
}

// start begins a fetch, or joins the one that goes on; nil after Close.
func (s *Source) start() *fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return s.current
	}
	if s.closed {
		return nil
	}
	return s.startLocked()
}

func (s *Source) startLocked() *fetch {
	f := &fetch{done: make(chan struct{})}
	s.current = f
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		var set *keySet
		set, f.err = s.fetchSet()
		s.note(set, f.err)
		s.mu.Lock()
		s.current = nil
		s.mu.Unlock()
		close(f.done)
	}()
	return f
}

// note takes the outcome of a fetch. One that Close ended has none.
func (s *Source) note(set *keySet, err error) {
	if errors.Is(err, context.Canceled) && s.ctx.Err() != nil {
		return
	}
	s.metrics.fetches.WithLabelValues(s.name, outcomeOf(err)).Inc()
	if err == nil {
		set.fetched = time.Now()
		s.keys.Store(set)
		s.tellSkipped(set)
	}
	s.failed.Store(err != nil)
	if err != nil {
		age, keys := s.state()
		s.o.Log.Warn("fetch of a key set failed", "issuer", s.name, "error", err, "keys_in_use", keys, "keys_age", age.Round(time.Second))
	}
}

// tellSkipped names the keys that are skipped, once while they stay the same. Only one
// fetch goes on at a time. A key for something else than signatures is no mistake.
func (s *Source) tellSkipped(set *keySet) {
	now := map[string]bool{}
	for _, k := range set.skipped[:min(len(set.skipped), maxKeys)] { // A long list is not worth its lines.
		text := k.String()
		now[text] = true
		if s.skipped[text] {
			continue
		}
		level, reason := slog.LevelWarn, reasonOf(k.err)
		if reason == skippedOtherUse {
			level = slog.LevelInfo
		}
		s.o.Log.Log(s.ctx, level, "a key of a key set is skipped; the others are used", "issuer", s.name,
			"position", k.position+1, "kid", fmt.Sprintf("%.100s", k.kid), "reason", reason, "error", k.err)
	}
	s.skipped = now
}

// refresh fetches again and again until Close.
func (s *Source) refresh(f *fetch) {
	defer s.wg.Done()
	const least, most = time.Second, 30 * time.Second
	retry := least
	for f != nil {
		select {
		case <-f.done:
		case <-s.ctx.Done():
			return
		}
		wait := s.o.Refresh
		if f.err != nil {
			wait = min(retry, s.o.Refresh)
			retry = min(2*retry, most)
		} else {
			retry = least
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
		f = s.start()
	}
}
