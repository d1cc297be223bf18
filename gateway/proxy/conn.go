package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// errStray ends a connection on which a backend has sent what answers no request.
var errStray error = &net.OpError{Op: "read", Err: errors.New("bytes behind the end of an answer")}

// conn is a connection to a backend that knows whether what it reads answers a request:
// nothing does from the end of an answer until the next request is written. It stands
// below TLS, whose records count as bytes, too.
//
// A connection is idle when its exchange is over and net/http waits in Read: only then
// has net/http, and TLS, used up all that was read before, so that nothing stray can
// lie in their buffers.
type conn struct {
	net.Conn
	pool   *pool
	client *http.ClientConn
	raw    syscall.RawConn // nil where there is none
	since  time.Time       // idle, under the pool's lock

	mu      sync.Mutex
	quiet   bool // nothing is to be read: no request has been written since the last answer
	taken   bool // by a request
	reading bool
	idle    bool // the pool has it
	closed  bool
	sent    bool // anything of the current request
	read    bool // anything of its answer
	ended   bool // nothing more is to be read: an error, or what answers nothing
	records records

	// The Read under way, which is net/http's one reader's.
	into []byte
	n    int
	err  error
	once func(fd uintptr) bool // readOnce, made once
}

// begin is the connection's first moment. A backend that speaks before it is asked
// answers nobody.
func (c *conn) begin(inner net.Conn) {
	c.Conn, c.quiet, c.taken = inner, true, true
	c.openRaw()
}

// finish ends an exchange after which another may follow.
func (c *conn) finish() {
	c.mu.Lock()
	c.quiet, c.taken = true, false
	give, part := c.rests(), c.reading && !c.records.whole()
	c.mu.Unlock()
	switch {
	case give:
		c.pool.put(c)
	case part: // TLS has the beginning of what answers nothing, and waits for the rest.
		_ = c.client.Close()
	}
}

// rests says whether the pool is to have the connection now. The lock is held.
func (c *conn) rests() bool {
	if !c.quiet || c.taken || !c.reading || c.idle || c.closed || !c.records.whole() {
		return false
	}
	c.idle = true
	return true
}

// take is for a request that is about to be sent. It fails where the backend has closed
// the connection, or has sent anything.
func (c *conn) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = false
	if c.closed || !c.reading || !c.silent() {
		return false
	}
	c.taken, c.sent, c.read = true, false, false
	return true
}

// got says whether anything of the current request's answer was read. Over TLS it may have
// been an alert, so nothing is known.
func (c *conn) got() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read && c.pool.scheme != "https"
}

// Read reads what answers a request, and fails for anything else.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	c.reading = true
	if c.quiet && !c.records.whole() { // See finish.
		n, err := c.stray(slog.LevelWarn)
		c.mu.Unlock()
		return n, err
	}
	give := c.rests()
	c.mu.Unlock()
	if give {
		c.pool.put(c)
	}
	if c.raw != nil {
		return c.readRaw(p)
	}
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.arrived(p[:max(n, 0)], err)
}

// arrived judges what a read has brought. The lock has been held since before the bytes
// were taken from the kernel: a request that is written meanwhile would make them its
// answer.
func (c *conn) arrived(p []byte, err error) (int, error) {
	c.reading = false
	c.ended = c.ended || err != nil
	if len(p) > 0 && c.quiet {
		level := slog.LevelWarn
		if c.pool.scheme == "https" && c.records.whole() && oneAlert(p) {
			level = slog.LevelDebug
		}
		return c.stray(level)
	}
	if c.pool.scheme == "https" {
		c.records.follow(p)
	}
	c.read = c.read || len(p) > 0
	return len(p), err
}

// stray ends the connection. The lock is held.
func (c *conn) stray(level slog.Level) (int, error) {
	c.reading, c.ended = false, true
	c.pool.log.Log(context.Background(), level, "a backend has sent more than its answer: the connection is closed")
	return 0, errStray
}

// Write writes a request. What has come until then, or the end of the connection, would
// pass for its answer.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.taken { // TLS writes by itself, too.
		if c.quiet && (c.ended || !c.silent()) {
			c.mu.Unlock()
			return 0, errStray
		}
		c.quiet, c.sent = false, true
	}
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// Close closes the connection.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	idle := c.idle
	c.idle = false
	c.mu.Unlock()
	if idle {
		c.pool.remove(c)
	}
	return c.Conn.Close()
}
