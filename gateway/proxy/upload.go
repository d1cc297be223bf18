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
	begun   atomic.Bool  // the backend was reached: it is being sent
	waiting atomic.Bool  // for the caller
	whole   atomic.Int64 // when all of it had come, in Unix nanoseconds; 0 is not yet
	done    atomic.Bool  // the outcome has been told
}

// uploadHold is how long a request whose caller is waited for holds its place among those
// of a service: upstream's firstAnswer. Otherwise callers who send slowly could take all.
// Where the backend is waited for, because it is not reached or does not read, the place
// and the outcome are the backend's.
const uploadHold = 2 * time.Second

func (u *upload) Read(p []byte) (int, error) {
	u.begun.Store(true)
	u.waiting.Store(true)
	n, err := u.ReadCloser.Read(p)
	u.w.touch()
	if errors.Is(err, io.EOF) {
		u.whole.CompareAndSwap(0, time.Now().UnixNano())
	}
	if err == nil || u.whole.Load() != 0 { // A caller that failed is waited for ever.
		u.waiting.Store(false)
	}
	return n, err
}

// hold returns what tells the outcome of the attempt that has the permit.
func (u *upload) hold(permit resilience.Permit) (done func(resilience.Outcome)) {
	if u == nil {
		return permit.Done
	}
	start := time.Now()
	var t *time.Timer
	t = time.AfterFunc(time.Hour, func() {
		switch {
		case u.done.Load() || u.whole.Load() != 0:
		case !u.begun.Load() || !u.waiting.Load():
			t.Reset(uploadHold)
		case u.done.CompareAndSwap(false, true):
			permit.Done(resilience.Ignored)
		}
	})
	t.Reset(uploadHold) // Not before t is set, which the function reads.
	return func(o resilience.Outcome) {
		told := !u.done.CompareAndSwap(false, true)
		t.Stop()
		if told {
			return
		}
		if at := u.whole.Load(); at != 0 {
			permit = permit.Later(time.Unix(0, at).Sub(start))
		} else {
			permit = permit.Untimed()
		}
		permit.Done(o)
	}
}

// cut says that an attempt failed while the body was being sent; late, that it was out of
// time. Which side broke it off nobody can tell: services refuse what is too large so.
func (u *upload) cut(late bool) bool {
	return u != nil && u.begun.Load() && u.whole.Load() == 0 && (!late || u.waiting.Load())
}
