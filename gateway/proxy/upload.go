package proxy

import (
	"errors"
	"io"
	"sync"
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
	once    sync.Once
}

// uploadHold is how long a request that is still being sent holds its place among those
// of a service: upstream's firstAnswer. Otherwise callers who send slowly could take all.
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
	t := time.AfterFunc(uploadHold, func() {
		if u.whole.Load() == 0 {
			u.once.Do(func() { permit.Done(resilience.Ignored) })
		}
	})
	return func(o resilience.Outcome) {
		t.Stop()
		u.once.Do(func() {
			if at := u.whole.Load(); at != 0 {
				permit = permit.Later(time.Unix(0, at).Sub(start))
			} else {
				permit = permit.Untimed()
			}
			permit.Done(o)
		})
	}
}

// cut says that an attempt failed while the body was being sent; late, that it was out of
// time. Which side broke it off nobody can tell: services refuse what is too large so.
func (u *upload) cut(late bool) bool {
	return u != nil && u.begun.Load() && u.whole.Load() == 0 && (!late || u.waiting.Load())
}
