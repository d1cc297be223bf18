package proxy_test

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// scripted is a backend that answers /odd as a script says, and all else properly. It
// goes on reading requests from a connection whatever the script has done.
type scripted struct {
	addr  string
	conns atomic.Int32
	ended sync.WaitGroup // connections
	wait  func()         // what /wait does before it is answered
}

type script func(c net.Conn, in *bufio.Reader)

const proper = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nproper"

func scriptedBackend(t testing.TB, odd script) *scripted {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{addr: l.Addr().String()}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		_ = l.Close()
		s.ended.Wait()
	})
	s.ended.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			s.ended.Go(func() {
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				defer func() { _ = c.Close() }()
				in := bufio.NewReader(c)
				for {
					line, head, ok := readHead(in)
					switch {
					case !ok:
						return
					case strings.Contains(line, " /odd "):
						odd(c, in)
					case strings.Contains(line, " HTTP/1.1"):
						if strings.Contains(line, " /wait ") {
							s.wait()
						}
						if strings.Contains(head, "Content-Length: 4\r\n") {
							_, _ = in.Discard(4)
						}
						_, _ = io.WriteString(c, proper)
					default:
						_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
					}
				}
			})
		}
	})
	return s
}

// readHead reads a request up to its body.
func readHead(in *bufio.Reader) (line, head string, ok bool) {
	for {
		l, err := in.ReadString('\n')
		if err != nil {
			return line, head, false
		}
		if line == "" {
			line = l
		}
		if l == "\r\n" {
			return line, head, true
		}
		head += l
	}
}

func says(text string) script {
	return func(c net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(c, text) }
}

// saysLate says the rest when the connection is used again, or is closed.
func saysLate(head, rest string) script {
	return func(c net.Conn, in *bufio.Reader) {
		_, _ = io.WriteString(c, head)
		_, _ = in.Peek(1)
		_, _ = io.WriteString(c, rest)
	}
}

// TestNobodyGetsAnothersAnswer: whatever a service does to one exchange, the next on
// that backend gets an answer of its own, at once.
func TestNobodyGetsAnothersAnswer(t *testing.T) {
	const stray = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother"
	for name, tc := range map[string]struct {
		method, body string
		h            http.Header
		does         script
	}{
		"a body to HEAD":                         {method: "HEAD", does: says("HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n" + stray)},
		"a body to HEAD, late":                   {method: "HEAD", does: saysLate("HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n", stray)},
		"chunks to HEAD, late":                   {method: "HEAD", does: saysLate("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n")},
		"a stream to HEAD":                       {method: "HEAD", does: saysLate("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "data: 1\n\n"+stray)},
		"a body to HEAD that is an error":        {method: "HEAD", does: saysLate("HTTP/1.1 404 Not Found\r\nContent-Length: 70\r\n\r\n", stray)},
		"204 with a body":                        {method: "DELETE", does: says("HTTP/1.1 204 No Content\r\n\r\n" + stray)},
		"204 with a length and a late body":      {method: "DELETE", does: saysLate("HTTP/1.1 204 No Content\r\nContent-Length: 45\r\n\r\n", stray)},
		"204 with chunks, late":                  {method: "DELETE", does: saysLate("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"+stray)},
		"304 with a body":                        {method: "GET", does: says("HTTP/1.1 304 Not Modified\r\n\r\n" + stray)},
		"304 with a length and a late body":      {method: "GET", does: saysLate("HTTP/1.1 304 Not Modified\r\nContent-Length: 45\r\n\r\n", stray)},
		"304 with chunks, late":                  {method: "GET", does: saysLate("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"+stray)},
		"a length of 0, and a body":              {method: "GET", does: says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + stray)},
		"more than its length":                   {method: "GET", does: says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + stray)},
		"more behind the last chunk":             {method: "GET", does: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + stray)},
		"two answers":                            {method: "GET", does: says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + stray + stray)},
		"an interim answer behind the end":       {method: "GET", does: says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")},
		"an upgrade that is refused":             {method: "GET", h: upgrade, does: saysLate("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", stray)},
		"an upgrade that is passed over":         {method: "GET", h: upgrade, does: saysLate("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", stray)},
		"an upgrade that nobody has asked":       {method: "GET", does: saysLate("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", stray)},
		"an answer that is tried again":          {method: "GET", does: says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n" + stray)},
		"HEAD that is tried again":               {method: "HEAD", does: saysLate("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 45\r\n\r\n", stray)},
		"an early answer to an unsent body":      {method: "POST", body: strings.Repeat("GET / HTTP/1.0\r\n\r\n", 1<<19), does: says("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")},
		"an early answer with a body of its own": {method: "POST", body: strings.Repeat("GET / HTTP/1.0\r\n\r\n", 1<<19), does: says("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scriptedBackend(t, tc.does)
			o := all(s, policy.HTTPOptions{Retry: &policyv1.Retry{MaxAttempts: 2}})
			o.Routes[0].WebSocket = tc.h != nil
			_, url := start(t, o)
			for range 5 {
				if got := ask(t, tc.method, url+"/odd", tc.body, tc.h); strings.HasSuffix(got, " another") {
					t.Fatalf("%q answers another request", got)
				}
				for range 2 {
					if got := ask(t, "POST", url+"/next", "body", nil); got != "200 proper" {
						t.Fatalf("the next caller got %q", got)
					}
				}
			}
		})
	}
}

