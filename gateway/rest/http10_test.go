package rest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
)

// TestHTTP10IsReset: to a caller of HTTP/1.0 an answer that breaks off is no end of file,
// over TLS no end of the session, whoever breaks it off.
func TestHTTP10IsReset(t *testing.T) {
	for name, handle := range map[string]http.HandlerFunc{
		"whole": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "data") },
		"whole, flushed": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "data")
			_ = http.NewResponseController(w).Flush()
		},
		"broken off": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "data")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"broken off before anything": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		for _, secure := range []bool{false, true} {
			e := newEdge(t, func(o *edgeOptions) {
				o.Middlewares = append(o.Middlewares, func(http.Handler) http.Handler { return handle }) // Even a team's own.
			})
			srv := httptest.NewUnstartedServer(e)
			srv.Config.ErrorLog = nil
			dial := func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }
			if secure {
				srv.StartTLS()
				dial = func(addr string) (net.Conn, error) {
					return tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // A test's own server.
				}
			} else {
				srv.Start()
			}
			c, err := dial(srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
			if err != nil {
				t.Fatal(err)
			}
			body, whole := "", name == "whole" || name == "whole, flushed"
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err == nil {
				var b []byte
				b, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
				body = string(b)
			}
			if whole && (err != nil || body != "data") || !whole && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s, TLS %v: %q, %v", name, secure, body, err)
			}
			_ = c.Close()
			srv.Close()
		}
	}
}
