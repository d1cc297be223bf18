package listen

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A connection of HTTP/1 that waits for its next request has no way to say that
// none will be answered any more: when its server closes it, a request may be on
// its way, and is lost (RFC 9112, 9.5). So the server says it with its last
// answer (Connection: close), gives those that rest a time to ask once more, and
// then closes only what has been silent for all of it.
//
// HTTP/2 has GOAWAY for this: its connections are not touched here.

// States of rest.since other than a time, in nanoseconds of Unix.
const (
	busy    = 0 // also: it has never been at rest
	resting = 1 // since when has not been noted
	retired = 2 // told to end, see conn.retire
	asking  = 3 // it has sent something, and the server does not know of a request yet
)

// graceToRead is how long the rest of a request may take to come that was noticed
// in the last moment.
const graceToRead = 5 * time.Second

// rest is what is known of a connection between its requests.
type rest struct {
	since atomic.Int64
	http2 atomic.Bool // it has begun with HTTP/2's preface
	mu    sync.Mutex  // held while the deadline for retiring is set
}

// State is for http.Server.ConnState: it notes which connections are at rest.
func State(c net.Conn, s http.ConnState) {
	h, ok := c.(*httpConn)
	if !ok {
		return
	}
	rest := &h.inner.rest
	switch s { //nolint:exhaustive // What is read tells the rest.
	case http.StateNew:
		if h.tls == nil { // Clients keep connections in stock that they have not used yet.
			rest.since.Store(resting)
		}
	case http.StateActive:
		rest.since.Store(busy)
	case http.StateIdle:
		rest.since.Store(resting)
	case http.StateHijacked: // A WebSocket has no heads.
		h.heads.doubt.Store(true)
	}
}

// CloseIdle ends the connections of HTTP/1 that have been at rest for so long,
// counted from when a call of CloseIdle has first seen them there, and returns how
// many do still, or have just begun to ask. A request that has arrived before is served, and is the last.
func (l *Listener) CloseIdle(after time.Duration) (left int) {
	now := time.Now()
	for _, c := range l.all() {
		since := c.rest.since.Load()
		switch {
		case since == busy, since == retired, c.rest.http2.Load():
			continue
		case since == asking: // To the server it is at rest still, and would be closed.
			left++
		case since == resting:
			left++
			c.rest.since.CompareAndSwap(resting, now.UnixNano())
		case now.Sub(time.Unix(0, since)) >= after:
			c.retire(since)
		default:
			left++
		}
	}
	return left
}

// retire wakes the one who waits for a request, unless one has come.
func (c *conn) retire(since int64) {
	c.rest.mu.Lock()
	defer c.rest.mu.Unlock()
	if c.rest.since.CompareAndSwap(since, retired) {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
}

// Read reads, and notes that the connection is not at rest.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 0 && err != nil && c.rest.since.Load() == retired && errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = c.lastLook(p, err)
	}
	if n <= 0 {
		return n, err
	}
	if since := c.rest.since.Load(); since != busy && since != asking && c.rest.since.Swap(asking) == retired {
		c.rest.mu.Lock() // The deadline has been set.
		defer c.rest.mu.Unlock()
		_ = c.SetReadDeadline(time.Now().Add(graceToRead)) // The server sets its own next.
	}
	return n, err
}
