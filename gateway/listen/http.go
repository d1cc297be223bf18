package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-gateway/sluice/gateway/frames"
)

// HTTPOptions of the connections of an http.Server.
type HTTPOptions struct {
	// TLS is that of the connections; nil means plaintext. One configuration serves
	// all of them, for it has the keys of their sessions.
	TLS *tls.Config
	// HeadTimeout is the time that a client of HTTP/2 has to finish its preface, or
	// a frame or header block that it has begun; 0 means 10s. It should be
	// http.Server.ReadHeaderTimeout, which is the same for HTTP/1 and for the
	// handshake.
	HeadTimeout time.Duration
}

// HTTP makes the listener that an http.Server is to serve on, which needs
// ConnContext and State, and Settle in front of its handler. It sees what the
// server reads before it is understood: heads of HTTP/1 whose framing is doubtful
// (heads), and floods of HTTP/2 (frames.Guard).
//
// TLS is made here, not by http.Server.ServeTLS: that hands the connection to its
// HTTP/2 only as a *tls.Conn, so that nothing could look at the frames. To the
// server all connections are plaintext, with HTTP/1 and with HTTP/2 by its preface;
// that it is the one the client has asked for in its handshake (ALPN) is held here.
// Settle gives requests their TLS state. The server must not be asked for TLS.
func HTTP(l *Listener, o HTTPOptions) net.Listener {
	if o.HeadTimeout <= 0 {
		o.HeadTimeout = 10 * time.Second
	}
	return &httpListener{l, o}
}

type httpListener struct {
	*Listener
	o HTTPOptions
}

// Accept returns the next connection. Its handshake is made by its first Read.
func (l *httpListener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &httpConn{Conn: inner, inner: inner.(*conn), o: &l.o}
	if l.o.TLS != nil {
		c.tls = tls.Server(inner, l.o.TLS)
		c.Conn = c.tls
	}
	return c, nil
}

// httpConn is a connection as an http.Server reads it.
type httpConn struct {
	net.Conn // inner, or TLS over it
	inner    *conn
	tls      *tls.Conn // nil means plaintext
	o        *HTTPOptions

	// Of the one who reads.
	matched int  // bytes that have come of HTTP/2's preface, while it may be one
	decided bool // which protocol it is

	heads heads
	ended error // what every later Read returns

	guard atomic.Pointer[frames.Guard] // nil means HTTP/1, or that nothing has come
	once  sync.Once
	state *tls.ConnectionState
}

// errProtocol is a client that speaks another protocol than its handshake has
// said.
var errProtocol = errors.New("the connection does not speak the protocol of its handshake")

// errBody is a body whose end another reader could see elsewhere. It is returned for
// good: net/http reads the next request where a handler has not read the body to its
// end, and forgets an error of that.
var errBody = errors.New("the end of the request's body is in doubt")

// Read reads for the server, and looks at what it will see.
func (c *httpConn) Read(p []byte) (int, error) {
	if c.ended != nil {
		return 0, c.ended
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		if c.ended = c.see(p[:n]); c.ended != nil {
			return 0, c.ended
		}
	}
	if err != nil && c.tls != nil && !c.decided {
		c.explain(err)
	}
	return n, err
}

func (c *httpConn) see(p []byte) error {
	if !c.decided {
		if err := c.decide(p); err != nil {
			return err
		}
	}
	g := c.guard.Load()
	if g == nil {
		if c.heads.feed(p) {
			return errBody
		}
		return nil
	}
	if err := g.Read(p, nil); err != nil {
		g.End(c.Conn)
		return err
	}
	return nil
}

