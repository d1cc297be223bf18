package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/gateway/discovery"
)

// pool is the connections to one backend that wait for their next request. It stands in
// the place of http.Transport's own, which takes a connection for free as soon as the
// answer's header says that no body follows, or its last byte is read: a service that
// sends more then would answer the next caller with it. A connection comes here only
// where conn says that nothing more can be on its way, and is looked at again before it
// is used. Safe for concurrent use.
type pool struct {
	scheme    string
	address   string // host:port, which nobody looks up: the transport dials its own backend
	transport *http.Transport
	most      int           // idle connections
	idleTime  time.Duration // after which one is closed
	log       *slog.Logger  // with the names of upstream and backend

	mu     sync.Mutex
	idle   []*conn // the one that was used last is the last
	sweep  *time.Timer
	closed bool
}

type dialKey struct{}

// dialInto dials for a pool, whose conn the context carries.
func dialInto(ctx context.Context, addr string) (net.Conn, error) {
	inner, err := discovery.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c, _ := ctx.Value(dialKey{}).(*conn)
	c.begin(inner)
	return c, nil
}

// newPool makes the pool of a transport, whose dialers end in dialInto. Connections are
// closed when they have been idle for so long.
func newPool(t *http.Transport, scheme, address string, idle time.Duration, log *slog.Logger) *pool {
	p := &pool{scheme: scheme, address: address, transport: t, most: maxIdleConns, idleTime: idle, log: log}
	if _, _, err := net.SplitHostPort(address); err != nil {
		p.address = net.JoinHostPort(address, "80")
	}
	p.sweep = time.AfterFunc(time.Hour, p.closeOld)
	p.sweep.Stop()
	return p
}

// RoundTrip implements http.RoundTripper.
func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	var body *outgoing
	if r.Body != nil && r.Body != http.NoBody {
		body = &outgoing{ReadCloser: r.Body}
		with := *r
		with.Body, r = body, &with
	}
	for fresh := false; ; {
		c, reused, err := p.get(r.Context(), fresh)
		if err != nil {
			return nil, err
		}
		res, err := c.client.RoundTrip(r)
		if err == nil {
			c.answered(r, res, body != nil && !body.done.Load())
			return res, nil
		}
		if unsendable(err) {
			c.end(true)
			return nil, err
		}
		whole, got := c.untouched(body), c.got()
		_ = c.client.Close() // Over TLS that writes.
		// A backend may close a connection while a request is on its way to it. What
		// cannot have been acted on, or may be done twice, goes over another connection:
		// in the second case a new one, or the request would be sent as often as
		// connections are idle.
		if !reused || r.Context().Err() != nil || got || !whole && !repeatable(r) {
			return nil, err
		}
		fresh = !whole
	}
}

// untouched says whether nothing of a request has left, so that it is whole still.
func (c *conn) untouched(body *outgoing) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.sent && (body == nil || !body.read.Load())
}

// repeatable says whether net/http's Transport would send a request again over another
// connection when this one ended before its answer (RFC 9110, 9.2.2).
func repeatable(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return r.Header["Idempotency-Key"] != nil
}

// answered decides what becomes of the connection behind an answer. Unsent means that
// the service has answered before the request's body was there.
func (c *conn) answered(r *http.Request, res *http.Response, unsent bool) {
	if res.StatusCode == http.StatusSwitchingProtocols { // Whoever reads the answer owns it.
		return
	}
	reuse := !unsent && mayFollow(r, res)
	if res.Body == http.NoBody {
		c.end(reuse)
		return
	}
	res.Body = &answerBody{ReadCloser: res.Body, c: c, reuse: reuse}
}

// mayFollow says whether another request may follow an exchange on its connection, once
// the answer's body, if any, is read to its end.
func mayFollow(r *http.Request, res *http.Response) bool {
	switch {
	case r.Method == http.MethodHead: // Services that send the body all the same are common.
		return false
	case r.Header["Upgrade"] != nil: // The service may speak another protocol from here on, whatever it has answered.
		return false
	case res.StatusCode == http.StatusNoContent, res.StatusCode == http.StatusNotModified:
		// A length of a body that must not come (RFC 9110, 6.4.1): it may come.
		return res.ContentLength <= 0 && len(res.TransferEncoding) == 0 && !announced(res.Header["Content-Length"])
	}
	return true
}

func announced(length []string) bool { return len(length) > 0 && length[0] != "0" }

// end is the end of an exchange: the connection is closed, or given back as soon as
// net/http waits for more on it.
func (c *conn) end(reuse bool) {
	if reuse && c.client.Available() == 1 { // Otherwise net/http closes it: it has read the request's and the answer's `Connection`.
		c.finish()
		return
	}
	_ = c.client.Close()
}

// outgoing is a request's body, which notes how far it was read.
type outgoing struct {
	io.ReadCloser
	read, done atomic.Bool
}

func (b *outgoing) Read(p []byte) (int, error) {
	b.read.Store(true)
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.done.Store(true)
	}
	return n, err
}

// answerBody ends the exchange when the answer is read to its end, or given up.
type answerBody struct {
	io.ReadCloser
	c     *conn
	reuse bool
	over  atomic.Bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.over.CompareAndSwap(false, true) {
		b.c.end(b.reuse && errors.Is(err, io.EOF))
	}
	return n, err
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	if b.over.CompareAndSwap(false, true) {
		b.c.end(false)
	}
	return err
}

// get takes an idle connection, or makes one: always, where a fresh one is asked for.
func (p *pool) get(ctx context.Context, fresh bool) (_ *conn, reused bool, err error) {
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	for {
		p.mu.Lock()
		n := len(p.idle) - 1
		if n < 0 || fresh {
			p.mu.Unlock()
			c, err := p.dial(ctx)
			return c, false, err
		}
		c := p.idle[n]
		p.idle[n], p.idle = nil, p.idle[:n]
		p.mu.Unlock()
		if c.take() {
			return c, true, nil
		}
		_ = c.client.Close()
	}
}

// dial makes a connection. One that comes too late for the request that asked is the
// next one's: attempts that are shorter than a handshake would never see one otherwise.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	type dialed struct {
		c   *conn
		err error
	}
	done := make(chan dialed, 1)
	apart, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*dialTimeout)
	go func() {
		defer cancel()
		c := &conn{pool: p}
		var err error
		c.client, err = p.transport.NewClientConn(context.WithValue(apart, dialKey{}, c), p.scheme, p.address)
		done <- dialed{c, err}
	}()
	select {
	case d := <-done:
		return d.c, d.err
	case <-ctx.Done():
		go func() {
			if d := <-done; d.err == nil {
				d.c.finish()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// put takes a connection whose exchange is over.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.most {
		_ = c.Conn.Close() // net/http notices, and closes the rest.
		return
	}
	c.since = time.Now()
	if p.idle = append(p.idle, c); len(p.idle) == 1 {
		p.sweep.Reset(p.idleTime)
	}
}

// remove forgets a connection that has ended while it was idle.
func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle, c); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
}

// closeOld closes what has been idle for too long. The oldest stand in front.
func (p *pool) closeOld() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, now := 0, time.Now()
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= p.idleTime {
		_ = p.idle[n].Conn.Close()
		n++
	}
	if p.idle = slices.Delete(p.idle, 0, n); len(p.idle) > 0 {
		p.sweep.Reset(p.idleTime - now.Sub(p.idle[0].since))
	}
}

// close closes what is idle, and what becomes idle later.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.sweep.Stop()
	for _, c := range p.idle {
		_ = c.Conn.Close()
	}
	p.idle = nil
}
