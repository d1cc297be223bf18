// Package load drives a server and times its answers: callers that cost little
// themselves, in a closed loop (as fast as answers come) or an open one (at a
// constant rate, whatever the answers do).
package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Caller sends one request at a time over a connection.
type Caller interface {
	// Call sends request n of the load and waits for its answer.
	Call(ctx context.Context, n int) error
	// Interrupt makes a call in flight fail. Safe beside Call.
	Interrupt()
	// Close ends the connection, after the last call.
	Close() error
}

// Bounds of a closed loop: it ends at the first of them.
type Bounds struct {
	Requests int
	For      time.Duration
}

// patience is how long after its end a loop waits for answers.
const patience = 30 * time.Second

// crew is callers at work: the first failure ends all of them.
type crew struct {
	ctx     context.Context //nolint:containedctx // lives as long as one loop
	fail    context.CancelCauseFunc
	workers sync.WaitGroup
	finish  []func() bool
}

func newCrew(ctx context.Context, callers []Caller, limit time.Duration) *crew {
	ctx, fail := context.WithCancelCause(ctx)
	c := &crew{ctx: ctx, fail: fail}
	tired := time.AfterFunc(limit+patience, func() { fail(errors.New("no answer")) })
	c.finish = append(c.finish, tired.Stop)
	for _, one := range callers {
		c.finish = append(c.finish, context.AfterFunc(ctx, one.Interrupt))
	}
	return c
}

// wait ends the work and says what went wrong first.
func (c *crew) wait() error {
	c.workers.Wait()
	for _, stop := range c.finish {
		stop()
	}
	err := context.Cause(c.ctx)
	c.fail(nil)
	return err
}

// Closed has every caller ask again as soon as it is answered. It ends at the
// first failure and answers all latencies otherwise.
func Closed(ctx context.Context, callers []Caller, b Bounds) (Run, error) {
	var (
		next  atomic.Int64
		each  = make([][]time.Duration, len(callers))
		c     = newCrew(ctx, callers, b.For)
		start = time.Now()
	)
	for i, caller := range callers {
		c.workers.Go(func() {
			for now := time.Now(); now.Sub(start) < b.For; {
				n := int(next.Add(1) - 1)
				if n >= b.Requests {
					return
				}
				if err := caller.Call(c.ctx, n); err != nil {
					c.fail(err)
					return
				}
				then := now
				now = time.Now()
				each[i] = append(each[i], now.Sub(then))
			}
		})
	}
	if err := c.wait(); err != nil {
		return Run{}, err
	}
	r := Run{Latencies: merged(each), Elapsed: time.Since(start)}
	if len(r.Latencies) == 0 {
		return r, errors.New("no request was sent: the time is too short")
	}
	return r, nil
}

// due is a request of an open loop that is to be sent.
type due struct {
	n  int
	at time.Time
}

// Open sends perSecond requests a second for so long, at even distances, from
// request first on. A latency is from when its request was due, not from when a
// connection was free to send it: a server that stalls is not asked less, and
// what waited for it is not forgotten (coordinated omission).
func Open(ctx context.Context, callers []Caller, first int, perSecond float64, d time.Duration) (Run, error) {
	total := int(perSecond * d.Seconds())
	if total < 1 {
		return Run{}, fmt.Errorf("%.1f requests a second for %v are none", perSecond, d)
	}
	// The clock's thread sleeps in the kernel; the callers keep all processors.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 1))
	var (
		c     = newCrew(ctx, callers, d)
		each  = make([][]time.Duration, len(callers))
		late  = make([]time.Duration, 0, total)
		queue = make(chan due, 1<<16)
		start = time.Now()
	)
	c.workers.Go(func() {
		defer close(queue)
		late = release(c.ctx, queue, start, first, total, perSecond, late)
	})
	for i, caller := range callers {
		c.workers.Go(func() {
			for r := range queue {
				if c.ctx.Err() != nil {
					return
				}
				if err := caller.Call(c.ctx, r.n); err != nil {
					c.fail(err)
					return
				}
				each[i] = append(each[i], time.Since(r.at))
			}
		})
	}
	if err := c.wait(); err != nil {
		return Run{}, err
	}
	return Run{Latencies: merged(each), Elapsed: time.Since(start), Late: merged([][]time.Duration{late})}, nil
}

// release puts each request into the queue when it is due, on a thread of its
// own: Go's timers on an idle process are late by up to a millisecond, more than
// many an answer takes.
func release(ctx context.Context, queue chan<- due, start time.Time, first, total int, perSecond float64, late []time.Duration) []time.Duration {
	runtime.LockOSThread() // The thread ends with the goroutine, and its timer slack too.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for n := range total {
		at := start.Add(Due(n, perSecond))
		for wait := time.Until(at); wait > 0; wait = time.Until(at) {
			nap := syscall.NsecToTimespec(min(wait, 100*time.Millisecond).Nanoseconds())
			_ = syscall.Nanosleep(&nap, nil) // A signal ends it early: then again.
			if ctx.Err() != nil {
				return late
			}
		}
		late = append(late, time.Since(at))
		select {
		case queue <- due{first + n, at}:
		case <-ctx.Done():
			return late
		}
	}
	return late
}
