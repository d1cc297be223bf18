package httpedge

import (
	"net"
	"net/http"
)

// Over HTTP/1.0 an answer without Content-Length ends where its connection does
// (RFC 9112, 6.3): one that is broken off looks complete, unless the connection is
// reset. From HTTP/1.1 on chunks, and streams that are reset, tell the two apart.

// serveHTTP10 serves a request of HTTP/1.0, and resets its connection where the answer
// was not sent to its end.
func (s *Server) serveHTTP10(w http.ResponseWriter, r *http.Request) {
	o := &http10Writer{ResponseWriter: w}
	defer func() {
		v := recover()
		if v == nil && o.flushed { // net/http's last flush would fail unseen.
			_ = o.FlushError()
		}
		if v != nil || o.failed {
			resetConnection(w)
		}
		if v != nil {
			panic(v)
		}
	}()
	s.handler.ServeHTTP(o, r)
}

// http10Writer notes whether something could not be sent.
type http10Writer struct {
	http.ResponseWriter
	flushed, failed bool
}

func (w *http10Writer) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.failed = w.failed || err != nil
	return n, err
}

// FlushError is for http.ResponseController.
func (w *http10Writer) FlushError() error {
	w.flushed = true
	err := http.NewResponseController(w.ResponseWriter).Flush()
	w.failed = w.failed || err != nil
	return err
}

// Unwrap gives http.ResponseController the underlying writer.
func (w *http10Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// resetConnection closes a connection so that its peer sees an error and no end. The
// connection below TLS is closed: TLS would say that all is well.
func resetConnection(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		c = t.NetConn()
	}
	if l, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}
