package httpedge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// departure notices a caller who goes away while its body, or a part of it, is unread.
// net/http reads on by itself, and so sees the end of the connection, only behind the
// end of the body: a call that takes no body, or whose service takes its time before it
// reads one, would run on to its deadline for nobody. Over HTTP/2 the end of a stream is
// a frame, which net/http sees whatever is unread.
//
// A nil departure watches nothing.
type departure struct {
	conn  interface{ Gone() bool }
	leave context.CancelCauseFunc

	mu        sync.Mutex
	timer     *time.Timer // nil once nobody watches
	discarded bool        // the body has been read and thrown away
	bounded   bool        // the rest of the body has a deadline
	over      bool        // the connection may be the next request's

	// discarding is closed when nobody reads the body beside the call any more; nil where
	// nobody has begun to. It belongs to the goroutine of the request.
	discarding chan struct{}
}

// departureCheck is how soon a caller who goes away is noticed. A check costs a system
// call, for requests alone whose body is unread for so long.
const departureCheck = 200 * time.Millisecond

// WatchDeparture has leave called when the caller goes away, until the watch is stopped.
func (x *Exchange) WatchDeparture(leave context.CancelCauseFunc) {
	if x.Request.ProtoMajor != 1 || x.Request.ContentLength == 0 {
		return
	}
	d := &departure{leave: leave}
	x.departure = d
	d.conn, _ = x.Request.Context().Value(corkKey{}).(interface{ Gone() bool })
	if d.conn == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = time.AfterFunc(departureCheck, d.look)
}

func (d *departure) look() {
	gone := d.conn.Gone()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.timer == nil:
	case gone:
		d.timer = nil
		d.leave(nil)
	default:
		d.timer.Reset(departureCheck)
	}
}

// stop ends the watch: the body has been read to its end, or the exchange is over.
func (d *departure) stop() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// end is the end of the exchange. Where the body is still being discarded, and has a
// deadline, it waits for that, half a second at most: net/http ends a read that is under way
// when a handler returns, and takes the deadline away with it, so that a caller who sends no
// more would hold the connection.
func (d *departure) end() {
	if d == nil {
		return
	}
	d.stop()
	d.mu.Lock()
	wait := d.bounded && d.discarding != nil
	d.mu.Unlock()
	if wait {
		<-d.discarding
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}

// DiscardBody reads a body that nobody takes, beside the call: what does not fit into the
// kernel would hide the end of the connection. Where the caller waits to be asked for it
// (RFC 9110, 10.1.1), there is nothing to read.
func (x *Exchange) DiscardBody(most int64) {
	d := x.departure
	if d == nil || x.Request.Header["Expect"] != nil {
		return
	}
	rc := http.NewResponseController(x.w)
	_ = rc.SetReadDeadline(time.Time{}) // net/http would take one that passes for a caller who has left.
	body := x.Request.Body
	d.discarding = make(chan struct{})
	go func() {
		defer close(d.discarding)
		if _, err := io.CopyN(io.Discard, body, most+1); !errors.Is(err, io.EOF) {
			return
		}
		d.stop() // From here on net/http watches.
		d.mu.Lock()
		defer d.mu.Unlock()
		d.discarded = true
		if d.bounded && !d.over {
			_ = rc.SetReadDeadline(time.Time{})
		}
	}()
}

// hurry gives the rest of a body a last moment, unless all of it has been read: then
// net/http waits for the end of the connection, and would take the moment's for it.
func (d *departure) hurry(rc *http.ResponseController) {
	if d == nil {
		_ = rc.SetReadDeadline(time.Now().Add(hurry))
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.discarded {
		return
	}
	// A writer of a team's middleware may not pass it on: then nobody waits for the rest.
	d.bounded = rc.SetReadDeadline(time.Now().Add(hurry)) == nil
}
