package listen

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// counter counts connections, exactly: what is taken is given back once. No
// I/O happens under its lock.
type counter struct {
	max, maxEach int // less than 0: no bound

	mu   sync.Mutex
	all  int
	each map[netip.Addr]int // only those with connections
	open map[*conn]struct{}
}

func (c *counter) take(open *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.max >= 0 && c.all >= c.max {
		return false
	}
	c.all++
	c.open[open] = struct{}{}
	return true
}

func (c *counter) takeOf(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.maxEach >= 0 && c.each[a] >= c.maxEach {
		return false
	}
	c.each[a]++
	return true
}

// give gives a connection back; of is whose it was, invalid when it was counted
// as nobody's.
func (c *counter) give(closed *conn, of netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	delete(c.open, closed)
	if !of.IsValid() {
		return
	}
	if c.each[of]--; c.each[of] <= 0 {
		delete(c.each, of)
	}
}

// whose is whom an address counts as: a network of one customer has a whole
// /64 of IPv6 (RFC 6177).
func whose(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// conn is a connection that is counted until it is closed.
type conn struct {
	net.Conn
	l      *Listener
	peer   net.Addr   // the client's, where a proxy has said so
	of     netip.Addr // whose connection it is counted as
	closed sync.Once
	cork   cork
	rest   rest
}

// RemoteAddr is the client's address: never waits, whatever the protocol.
func (c *conn) RemoteAddr() net.Addr { return c.peer }

// Close closes the connection, and counts it no more.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.closed.Do(func() { c.l.count.give(c, c.of) })
	return err
}

// CloseWrite sends the end of what is written, and goes on reading. net/http
// asks for it by this name when it refuses a request that it has not read: a
// Close at once would make the kernel reset the connection, and the caller may
// never see the answer.
func (c *conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	if err := c.Uncork(); err != nil {
		return err
	}
	return half.CloseWrite()
}

// SetLinger implements what *net.TCPConn has: with 0, Close resets the connection. A
// socket that cannot be reset says so.
func (c *conn) SetLinger(seconds int) error {
	l, ok := c.Conn.(interface{ SetLinger(int) error })
	if !ok {
		return errors.ErrUnsupported
	}
	return l.SetLinger(seconds)
}

// countPeer counts the connection as its client's, or closes it: it is one too
// many.
func (c *conn) countPeer() bool {
	a := whose(addrOf(c.peer))
	if !a.IsValid() { // Not TCP: only the bound on all holds.
		return true
	}
	if !c.l.count.takeOf(a) {
		c.l.o.Refused(LimitConnectionsPerAddress)
		_ = c.Close()
		return false
	}
	c.of = a
	return true
}

// readHeader takes the PROXY header off the connection, or closes it.
func (c *conn) readHeader() bool {
	stop := context.AfterFunc(c.l.end, func() { _ = c.Conn.Close() })
	defer stop()
	err := c.SetReadDeadline(time.Now().Add(c.l.o.HeaderTimeout))
	if err == nil {
		var client net.Addr
		if client, err = readProxyHeader(c.Conn); err == nil {
			if client != nil {
				c.peer = client
			}
			err = c.SetReadDeadline(time.Time{})
		}
	}
	if err != nil {
		c.l.o.Refused(LimitProxyHeader)
		c.l.o.Log.Debug("no PROXY header from a trusted proxy", "peer", c.Conn.RemoteAddr().String(), "error", err)
		_ = c.Close()
		return false
	}
	return true
}
