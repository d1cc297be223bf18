package httpedge

import (
	"context"
	"net"
	"net/http"
)

// corker is a connection that can hold back what is written to it, until Uncork
// sends it in one write; those of gateway/listen are.
type corker interface {
	Cork()
	// Uncork sends what is held back. After a failure the connection is closed.
	Uncork() error
}

type corkKey struct{}

// CorkContext lets answers over the connection go out in one write, where it is
// one that can hold back what is written to it, or is TLS over such a one. It
// goes into http.Server.ConnContext. Without it, answers are the same.
func CorkContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		c = t.NetConn()
	}
	if k, ok := c.(corker); ok {
		return context.WithValue(ctx, corkKey{}, k)
	}
	return ctx
}

// Bodies from these sizes on are worth a cork, in bytes. Smaller ones leave
// net/http in one write anyway, behind a header of some 600 bytes: it gathers
// 4 KiB; the first records of TLS hold 1.1 KiB.
const (
	corkPlain = 2 << 10
	corkTLS   = 512
)

// corker is the connection that this answer has to itself, where holding back a
// body of n bytes saves writes. A connection of HTTP/2 carries other answers, too.
func (x *Exchange) corker(n int) corker {
	if x.Request.ProtoMajor != 1 || n < corkTLS || x.Request.TLS == nil && n < corkPlain {
		return nil
	}
	k, _ := x.Request.Context().Value(corkKey{}).(corker)
	return k
}

// WriteWhole sends a whole body, whose Content-Length is set, in one write with
// its header where that can be.
func (x *Exchange) WriteWhole(b []byte) (err error) {
	k := x.corker(len(b))
	if k == nil {
		_, err = x.Write(b)
		return err
	}
	k.Cork()
	defer func() {
		if e := k.Uncork(); err == nil {
			err = e
		}
	}()
	if _, err = x.Write(b); err != nil {
		return err
	}
	// The end of the body may be in net/http's own buffer. The writer's own method
	// it must be, not one that Unwrap leads to: a middleware that keeps the body for
	// later wants no header sent before it.
	if f, ok := x.w.(interface{ FlushError() error }); ok {
		return f.FlushError()
	}
	if f, ok := x.w.(http.Flusher); ok {
		f.Flush()
	}
	return nil
}
