package proxy

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// upload is a request's body that passes on as its caller sends it. Its pace, and whether
// it ever ends, are the caller's: so it says how much of an attempt was the service's. It
// is of one attempt: such a body cannot be sent again.
type upload struct {
	io.ReadCloser
	w       *watch
	begun   atomic.Bool // the backend was reached: it is being sent
	waiting atomic.Bool // for the caller
	whole   atomic.Bool // all of it has come
	over    atomic.Bool // the attempt has ended
	place   *resilience.Place
}

// uploadHold is how long a request whose caller is waited for may be a breaker's probe:
// upstream's firstAnswer. Otherwise callers who send slowly could take all. Where the
// backend is waited for, because it is not reached or does not read, the outcome is the
// backend's.
const uploadHold = 2 * time.Second

func (u *upload) Read(p []byte) (int, error) {
	u.begun.Store(true)
	u.waiting.Store(true)
	n, err := u.ReadCloser.Read(p)
	u.w.touch()
	if errors.Is(err, io.EOF) {
		u.whole.Store(true)
		if u.place != nil {
			u.place.Return()
		}
	}
	if err == nil || u.whole.Load() { // A caller that failed is waited for ever.
		u.waiting.Store(false)
	}
	return n, err
}

// hold returns what tells the outcome of the attempt that has the permit.
func (u *upload) hold(permit resilience.Permit) (done func(resilience.Outcome)) {
	if u == nil {
		return permit.Done
	}
	u.place = permit.Place()
	if !u.whole.Load() {
		u.place.Leave()
	}
	var t *time.Timer
	t = time.AfterFunc(time.Hour, func() {
		switch {
		case u.whole.Load() || u.over.Load():
		case !u.begun.Load() || !u.waiting.Load():
			t.Reset(uploadHold)
		default:
			u.place.Done(resilience.Ignored)
		}
	})
	t.Reset(uploadHold) // Not before t is set, which the function reads.
	u.over.Store(false)
	return func(o resilience.Outcome) {
		u.over.Store(true)
		t.Stop()
		u.place.Done(o)
	}
}

// cut says that an attempt failed while the body was being sent; late, that it was out of
// time. Which side broke it off nobody can tell: services refuse what is too large so.
func (u *upload) cut(late bool) bool {
	return u != nil && u.begun.Load() && !u.whole.Load() && (!late || u.waiting.Load())
}
