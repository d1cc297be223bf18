package proxy

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// watch ends an exchange: before the answer's header at its deadline; behind it after
// too long a silence; in any case at its greatest age, and when the caller's credential
// ends or is taken away. It has one timer, which traffic does not touch: when it fires it looks when something last passed. The
// deadline begins anew with each part of the request's body, which has a time of its
// own (gateway/httpedge).
type watch struct {
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	header  atomic.Int64  // from when the request was sent to the answer's header, in ns; 0 is unbounded
	idle    time.Duration // 0 is unbounded
	expires time.Time     // zero is never
	why     error         // what is said when it has come
	streams atomic.Bool
	last    atomic.Int64 // when something passed, in Unix nanoseconds
	ended   atomic.Bool
	of      *Request // whose credential is watched; nil for what many share
	long    time.Time
	watched atomic.Bool // the credential is, or has been
	unwatch atomic.Pointer[func()]
}

// longAfter is when an exchange has taken longer than most do: only then is its
// credential watched, which the others need not pay for.
const longAfter = time.Second

// begin watches. Who is asked by somebody with a credential, ends with it; everyone
// ends at age, where that is not 0. The credential of the request that the exchange is
// of, where it is one's, is also watched for being taken away.
func (w *watch) begin(cancel context.CancelCauseFunc, header, idle, age time.Duration, expires time.Time, of *Request) {
	w.cancel, w.idle, w.expires, w.why = cancel, idle, expires, errExpired
	if end := time.Now().Add(age); age > 0 && (expires.IsZero() || end.Before(expires)) {
		w.expires, w.why = end, errMaxAge
	}
	w.header.Store(int64(header))
	w.touch()
	now := time.Now()
	w.of, w.long = of, now.Add(longAfter)
	// A function of its own timer must see it: so it is made stopped.
	w.timer = time.AfterFunc(time.Hour, w.look)
	w.timer.Reset(w.due(now))
}

// due is how long until something is to be looked at.
func (w *watch) due(now time.Time) time.Duration {
	next := time.Hour
	if !w.expires.IsZero() {
		next = min(next, w.expires.Sub(now))
	}
	if w.mayWatch() {
		next = min(next, w.long.Sub(now))
	}
	if left, bounded := w.left(now); bounded {
		next = min(next, left)
	}
	return max(next, time.Millisecond)
}

// left is how long silence may still last.
func (w *watch) left(now time.Time) (_ time.Duration, bounded bool) {
	most := time.Duration(w.header.Load())
	if w.streams.Load() {
		most = w.idle
	}
	return time.Unix(0, w.last.Load()).Add(most).Sub(now), most > 0
}

func (w *watch) look() {
	now := time.Now()
	w.watchCredential(now)
	left, bounded := w.left(now)
	switch {
	case w.ended.Load():
	case !w.expires.IsZero() && !now.Before(w.expires):
		w.cancel(w.why)
	case !bounded || left > 0:
		w.timer.Reset(w.due(now))
		if w.ended.Load() { // In between: nothing must keep the exchange until an hour from now.
			w.timer.Stop()
		}
	case w.streams.Load():
		w.cancel(errIdle)
	default:
		w.cancel(errHeaderLate)
	}
}

// watchCredential begins once, when the exchange is long. What ended meanwhile is not
// watched any more afterwards.
func (w *watch) watchCredential(now time.Time) {
	if !w.mayWatch() || now.Before(w.long) || w.ended.Load() || !w.watched.CompareAndSwap(false, true) {
		return
	}
	stop := w.of.p.o.Watch(w.of.call, func(why error) { w.cancel(why) })
	w.unwatch.Store(&stop)
	if w.ended.Load() {
		w.stopWatching()
	}
}

// mayWatch says whether there is a credential that is not watched yet.
func (w *watch) mayWatch() bool {
	return w.of != nil && w.of.p.o.Watch != nil && w.of.call.Shown.Principal != nil && !w.watched.Load()
}

func (w *watch) stopWatching() {
	if stop := w.unwatch.Swap(nil); stop != nil {
		(*stop)()
	}
}

// answered: the header is there, from here on silence counts.
func (w *watch) answered() {
	w.touch()
	w.streams.Store(true)
	w.timer.Reset(w.due(time.Now()))
}

// within begins the time of the answer's header.
func (w *watch) within(d time.Duration) {
	w.touch()
	w.header.Store(int64(d))
	w.timer.Reset(w.due(time.Now()))
}

func (w *watch) touch() { w.last.Store(time.Now().UnixNano()) }

func (w *watch) end() {
	w.ended.Store(true)
	w.timer.Stop()
	w.stopWatching()
}

// watched is an answer's body, whose parts are noted.
type watched struct {
	io.ReadCloser
	w *watch
}

func (b watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.touch()
	return n, err
}

// tunnel is the service's side of a WebSocket: traffic either way is noted.
type tunnel struct {
	io.ReadWriteCloser
	w *watch
}

// errHungUp ends a WebSocket whose service has hung up. The reverse proxy takes io.EOF
// for the end of one half: it would wait for the caller, for whom nothing can end it.
var errHungUp = errors.New("the service has hung up")

func (t tunnel) Read(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(p)
	t.w.touch()
	if errors.Is(err, io.EOF) {
		err = errHungUp
	}
	return n, err
}

func (t tunnel) Write(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Write(p)
	t.w.touch()
	return n, err
}