// decide finds out which protocol the connection speaks.
func (c *httpConn) decide(p []byte) error {
	n := min(len(p), len(http2.ClientPreface)-c.matched)
	if string(p[:n]) == http2.ClientPreface[c.matched:c.matched+n] {
		if c.matched == 0 {
			c.guard.Store(frames.NewGuard(frames.Options{Timeout: c.o.HeadTimeout, Refused: c.inner.l.o.Refused, Close: func() { _ = c.Close() }}))
		}
		if c.matched += n; c.matched < len(http2.ClientPreface) {
			return nil
		}
		c.inner.rest.http2.Store(true)
	} else if g := c.guard.Swap(nil); g != nil { // Such as POST.
		g.Stop()
		c.heads.feed([]byte(http2.ClientPreface[:c.matched]))
	}
	c.decided = true
	if c.tls != nil && (c.tlsState().NegotiatedProtocol == http2.NextProtoTLS) != (c.guard.Load() != nil) {
		_ = c.Close() // The server would answer in HTTP/1, which its client does not read.
		return errProtocol
	}
	return nil
}

// explain notes why a handshake has failed, and answers a client that speaks
// plaintext to a listener of TLS, as net/http does.
func (c *httpConn) explain(err error) {
	if c.tls.ConnectionState().HandshakeComplete {
		return
	}
	c.decided = true // net/http reads once more, and the reason is the same.
	// Anyone can cause it.
	c.inner.l.o.Log.Debug("TLS handshake failed", "peer", c.RemoteAddr().String(), "error", err)
	var e tls.RecordHeaderError
	if !errors.As(err, &e) || e.Conn == nil {
		return
	}
	switch string(e.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_, _ = io.WriteString(e.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		_ = e.Conn.Close()
	}
}

// Write writes for the server.
func (c *httpConn) Write(p []byte) (int, error) {
	if g := c.guard.Load(); g != nil {
		return g.Write(c.Conn, p, nil)
	}
	return c.Conn.Write(p)
}

// Close closes the connection.
func (c *httpConn) Close() error {
	if g := c.guard.Load(); g != nil {
		g.Stop()
	}
	return c.Conn.Close()
}

// CloseWrite sends the end of what is written, and goes on reading: see
// conn.CloseWrite.
func (c *httpConn) CloseWrite() error {
	if c.tls != nil {
		return c.tls.CloseWrite()
	}
	return c.inner.CloseWrite()
}

// Cork holds back what is written: see conn.Cork.
func (c *httpConn) Cork() { c.inner.Cork() }

// Uncork sends it.
func (c *httpConn) Uncork() error { return c.inner.Uncork() }

// SetLinger implements what *net.TCPConn has: see conn.SetLinger.
func (c *httpConn) SetLinger(seconds int) error { return c.inner.SetLinger(seconds) }

// NetConn is the connection below TLS, or the connection itself.
func (c *httpConn) NetConn() net.Conn { return c.inner }

// Gone says whether the peer has closed its side: see conn.Gone.
func (c *httpConn) Gone() bool { return c.inner.Gone() }

// tlsState is nil for plaintext. The handshake is over.
func (c *httpConn) tlsState() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	c.once.Do(func() {
		s := c.tls.ConnectionState()
		c.state = &s
	})
	return c.state
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext: Settle finds the connection there.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if h, ok := c.(*httpConn); ok {
		return context.WithValue(ctx, connKey{}, h)
	}
	return ctx
}

var closeAfter = []string{"close"}

// Settle is for the beginning of every request. It gives the request its TLS state,
// and makes the answer the last of its connection where another reader could see
// the end of the request elsewhere (RFC 9112, 6.1): Content-Length beside
// Transfer-Encoding or more than once, chunks in HTTP/1.0, folded lines, lines that
// end in a line feed alone. On connections that are not of HTTP that is not known,
// so that any chunks count.
func Settle(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*httpConn)
	if c != nil && c.tls != nil {
		r.TLS = c.tlsState()
	}
	if r.ProtoMajor != 1 {
		return
	}
	// In HTTP/1.0 net/http ignores chunks and takes them out of the header.
	if r.ProtoMinor == 0 || (c == nil && len(r.TransferEncoding) > 0) || (c != nil && c.heads.doubt.Load()) {
		w.Header()["Connection"] = closeAfter
	}
}
