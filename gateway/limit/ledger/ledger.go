// Package ledger keeps quotas, which are budgets of a calendar day or month of
// UTC, in a SQLite file, across restarts and crashes.
//
// It leases ahead: a block of a key's quota is counted as used in the file, on
// the disk, before the first token of it is given to a call. So a call takes its
// token from memory, without I/O, and whatever crashes, never more than the quota
// is admitted: what was leased and not used is lost to its caller, at most a block
// (see blockOf). Leases are given back when the ledger closes and when a key is
// idle. Near the end of a quota blocks shrink, so that all of it can be used.
//
// Several processes on one machine may share a file; each leases its own blocks.
//
// Its neighbours: gateway/limit, whose Store this is, for quotas only;
// gateway/limit/redis, which does the same for several machines.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

// defaultMaxKeys bounds the keys in memory.
const defaultMaxKeys = 65536

var (
	errClosed = errors.New("ledger: closed")
	// errBusy says that as many keys as memory may hold wait for the disk.
	errBusy = errors.New("ledger: too many keys wait for the disk")
)

// Options configure Open.
type Options struct {
	// File is the SQLite file. It and its directory are made where they are
	// missing.
	File string
	// MaxKeys bounds the keys in memory; 0 means 65536. A key that has to go is
	// read from the file again when it is next asked for.
	MaxKeys int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log gets a line when the file cannot be written, once a minute, and one when
	// it can again; nil means slog.Default().
	Log *slog.Logger
	// Metrics, when not nil, gets sluice_quota_keys, sluice_quota_errors_total and
	// sluice_quota_commit_seconds.
	Metrics prometheus.Registerer
}

// Ledger is a limit.Store for quotas. It is safe for concurrent use.
type Ledger struct {
	now    func() time.Time
	table  table
	writer *writer
	store  *store

	stop    context.CancelFunc
	running sync.WaitGroup
	once    sync.Once
	err     error // of Close
}

// Open opens the file, which must be a ledger or empty. Close the ledger.
func Open(ctx context.Context, o Options) (*Ledger, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MaxKeys <= 0 {
		o.MaxKeys = defaultMaxKeys
	}
	st, err := openStore(ctx, o.File)
	if err != nil {
		return nil, err
	}
	l := &Ledger{now: o.Now, store: st}
	m, err := newMetrics(o.Metrics, &l.table)
	if err != nil {
		return nil, errors.Join(err, st.close())
	}
	l.writer = newWriter(st, &l.table, o.Now, o.Log, m)
	l.table.init(o.MaxKeys, l.writer.giveBack)
	background, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.running.Go(l.writer.run)
	l.running.Go(func() { l.maintain(background) })
	return l, nil
}

// Take implements limit.Store for quotas: an ask for a rate is an error. It waits
// for the disk only when a lease is used up, and no longer than ctx lasts.
func (l *Ledger) Take(ctx context.Context, asks []limit.Ask, answers []limit.Answer) (bool, error) {
	if len(asks) != len(answers) {
		return false, fmt.Errorf("ledger: %d asks, %d answers", len(asks), len(answers))
	}
	for i := range asks {
		if err := valid(&asks[i]); err != nil {
			return false, err
		}
	}
	var space [usual]*flight
	for {
		result, flights, err := l.table.take(l.now(), asks, answers, space[:0])
		if err != nil {
			return false, err
		}
		l.writer.enqueue(flights)
		if result != refill {
			return result == admitted, nil
		}
		for _, f := range flights {
			if err := f.wait(ctx); err != nil {
				return false, err
			}
		}
	}
}

func valid(a *limit.Ask) error {
	switch {
	case a.Period != limit.Day && a.Period != limit.Month:
		return fmt.Errorf("ledger: %s is no quota", a.Key.Limit)
	case a.Cost < 1 || a.Size < 0:
		return fmt.Errorf("ledger: %s: cost %d of %d", a.Key.Limit, a.Cost, a.Size)
	}
	return nil
}

// Close gives all leases back and closes the file. Calls that come later fail.
func (l *Ledger) Close() error {
	l.once.Do(func() {
		l.stop()
		l.table.close()
		l.writer.close()
		l.running.Wait()
		l.err = l.store.close()
	})
	return l.err
}

const (
	// sweepEvery is how often idle keys are looked for; idleAfter is how long a key
	// rests before its lease is given back.
	sweepEvery = 10 * time.Second
	idleAfter  = 30 * time.Second
	// keepPast is how long rows outlive their period: a clock that is set back by
	// less must find its counts again.
	keepPast = 48 * time.Hour
	// deleteEvery is how often rows of past periods are deleted.
	deleteEvery = 10 * time.Minute
)

// maintain drops idle keys from memory and rows of past periods from the file.
func (l *Ledger) maintain(ctx context.Context) {
	sweep, purge := time.NewTicker(sweepEvery), time.NewTicker(deleteEvery)
	defer sweep.Stop()
	defer purge.Stop()
	l.purge(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			l.table.sweep(l.now().Add(-idleAfter))
		case <-purge.C:
			l.purge(ctx)
		}
	}
}

func (l *Ledger) purge(ctx context.Context) {
	if err := l.store.purge(ctx, l.now().Add(-keepPast)); err != nil && ctx.Err() == nil {
		l.writer.failed(err)
	}
}