// all is one route, without outlier ejection: a test asks the same backend on and on.
func all(s *scripted, rule policy.HTTPOptions) proxy.Options {
	ups := to(s.addr)
	up := ups["up"]
	up.Outlier = resilience.OutlierOptions{Off: true}
	ups["up"] = up
	return proxy.Options{Upstreams: ups, Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: rule}}}
}

// TestStrayBytesOfAnIdleConnection: what a service sends when nobody asks ends the
// connection, and no request meets it: not even one that cannot be sent twice.
func TestStrayBytesOfAnIdleConnection(t *testing.T) {
	now, ended := make(chan struct{}), make(chan struct{})
	s := scriptedBackend(t, func(c net.Conn, in *bufio.Reader) {
		_, _ = io.WriteString(c, proper)
		<-now
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother")
		_, _ = in.Peek(1)
		close(ended)
	})
	_, url := start(t, all(s, once))
	if got := ask(t, "GET", url+"/odd", "", nil); got != "200 proper" {
		t.Fatal(got)
	}
	close(now)
	<-ended
	if got := ask(t, "POST", url+"/next", "body", nil); got != "200 proper" || s.conns.Load() != 2 {
		t.Errorf("%q over %d connections", got, s.conns.Load())
	}
}

// TestCancelledExchangeEndsItsConnection: an answer that comes when its caller is gone
// is nobody else's.
func TestCancelledExchangeEndsItsConnection(t *testing.T) {
	for name, head := range map[string]string{"before the answer": "", "within it": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{})
			s := scriptedBackend(t, func(c net.Conn, in *bufio.Reader) {
				_, _ = io.WriteString(c, head)
				close(asked)
				_, _ = in.Peek(1) // Until the gateway closes it, or sends the next request.
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother")
			})
			_, url := start(t, all(s, once))
			ctx, leave := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, "GET", url+"/odd", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			go func() { <-asked; leave() }()
			if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			for range 5 {
				if got := ask(t, "POST", url+"/next", "body", nil); got != "200 proper" {
					t.Fatalf("the next caller got %q", got)
				}
			}
		})
	}
}

// TestConnectionsAreUsedAgain: exchanges that are over cost no connection each, over TLS
// neither.
func TestConnectionsAreUsedAgain(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/chunks":
			_ = http.NewResponseController(w).Flush()
			fallthrough
		default:
			_, _ = io.WriteString(w, "proper")
		}
	})
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int32
			srv := httptest.NewUnstartedServer(h)
			srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					conns.Add(1)
				}
			}
			ups := to(srv.Listener.Addr().String())
			if secure {
				srv.StartTLS()
				ca := filepath.Join(t.TempDir(), "ca.pem")
				if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
					t.Fatal(err)
				}
				up := ups["up"]
				up.TLS = &proxy.TLSOptions{CAFile: ca, ServerName: "example.com"}
				ups["up"] = up
			} else {
				srv.Start()
			}
			t.Cleanup(srv.Close)
			_, url := start(t, proxy.Options{Upstreams: ups, Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: once}}})
			for range 5 {
				for path, want := range map[string]string{"/": "200 proper", "/chunks": "200 proper", "/none": "204 "} {
					if got := ask(t, "POST", url+path, "body", nil); got != want {
						t.Fatalf("%s: %q", path, got)
					}
				}
			}
			// A request that is very quick may find its forerunner's connection unsettled.
			if n := conns.Load(); n > 5 {
				t.Errorf("%d connections for 15 requests one after another", n)
			}
		})
	}
}

var upgrade = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="}}

// ask is one caller, with a connection of its own.
func ask(t testing.TB, method, url, body string, h http.Header) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range h {
		r.Header[k] = v
	}
	own := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	defer own.CloseIdleConnections()
	res, err := own.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err.Error()
	}
	return res.Status[:3] + " " + string(b)
}
