package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRecords: wherever reads cut the bytes, only the end of a record is one.
func TestRecords(t *testing.T) {
	var stream []byte
	ends := map[int]bool{0: true}
	for _, n := range []int{0, 1, 19, 300, 16384} {
		stream = append(append(stream, 23, 3, 3, byte(n>>8), byte(n)), make([]byte, n)...)
		ends[len(stream)] = true
	}
	for _, step := range []int{1, 2, 3, 5, 7, 512, len(stream)} {
		var r records
		for at := 0; at < len(stream); {
			n := min(step, len(stream)-at)
			r.follow(stream[at : at+n])
			if at += n; r.whole() != ends[at] {
				t.Fatalf("in steps of %d, behind %d bytes: %v", step, at, r.whole())
			}
		}
	}
}

// linked is a connection to a peer, which waits for its next request.
func linked(t *testing.T) (c *conn, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	inner, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if peer, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	c = &conn{pool: &pool{scheme: "https", log: slog.New(slog.DiscardHandler)}}
	c.begin(inner)
	t.Cleanup(func() { _ = inner.Close(); _ = peer.Close() })
	return c, peer
}

// TestNothingIsWrittenBehindWhatHasCome: what comes between a connection's being taken and
// the request's first byte is no answer to it, and the request is whole.
func TestNothingIsWrittenBehindWhatHasCome(t *testing.T) {
	for name, does := range map[string]func(c *conn, peer net.Conn){
		"bytes":   func(_ *conn, peer net.Conn) { _, _ = io.WriteString(peer, "HTTP/1.1 200 OK\r\n") },
		"the end": func(_ *conn, peer net.Conn) { _ = peer.Close() },
		"bytes that are read": func(c *conn, peer net.Conn) {
			_, _ = io.WriteString(peer, "HTTP/1.1 200 OK\r\n")
			if _, err := c.Read(make([]byte, 100)); !errors.Is(err, errStray) {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := linked(t)
			does(c, peer)
			for !c.ended && c.silent() {
				time.Sleep(time.Millisecond)
			}
			if _, err := c.Write([]byte("GET")); !errors.Is(err, errStray) || !c.untouched(nil) {
				t.Errorf("%v, untouched: %v", err, c.untouched(nil))
			}
		})
	}
}

// TestEndOfATLSConnectionIsNoWarning: a backend that closes an idle connection sends an
// alert first. More than that is what the log is for.
func TestEndOfATLSConnectionIsNoWarning(t *testing.T) {
	for name, tc := range map[string]struct {
		version uint16
		says    string
		warns   bool
	}{
		"TLS 1.2": {tls.VersionTLS12, "", false}, "TLS 1.3": {tls.VersionTLS13, "", false},
		"an answer, TLS 1.2": {tls.VersionTLS12, "HTTP/1.1 200 OK\r\n\r\n", true}, "an answer, TLS 1.3": {tls.VersionTLS13, "HTTP/1.1 200 OK\r\n\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *tls.Conn, 1)
			srv := httptest.NewUnstartedServer(nil)
			srv.TLS = &tls.Config{MinVersion: tc.version, MaxVersion: tc.version}
			srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
				if s == http.StateIdle {
					conns <- c.(*tls.Conn)
				}
			}
			srv.StartTLS()
			t.Cleanup(srv.Close)
			var log syncLog
			p := newPool(srv.Client().Transport.(*http.Transport).Clone(), "https", srv.Listener.Addr().String(), idleConnTimeout, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			p.transport.ForceAttemptHTTP2 = false
			p.transport.TLSClientConfig.ServerName = "example.com"
			p.transport.DialContext = dialTo(srv.Listener.Addr().String())
			t.Cleanup(p.close)
			if err := exchange(t, p, t.Context()); err != nil {
				t.Fatal(err)
			}
			for p.count() == 0 {
				time.Sleep(time.Millisecond)
			}
			c := <-conns
			if _, err := io.WriteString(c, tc.says); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			for p.count() > 0 {
				time.Sleep(time.Millisecond)
			}
			got := log.String()
			if !strings.Contains(got, "has sent more") || strings.Contains(got, "level=WARN") != tc.warns {
				t.Errorf("%q", got)
			}
		})
	}
}

type syncLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
