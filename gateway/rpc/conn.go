package rpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/sluice-gateway/sluice/gateway/frames"
)

// conn is a connection that knows which of its streams have not ended, by the
// frames that pass. grpc-go does not say: to it a call is over when its handler
// returns, and then it keeps the answer, in memory, until the caller takes it.
type conn struct {
	net.Conn
	in      *bufio.Reader // grpc-go has none of its own: a tap must find the stream read last
	limit   time.Duration
	refused func(string)

	began time.Time // of its clock

	guard *frames.Guard

	mu      sync.Mutex
	streams map[uint32]*lease // that have not ended
	newest  uint32            // stream whose HEADERS passed last
	timer   *time.Timer       // runs while there may be streams with a time to end
	wakes   time.Time         // when it does
	say     []byte            // frames that grpc-go is to read next
	woken   bool              // reading has been interrupted for them
	closed  bool
}

// wrap makes the connections of a server such ones, after their handshake.
type wrap struct {
	credentials.TransportCredentials // nil means plaintext

	limit   time.Duration
	patient time.Duration // how long a frame may take that has begun
	refused func(string)
}

func (w wrap) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var info credentials.AuthInfo
	if w.TransportCredentials != nil {
		var err error
		if raw, info, err = w.TransportCredentials.ServerHandshake(raw); err != nil {
			return nil, nil, err
		}
	}
	c := &conn{Conn: raw, in: bufio.NewReaderSize(raw, 32<<10), limit: w.limit, refused: w.refused, began: time.Now(), streams: map[uint32]*lease{}}
	c.guard = frames.NewGuard(frames.Options{Timeout: w.patient, Refused: w.refused, Close: func() { _ = c.Close() }})
	return c, info, nil
}

func (w wrap) Info() credentials.ProtocolInfo {
	if w.TransportCredentials != nil {
		return w.TransportCredentials.Info()
	}
	return credentials.ProtocolInfo{SecurityProtocol: "insecure"}
}

func (w wrap) Clone() credentials.TransportCredentials {
	if w.TransportCredentials != nil {
		w.TransportCredentials = w.TransportCredentials.Clone()
	}
	return w
}

// local is a connection's own address, which leads back to it: grpc-go gives
// calls nothing else of it.
type local struct {
	net.Addr
	conn *conn
}

func (c *conn) LocalAddr() net.Addr { return local{c.Conn.LocalAddr(), c} }

// connOf is the connection that a call came by.
func connOf(ctx context.Context) *conn {
	if p, ok := peer.FromContext(ctx); ok {
		if l, ok := p.LocalAddr.(local); ok {
			return l.conn
		}
	}
	return nil
}

// Read is for grpc-go's reading goroutine.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if n := c.said(p); n > 0 {
			return n, nil
		}
		n, err := c.in.Read(p)
		if e := c.guard.Read(p[:n], c.hasRead); e != nil {
			c.guard.End(c.Conn)
			return 0, e
		}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.interrupted() {
			continue
		}
		return n, err
	}
}

// said gives grpc-go a frame of ours, between two of the caller's.
func (c *conn) said(p []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.say) == 0 || !c.guard.Between() {
		return 0
	}
	n := copy(p, c.say)
	c.say = c.say[n:] // The rest is read next: the guard does not see it, so that Between stays true.
	return n
}

// interrupted says whether reading was, by us, and lets it go on.
func (c *conn) interrupted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.woken {
		return false
	}
	c.woken = false
	return c.SetReadDeadline(time.Time{}) == nil
}

// Write is for grpc-go's writing goroutine.
func (c *conn) Write(p []byte) (int, error) {
	return c.guard.Write(c.Conn, p, c.hasWritten)
}

func (c *conn) hasRead(f frames.Frame) {
	switch f.Type { //nolint:exhaustive // The others neither begin nor end a stream.
	case http2.FrameHeaders:
		c.mu.Lock()
		c.newest = f.Stream
		c.mu.Unlock()
	case http2.FrameRSTStream:
		c.end(f.Stream)
	}
}

func (c *conn) hasWritten(f frames.Frame) {
	if f.Type == http2.FrameRSTStream || (f.Type == http2.FrameHeaders || f.Type == http2.FrameData) && f.Flags.Has(http2.FlagDataEndStream) {
		c.end(f.Stream)
	}
}

func (c *conn) end(stream uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, stream)
}

// begin notes the call whose HEADERS grpc-go has just read, and how long it may
// take to send a message.
func (c *conn) begin(l *lease, patience time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := time.Now().Add(patience)
	l.stream = c.newest
	l.until.Store(int64(until.Sub(c.began)))
	c.streams[l.stream] = l
	c.wake(until)
}

// late says when a call that has begun ends.
func (c *conn) late(l *lease, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.until.Store(int64(until.Sub(c.began)))
	c.wake(until)
}

// over says that a call's handler returns: from now on its stream has so much
// time to end.
func (c *conn) over(l *lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.streams[l.stream] != l {
		return
	}
	l.due = time.Now().Add(c.limit)
	c.wake(l.due)
}

// wake makes the timer run out no later than then.
func (c *conn) wake(then time.Time) {
	switch {
	case c.closed:
	case c.timer == nil:
		c.wakes = then
		c.timer = time.AfterFunc(time.Until(then), c.expire)
	case then.Before(c.wakes):
		c.wakes = then
		c.timer.Reset(time.Until(then))
	}
}

// expire ends the calls and the streams whose time is over.
func (c *conn) expire() {
	for _, end := range c.expired(time.Now()) {
		end()
	}
}

// expired returns how to end the calls that are late, and resets the streams that
// are. Only what is read makes grpc-go give up the answer of a call that is over: a
// window that grows by nothing is an error of one stream (RFC 9113, 6.9), and
// resets it for both sides.
func (c *conn) expired(now time.Time) (late []context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || now.Before(c.wakes) { // It was set anew while it ran out.
		return nil
	}
	c.timer = nil
	for id, l := range c.streams {
		until := l.until.Load()
		if until != 0 && until <= int64(now.Sub(c.began)) {
			if l.until.CompareAndSwap(until, 0) {
				l.over.Store(true)
				late = append(late, l.end)
			}
			until = 0
		}
		if !l.due.IsZero() && !l.due.After(now) {
			delete(c.streams, id)
			c.say = append(c.say, 0, 0, 4, byte(http2.FrameWindowUpdate), 0)
			c.say = binary.BigEndian.AppendUint32(c.say, id)
			c.say = append(c.say, 0, 0, 0, 0)
			c.refused(limitSlowReader)
			continue
		}
		if until != 0 {
			c.wake(c.began.Add(time.Duration(until)))
		}
		if !l.due.IsZero() {
			c.wake(l.due)
		}
	}
	if len(c.say) > 0 {
		c.woken = c.SetReadDeadline(time.Unix(1, 0)) == nil
	}
	return late
}

func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	clear(c.streams)
	c.mu.Unlock()
	c.guard.Stop()
	return c.Conn.Close()
}
