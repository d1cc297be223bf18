package ledger

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxBatch is how many keys share a transaction, and so a write to the disk.
	maxBatch = 256
	// commitTimeout bounds a transaction.
	commitTimeout = 10 * time.Second
	// restAfter is how long the file is left alone after a failure: refills fail at
	// once meanwhile.
	restAfter = 100 * time.Millisecond
	// logEvery is how often a failure that lasts is logged.
	logEvery = time.Minute
)

// writer carries flights and returns to the file, one transaction after the
// other. Its queue is bounded by the keys in memory: each has one flight at most,
// and gives back only what a flight has brought.
type writer struct {
	store *store
	table *table
	now   func() time.Time
	log   *slog.Logger
	errs  prometheus.Counter
	took  prometheus.Histogram

	mu      sync.Mutex
	flights []*flight
	returns []ret
	closing bool
	wake    chan struct{} // of size 1

	logMu  sync.Mutex
	broken bool
	logged time.Time

	// Of the writer's goroutine.
	rest  time.Time
	cause error
}

func newWriter(st *store, t *table, now func() time.Time, log *slog.Logger, m metrics) *writer {
	return &writer{store: st, table: t, now: now, log: log, errs: m.errs, took: m.took, wake: make(chan struct{}, 1)}
}

// enqueue sends the flights that nobody else has sent.
func (w *writer) enqueue(flights []*flight) {
	if len(flights) == 0 {
		return
	}
	w.mu.Lock()
	for _, f := range flights {
		if !f.queued {
			f.queued = true
			w.flights = append(w.flights, f)
		}
	}
	w.mu.Unlock()
	w.signal()
}

func (w *writer) giveBack(r ret) {
	w.mu.Lock()
	w.returns = append(w.returns, r)
	w.mu.Unlock()
	w.signal()
}

// close lets run end when the queue is empty.
func (w *writer) close() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.signal()
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) run() {
	for range w.wake {
		for {
			flights, returns, closing := w.batch()
			if len(flights)+len(returns) > 0 {
				w.carry(flights, returns)
				continue
			}
			if closing {
				return
			}
			break
		}
	}
}

// batch takes what is next off the queue. Returns go first: others may wait for
// what they free.
func (w *writer) batch() (flights []*flight, returns []ret, closing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	returns, w.returns = cut(w.returns, maxBatch)
	flights, w.flights = cut(w.flights, maxBatch-len(returns))
	return flights, returns, w.closing
}

func cut[T any](queue []T, n int) (head, tail []T) {
	if n = min(n, len(queue)); n == len(queue) {
		return queue, nil
	}
	return queue[:n:n], queue[n:]
}

// carry does one transaction. What failed is not tried again: a commit whose
// outcome is unknown may have happened, and giving a lease back twice would admit
// more than the quota.
func (w *writer) carry(flights []*flight, returns []ret) {
	grants, err := make([]granted, len(flights)), w.cause
	if start := time.Now(); err == nil || !start.Before(w.rest) {
		for i, f := range flights {
			want, lease := w.table.depart(f)
			grants[i] = granted{flight: f, want: want, lease: lease}
		}
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		err = w.store.lease(ctx, grants, returns)
		cancel()
		w.took.Observe(time.Since(start).Seconds())
		w.cause, w.rest = err, time.Now().Add(restAfter)
		if err != nil {
			w.failed(err)
		} else {
			w.worked()
		}
	}
	now := w.now()
	for i, f := range flights {
		w.table.land(f, now, grants[i].tokens, grants[i].row, err)
	}
}

// failed logs, once a minute while it lasts, that the file cannot be written.
func (w *writer) failed(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	w.errs.Inc()
	w.logMu.Lock()
	defer w.logMu.Unlock()
	if w.broken && time.Since(w.logged) < logEvery {
		return
	}
	w.broken, w.logged = true, time.Now()
	w.log.Error("the ledger of quotas cannot be written: calls that need it are refused", "err", err)
}

func (w *writer) worked() {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	if w.broken {
		w.broken = false
		w.log.Info("the ledger of quotas can be written again")
	}
}
