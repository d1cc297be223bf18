package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// httpServer serves HTTP on a listener as the gateway does, with TLS or without, and
// returns how to connect to it.
func httpServer(t *testing.T, secure bool, log *slog.Logger, h http.Handler) (dial func() net.Conn) {
	t.Helper()
	var o HTTPOptions
	if secure {
		some := httptest.NewTLSServer(nil) // For its certificate.
		some.Close()
		o.TLS = &tls.Config{Certificates: some.TLS.Certificates, MinVersion: tls.VersionTLS12}
	}
	l, err := Listen(t.Context(), Options{Addr: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, ConnContext: ConnContext, ConnState: State,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Settle(w, r)
			h.ServeHTTP(w, r)
		})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(HTTP(l, o))
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if secure {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // What it speaks is tested, not whom it trusts.
		}
		return c
	}
}

// TestDoubtInABody: a doubt that arises only in the body, when its request is being
// answered already, ends the connection too: what stands behind is never run, whether the
// handler reads the body or not, and whether it has begun to answer.
func TestDoubtInABody(t *testing.T) {
	const next = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, tc := range map[string]struct {
		head, body string
		runs       bool
	}{
		"a trailer's end":           {"", "0\r\nA: b\n\n", false},
		"a trailer that ends in LF": {"", "0\r\nA: b\n\r\n", false},
		"a chunk size's end":        {"", "2\n{}\r\n0\r\n\r\n", false},
		"behind the first chunk":    {"2\r\n{}\r\n", "0\r\nA: b\n\n", false},
		"inside a chunk":            {"4\r\n{", "}  \n0\r\n\r\n", false},
		"none":                      {"2\r\n{}\r\n", "2\r\n{}\r\n0\r\nA: b\r\n\r\n", true},
	} {
		for _, path := range []string{"/reads", "/answers", "/ignores"} {
			for _, secure := range []bool{false, true} {
				t.Run(name+path, func(t *testing.T) {
					var smuggled atomic.Bool
					begun, rest := make(chan bool), make(chan bool)
					dial := httpServer(t, secure, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.URL.Path == "/smuggled" {
							smuggled.Store(true)
							w.Header().Set("Connection", "close")
							return
						}
						if r.URL.Path == "/answers" {
							_ = http.NewResponseController(w).EnableFullDuplex()
							_, _ = io.WriteString(w, ".")
							_ = http.NewResponseController(w).Flush()
						}
						begun <- true
						<-rest
						if r.URL.Path != "/ignores" {
							_, _ = io.Copy(io.Discard, r.Body)
						}
					}))
					c := dial()
					if _, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+tc.head); err != nil {
						t.Fatal(err)
					}
					<-begun // The head is read, and what came with it.
					if _, err := io.WriteString(c, tc.body+next); err != nil {
						t.Fatal(err)
					}
					rest <- true
					answers, _ := io.ReadAll(bufio.NewReader(c))
					if smuggled.Load() != tc.runs || strings.Count(string(answers), "HTTP/1.1 ") > 2 {
						t.Errorf("TLS %v: the next request runs: %v, want %v; %q", secure, smuggled.Load(), tc.runs, answers)
					}
				})
			}
		}
	}
}

// counts counts the records with a message.
type counts struct {
	slog.Handler
	message string
	n       atomic.Int64
}

func (c *counts) Enabled(context.Context, slog.Level) bool { return true }

func (c *counts) Handle(_ context.Context, r slog.Record) error {
	if r.Message == c.message {
		c.n.Add(1)
	}
	return nil
}

// TestFailedHandshakeIsLoggedOnce: net/http reads a connection again that has failed.
func TestFailedHandshakeIsLoggedOnce(t *testing.T) {
	log := &counts{Handler: slog.DiscardHandler, message: "TLS handshake failed"}
	dial := httpServer(t, true, slog.New(log), http.NotFoundHandler())
	c := dial().(*tls.Conn).NetConn()
	if _, err := io.WriteString(c, "\x00\x01\x02 no handshake\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if got := log.n.Load(); got != 1 {
		t.Errorf("%d lines", got)
	}
}
