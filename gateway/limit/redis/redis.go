// Package redis keeps the budgets of limits in a Redis that several gateways
// share. One atomic script decides over all budgets of a call, by Redis's clock.
//
// A decision never waits for Redis longer than the timeout, after half of it for
// its turn at most: after it, and as long as Redis does not answer as it should,
// the named fallback decides. A background probe alone connects, and finds out
// when Redis is back.
//
// Too many decisions at once are no outage. One that does not get its turn is
// decided by the local store, or refused where there is none, whatever the
// fallback.
//
// Its neighbours: gateway/limit, whose Store this is; gateway/limit/ledger and
// limit.Memory, which the fallback `local` is made of; gateway/limit/redistest,
// which runs a Redis for tests.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

// Fallback names what decides while Redis does not.
type Fallback string

// The fallbacks.
const (
	// Local lets each gateway hold the limits by itself. What it counts is not
	// carried over to Redis later.
	Local Fallback = "local"
	// Closed admits nobody: Take returns an error.
	Closed Fallback = "closed"
	// Open admits everybody.
	Open Fallback = "open"
)

const (
	defaultTimeout = 20 * time.Millisecond
	defaultPrefix  = "sluice:"
	// maxInFlight bounds the decisions that Redis is asked for at once. Others wait
	// for their turn, half the timeout at most.
	maxInFlight = 256
	// maxExact is the largest integer that Lua's numbers count up to without gaps.
	maxExact = 1 << 53
)

// errDown is what a decision with fallback Closed fails with.
var errDown = errors.New("redis: does not answer")

// errNoSlot is what a decision fails with that has waited too long for its turn.
// That so many are asked for is no fault of Redis's, and must not open its
// breaker: whoever can make them would end the limits of all.
var errNoSlot = errors.New("redis: too many decisions at once")

// errClosed is what a decision after Close fails with.
var errClosed = errors.New("redis: the store is closed")

// Options configure New.
type Options struct {
	// URL is redis://[user:password@]host:port[/db], or rediss://… for TLS, which
	// trusts the system's roots.
	URL string
	// Password is used instead of the URL's when it is not empty.
	Password string
	// Timeout bounds the wait for Redis; 0 means 20 ms.
	Timeout time.Duration
	// Prefix of the keys; empty means `sluice:`.
	Prefix string
	// Fallback decides while Redis does not; empty means Local.
	Fallback Fallback
	// Local is the store of Fallback Local, and needed for it. Close closes it.
	Local limit.Store
	// Log gets a line when Redis goes, and one when it comes back; nil means
	// slog.Default().
	Log *slog.Logger
	// Metrics, when not nil, gets sluice_limit_redis_up,
	// sluice_limit_fallback_total, sluice_limit_redis_seconds and
	// sluice_limit_redis_crowded_total.
	Metrics prometheus.Registerer
}

// Store is a limit.Store. It is safe for concurrent use.
type Store struct {
	prefix   string
	timeout  time.Duration
	fallback Fallback
	local    limit.Store
	log      *slog.Logger
	script   *rueidis.Lua
	dial     rueidis.ClientOption
	metrics  metrics

	slots chan struct{} // a place in it for each decision in flight
	state health
	conn  atomic.Pointer[conn] // nil when there is none; the watch alone sets it

	stop    context.CancelFunc
	watched sync.WaitGroup
	closed  atomic.Bool
}

// New returns a store that starts to connect. It neither waits for Redis nor
// fails without it; it fails when the options are wrong. Close it.
func New(o Options) (*Store, error) {
	option, err := dialOption(o.URL, o.Password)
	if err != nil {
		return nil, err
	}
	s := &Store{
		prefix: o.Prefix, timeout: o.Timeout, fallback: o.Fallback, local: o.Local, log: o.Log,
		script: rueidis.NewLuaScript(source), dial: option, slots: make(chan struct{}, maxInFlight),
	}
	if s.prefix == "" {
		s.prefix = defaultPrefix
	}
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	switch s.fallback {
	case "":
		s.fallback = Local
	case Local, Closed, Open:
	default:
		return nil, fmt.Errorf("redis: fallback %q is not local, closed or open", s.fallback)
	}
	if s.fallback == Local && s.local == nil {
		return nil, errors.New("redis: fallback local needs a local store")
	}
	if s.metrics, err = newMetrics(o.Metrics, s.fallback); err != nil {
		return nil, err
	}
	s.state.opened = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.watched.Go(func() { s.watch(ctx) })
	return s, nil
}

