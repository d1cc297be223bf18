package listen

import (
	"net"
	"time"
)

// lastCall is how long Halt goes on accepting: the kernel resets connections that
// it has made and nobody has accepted when their socket is closed, and their
// clients may have sent a request already.
const lastCall = 10 * time.Millisecond

// Halt closes the socket: whoever connects from now on is refused, or comes to
// another process that has the socket, too. Connections that the kernel has made
// before are still given out. Accept does not fail: it waits for Close, so that
// those who serve do not take it for the end, and what has still to say its PROXY
// header may do so.
func (l *Listener) Halt() {
	l.halt.Do(func() {
		l.halting.Store(true)
		d, ok := l.inner.(interface{ SetDeadline(time.Time) error })
		if ok && d.SetDeadline(time.Now().Add(lastCall)) == nil {
			select {
			case <-l.halted:
				return
			case <-l.end.Done():
			case <-time.After(10 * lastCall): // Nobody accepts.
			}
		}
		_ = l.inner.Close()
	})
}

// afterHalt is what Accept does when nothing more comes.
func (l *Listener) afterHalt() error {
	_ = l.inner.Close()
	select {
	case <-l.halted: // Two may accept at once.
	default:
		close(l.halted)
	}
	<-l.end.Done()
	return net.ErrClosed
}

// Open is how many connections there are, those included that were taken over
// from the server (WebSockets).
func (l *Listener) Open() int {
	l.count.mu.Lock()
	defer l.count.mu.Unlock()
	return l.count.all
}

// CloseAll closes all connections at once, whatever they do.
func (l *Listener) CloseAll() {
	for _, c := range l.all() {
		_ = c.Close()
	}
}

func (l *Listener) all() []*conn {
	l.count.mu.Lock()
	defer l.count.mu.Unlock()
	out := make([]*conn, 0, len(l.count.open))
	for c := range l.count.open {
		out = append(out, c)
	}
	return out
}
