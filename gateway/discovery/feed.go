package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// MaxBackends bounds what is believed of one target: each backend costs a connection.
const MaxBackends = 1000

// emptyGrace is how long the last set is kept where etcd or Consul was away and then
// knows nobody: one that lost its data fills as services announce themselves again.
const emptyGrace = 30 * time.Second

// How long is waited after a failure: at random below a bound that doubles from the
// first to the last.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
)

var errTooMany = fmt.Errorf("more than %d backends: narrow the name down", MaxBackends)

// feed is one watch: what it said last, and how it is going. Used by one goroutine.
type feed struct {
	r              *Registry
	source, target string
	update         func([]Backend, error)

	known    []Backend
	told     bool
	failures int // in a row
	lastErr  string
	emptyEnd time.Time // until then an empty answer is not believed; zero means it is
}

func (r *Registry) feed(source, target string, update func([]Backend, error)) *feed {
	return &feed{r: r, source: source, target: target, update: update}
}

// tell says a new set. One that is as before is not told again.
func (f *feed) tell(backends []Backend) {
	if len(backends) > MaxBackends {
		f.fail(errTooMany)
		return
	}
	slices.SortFunc(backends, func(a, b Backend) int { return strings.Compare(a.Addr, b.Addr) })
	backends = slices.CompactFunc(backends, func(a, b Backend) bool { return a.Addr == b.Addr })
	if f.failures > 0 {
		f.r.o.Log.Info("discovery answers again", "source", f.source, "target", f.target)
	}
	f.failures, f.lastErr = 0, ""
	if f.told && slices.Equal(f.known, backends) {
		f.count(outcomeUnchanged)
		return
	}
	f.r.o.Log.Info("backends changed", "source", f.source, "target", f.target, "from", len(f.known), "to", len(backends))
	f.known, f.told = backends, true
	f.count(outcomeChanged)
	f.update(slices.Clone(backends), nil)
}

// kept says whether an empty answer is not believed, for now: right after trouble.
func (f *feed) kept() bool {
	if len(f.known) == 0 {
		return false
	}
	now := time.Now()
	if f.failures > 0 {
		f.emptyEnd = now.Add(f.r.grace)
		f.failures = 0
		f.r.o.Log.Warn("discovery was away and knows nobody now: the backends known before are kept for a while",
			"source", f.source, "target", f.target, "kept", len(f.known), "for", f.r.grace)
	}
	if now.Before(f.emptyEnd) {
		f.count(outcomeKept)
		return true
	}
	return false
}

// fail says that a lookup failed: what was known stays.
func (f *feed) fail(err error) {
	f.failures++
	f.count(outcomeError)
	level := slog.LevelDebug // What repeats is not news.
	if err.Error() != f.lastErr {
		level, f.lastErr = slog.LevelWarn, err.Error()
	}
	f.r.o.Log.Log(context.Background(), level, "discovery failed", "source", f.source, "target", f.target, "kept", len(f.known), "error", err)
	f.update(nil, fmt.Errorf("%s: %w", f.target, err))
}

func (f *feed) count(outcome string) { f.r.metrics.updates.WithLabelValues(f.source, outcome).Inc() }

// wait waits after a failure; false means that ctx ended.
func (f *feed) wait(ctx context.Context) bool {
	bound := min(firstRetry<<min(f.failures, 10), lastRetry)
	return sleep(ctx, bound/2+rand.N(bound/2), nil) //nolint:gosec // Chance, not secrecy.
}

// sleep waits for d, or until now says so; false means that ctx ended.
func sleep(ctx context.Context, d time.Duration, now <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-now:
	case <-ctx.Done():
		return false
	}
	return true
}

// found checks what a source says of one backend.
func found(addr string, weight int) (Backend, error) {
	t, err := ParseEndpoint(addr)
	if err == nil && strings.HasPrefix(addr, "unix") {
		err = errors.New("a socket in the file system cannot come from discovery")
	}
	if err != nil {
		return Backend{}, err
	}
	return Backend{Addr: t.Addr, Weight: min(max(weight, 1), maxWeight)}, nil
}

// maxWeight is that of the configuration.
const maxWeight = 1000