// Take implements limit.Store.
func (s *Store) Take(ctx context.Context, asks []limit.Ask, answers []limit.Answer) (bool, error) {
	if len(asks) != len(answers) {
		return false, fmt.Errorf("redis: %d asks, %d answers", len(asks), len(answers))
	}
	if len(asks) == 0 {
		return true, nil
	}
	for i := range asks {
		if err := valid(&asks[i]); err != nil {
			return false, err
		}
	}
	if s.closed.Load() {
		return false, errClosed
	}
	if c := s.conn.Load(); c != nil && s.state.up.Load() {
		admitted, err := s.ask(ctx, c, asks, answers)
		if err == nil {
			return admitted, nil
		}
		if ctx.Err() != nil { // The caller has gone, or its time has: no fault of Redis's.
			return false, ctx.Err()
		}
		switch {
		case !errors.Is(err, errNoSlot):
			s.fail(err)
		case s.state.up.Load():
			return s.crowded(ctx, asks, answers)
		}
	}
	return s.without(ctx, asks, answers)
}

// ask lets Redis decide, within the timeout.
func (s *Store) ask(ctx context.Context, c *conn, asks []limit.Ask, answers []limit.Answer) (bool, error) {
	if err := s.slot(ctx); err != nil {
		return false, err
	}
	defer func() { <-s.slots }()
	if !s.state.up.Load() { // It has gone while this one waited.
		return false, errDown
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout) // Redis has all of it, however long the slot took.
	defer cancel()
	keys, args := s.command(asks)
	start := time.Now()
	admitted, err := parse(s.script.Exec(ctx, c.client, keys, args), answers)
	s.metrics.seconds.Observe(time.Since(start).Seconds())
	if err == nil {
		s.state.succeeded()
	}
	return admitted, err
}

// slot waits for a place among the decisions in flight.
func (s *Store) slot(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTimer(s.timeout / 2)
	defer late.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errNoSlot
	}
}

// crowded decides what did not get its turn.
func (s *Store) crowded(ctx context.Context, asks []limit.Ask, answers []limit.Answer) (bool, error) {
	s.metrics.crowded.Inc()
	if s.fallback == Local {
		return s.local.Take(ctx, asks, answers)
	}
	return false, errNoSlot
}

// without decides as the fallback says.
func (s *Store) without(ctx context.Context, asks []limit.Ask, answers []limit.Answer) (bool, error) {
	s.metrics.fallbacks.Inc()
	switch s.fallback {
	case Local:
		return s.local.Take(ctx, asks, answers)
	case Open:
		for i := range asks {
			answers[i] = limit.Answer{OK: true, Remaining: max(asks[i].Size-asks[i].Cost, 0)}
		}
		return true, nil
	default:
		return false, errDown
	}
}

// valid refuses what the script cannot count.
func valid(a *limit.Ask) error {
	switch {
	case a.Cost < 1 || a.Size < 0 || a.Cost > maxExact || a.Size > maxExact:
		return fmt.Errorf("redis: %s: cost %d of %d", a.Key.Limit, a.Cost, a.Size)
	case a.Period < limit.NoPeriod || a.Period > limit.Month:
		return fmt.Errorf("redis: %s: period %d", a.Key.Limit, a.Period)
	case a.Period == limit.NoPeriod && a.Emission < 1:
		return fmt.Errorf("redis: %s: emission %d", a.Key.Limit, a.Emission)
	}
	return nil
}

// Close ends the connection and closes the local store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.watched.Wait()
	if s.local != nil {
		return s.local.Close()
	}
	return nil
}
