package listen

import (
	"net"
	"sync"
	"sync/atomic"
)

const (
	// heldMost bounds what a corked connection holds, in bytes. More than that is
	// sent in parts.
	heldMost = 64 << 10
	// heldPart bounds the parts that are copied. A record of TLS is always smaller
	// (RFC 8446, 5.2: 16 KiB + 261); copying anything larger costs about what a
	// write costs.
	heldPart = 20 << 10
)

// cork holds back what is written to a connection. The zero cork holds nothing
// back.
type cork struct {
	in atomic.Bool

	// mu is held while the bytes are sent, too, so that none overtakes another: TLS
	// writes from whichever goroutine reads, when the peer wants new keys.
	mu   sync.Mutex
	held *[]byte     // of the pool; nil means none
	two  [2][]byte   // what net.Buffers needs to send two slices at once
	both net.Buffers // of two
}

// heldBytes are the buffers of corked connections.
var heldBytes = sync.Pool{New: func() any {
	b := make([]byte, 0, heldPart)
	return &b
}}

// Cork makes the connection hold back what is written, so that Uncork sends it
// in one write. net/http writes an answer as 4 KiB and the rest, TLS in records,
// which are small while a connection is young, and each would be a system call,
// and a packet, of its own. Whoever corks must uncork, also after a panic, and before waiting for the
// peer to do anything. What is held is bounded: large answers go out in parts
// meanwhile.
func (c *conn) Cork() { c.cork.in.Store(true) }

// Uncork sends what is held back, within the write deadline, and holds back
// nothing more. It fails as Write does. A connection that could not send
// everything is closed, for whatever followed would come in place of what is
// missing. Close does not wait for it, and what is held then is lost.
func (c *conn) Uncork() error {
	if !c.cork.in.Load() {
		return nil
	}
	return c.sendHeld()
}

func (c *conn) sendHeld() error {
	k := &c.cork
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.in.Store(false) // Last: until then, nobody goes past those who wait for the lock.
	if k.held == nil {
		return nil
	}
	var err error
	if len(*k.held) > 0 {
		_, err = c.send(nil)
	}
	heldBytes.Put(k.held)
	k.held = nil
	return err
}

// Write writes to the connection, or holds p back.
func (c *conn) Write(p []byte) (int, error) {
	if !c.cork.in.Load() {
		return c.Conn.Write(p)
	}
	k := &c.cork
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.in.Load() { // Since a moment ago.
		return c.Conn.Write(p)
	}
	if k.held == nil {
		k.held = heldBytes.Get().(*[]byte)
		*k.held = (*k.held)[:0]
	}
	if len(p) <= heldPart && len(*k.held)+len(p) <= heldMost {
		*k.held = append(*k.held, p...)
		return len(p), nil
	}
	return c.send(p)
}

// send writes what is held and then p, in one system call where the system can,
// and returns how much of p. The lock is held.
func (c *conn) send(p []byte) (n int, err error) {
	k := &c.cork
	held := len(*k.held)
	switch {
	case held == 0:
		n, err = c.Conn.Write(p)
	case len(p) == 0:
		_, err = c.Conn.Write(*k.held)
	default:
		k.two = [2][]byte{*k.held, p}
		k.both = k.two[:]
		var all int64
		all, err = k.both.WriteTo(c.Conn)
		n = max(0, int(all)-held)
		k.two, k.both = [2][]byte{}, nil
	}
	*k.held = (*k.held)[:0]
	if err != nil {
		_ = c.Close()
	}
	return n, err
}
