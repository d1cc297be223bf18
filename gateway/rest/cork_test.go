package rest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/listen"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// sizedConn answers ListNames with one name of as many bytes as the test says.
type sizedConn struct {
	fakeConn
	size atomic.Int64
}

func (c *sizedConn) Call(ctx context.Context, call *policy.Call, request *wire.Frame, a *upstream.Answer) error {
	if call.Method.FullName != testv1.TestService_ListNames_FullMethodName {
		return c.fakeConn.Call(ctx, call, request, a)
	}
	return wire.Cloner{}.Copy(&a.Message, &testv1.ListNamesResponse{Names: []string{strings.Repeat("n", int(c.size.Load()))}})
}

// counted counts the writes that reach a connection.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Write(p)
}

// countedListener gives out counted connections.
type countedListener struct {
	net.Listener
	n atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return counted{c, &l.n}, nil
}

// corked is an edge behind gateway/listen, as the gateway serves it.
type corked struct {
	*edge
	conn *sizedConn
	srv  *httptest.Server
}

func newCorked(t *testing.T, inner net.Listener, secure bool, change func(*edgeOptions, *http.Server)) *corked {
	t.Helper()
	c := &corked{conn: &sizedConn{}}
	srv := &http.Server{
		ReadHeaderTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return httpedge.ConnContext(httpedge.CorkContext(ctx, nc), nc)
		},
	}
	c.edge = newEdge(t, func(o *edgeOptions) {
		o.Conn = c.conn
		if change != nil {
			change(o, srv)
		}
	})
	srv.Handler = c.edge
	c.srv = &httptest.Server{Listener: listen.Wrap(inner, listen.Options{}), Config: srv}
	if secure {
		c.srv.StartTLS()
	} else {
		c.srv.Start()
	}
	t.Cleanup(c.srv.Close)
	c.srv.Client().Transport.(*http.Transport).DisableCompression = true
	return c
}

func tcp(t *testing.T) *countedListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &countedListener{Listener: l}
}

const getNames = "GET /test/v1/names HTTP/1.1\r\nHost: h\r\n\r\n"

// names is what ListNames answers with one name of n bytes.
func names(n int) string { return `["` + strings.Repeat("n", n) + `"]` }

// TestWritesOfLargeAnswers: what cannot go out at once goes out in few writes,
// over TLS too, where each record would be one, and there are 64 at least. A
// counted connection has no writev, which would halve the numbers.
func TestWritesOfLargeAnswers(t *testing.T) {
	for name, most := range map[string]int64{"plain": 2, "tls": 32} {
		t.Run(name, func(t *testing.T) {
			l := tcp(t)
			c := newCorked(t, l, name == "tls", nil)
			c.conn.size.Store(1 << 20)
			for range 3 {
				before := l.n.Load()
				res, err := c.srv.Client().Get(c.srv.URL + "/test/v1/names")
				if err != nil {
					t.Fatal(err)
				}
				if a := readAnswer(t, res); a.body != names(1<<20) || a.status != http.StatusOK {
					t.Errorf("%d, %d bytes", a.status, len(a.body))
				}
				if n := l.n.Load() - before; n > most+2 { // With the handshake.
					t.Errorf("%d writes, want %d", n, most)
				}
			}
		})
	}
}

// TestCorkedAnswers: answers behind answers on one connection, of every kind, are
// what they are without corks.
func TestCorkedAnswers(t *testing.T) {
	c := newCorked(t, tcp(t), false, nil)
	c.conn.size.Store(5000)
	conn, err := net.Dial("tcp", c.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	post := func(path, body, fields string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", path, len(body), fields, body)
	}
	id := strings.Repeat("i", 5000)
	steps := []struct {
		name, method, request string
		status                int
		length                int64
		body                  string
	}{
		{"GET", "GET", getNames, 200, 5004, names(5000)},
		{"HEAD", "HEAD", "HEAD" + getNames[3:], 200, 5004, ""},
		{"POST", "POST", post("/test/v1/echo/x", `{"inner":{"owner":"`+id+`"}}`, ""), 200, -2, id},
		{"Expect", "POST", post("/test/v1/echo/x", `{"inner":{"owner":"`+id+`"}}`, "Expect: 100-continue\r\n"), 200, -2, id},
		{"204", "POST", post("/test/v1/nothing", `{}`, ""), 204, 0, ""},
		{"a problem", "GET", "GET /test/v1/nowhere HTTP/1.1\r\nHost: h\r\n\r\n", 404, -2, "NOT_FOUND"},
		{"a stream", "GET", "GET /test/v1/down HTTP/1.1\r\nHost: h\r\n\r\n", 200, -1, "result"},
		{"the last", "GET", strings.Replace(getNames, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1), 200, 5004, names(5000)},
	}
	var all strings.Builder // Pipelined: nobody waits for an answer.
	for _, s := range steps {
		all.WriteString(s.request)
	}
	go func() { _, _ = io.WriteString(conn, all.String()) }()
	r := bufio.NewReader(conn)
	for _, s := range steps {
		res, err := http.ReadResponse(r, &http.Request{Method: s.method})
		for err == nil && res.StatusCode == http.StatusContinue {
			res, err = http.ReadResponse(r, &http.Request{Method: s.method})
		}
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != s.status || s.length != -2 && res.ContentLength != s.length || !strings.Contains(string(body), s.body) || (s.body == "" && len(body) > 0) {
			t.Errorf("%s: %d, length %d, %v, %.100s", s.name, res.StatusCode, res.ContentLength, err, body)
		}
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("behind the last answer: %q, %v", rest, err)
	}
}

// delayer is a middleware's writer that keeps the answer until the handler is
// done, to say something about all of it. It lets deadlines through.
type delayer struct {
	http.ResponseWriter
	body bytes.Buffer
	code int
}

func (k *delayer) WriteHeader(code int)        { k.code = code }
func (k *delayer) Write(p []byte) (int, error) { return k.body.Write(p) }
func (k *delayer) Unwrap() http.ResponseWriter { return k.ResponseWriter }

// TestCorkedMiddleware: a cork sends nothing that a middleware keeps.
func TestCorkedMiddleware(t *testing.T) {
	c := newCorked(t, tcp(t), false, func(o *edgeOptions, _ *http.Server) {
		o.Middlewares = append(o.Middlewares, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				k := &delayer{ResponseWriter: w}
				next.ServeHTTP(k, r)
				w.Header().Set("X-Kept", fmt.Sprint(k.body.Len()))
				w.WriteHeader(k.code + 2)
				_, _ = w.Write(k.body.Bytes())
			})
		})
	})
	c.conn.size.Store(5000)
	res, err := c.srv.Client().Get(c.srv.URL + "/test/v1/names")
	if err != nil {
		t.Fatal(err)
	}
	if a := readAnswer(t, res); a.status != http.StatusAccepted || a.header.Get("X-Kept") != "5004" || a.body != names(5000) {
		t.Errorf("%d %v, %d bytes", a.status, a.header, len(a.body))
	}
}

// TestCorkedPanic: what a middleware's panic leaves of an answer is cut off, and
// the connection ends.
func TestCorkedPanic(t *testing.T) {
	c := newCorked(t, tcp(t), false, func(o *edgeOptions, _ *http.Server) {
		o.Middlewares = append(o.Middlewares, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(&panicky{w}, r)
			})
		})
	})
	c.conn.size.Store(20_000)
	res, err := c.srv.Client().Get(c.srv.URL + "/test/v1/names")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(b) != 10_000 {
		t.Errorf("%d bytes, %v; want what was written, and that it is not all", len(b), err)
	}
}

// panicky panics amid a large body.
type panicky struct{ http.ResponseWriter }

func (p *panicky) Write(b []byte) (int, error) {
	if len(b) > 10_000 {
		_, _ = p.ResponseWriter.Write(b[:10_000])
		panic("amid the body")
	}
	return p.ResponseWriter.Write(b)
}

// TestCorkedSlowReader: who does not read is let go within the server's
// WriteTimeout, whether the answer is held back or too large for that.
func TestCorkedSlowReader(t *testing.T) {
	for _, size := range []int{30_000, 8 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			l := tcp(t)
			ended := make(chan struct{})
			c := newCorked(t, l, false, func(_ *edgeOptions, srv *http.Server) {
				srv.WriteTimeout = 300 * time.Millisecond
				srv.ConnState = func(_ net.Conn, s http.ConnState) {
					if s == http.StateClosed {
						close(ended)
					}
				}
			})
			c.conn.size.Store(int64(size))
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() { // As many answers as it takes to fill every buffer.
				for range 2000 {
					if _, err := io.WriteString(conn, getNames); err != nil {
						return
					}
				}
			}()
			select {
			case <-ended:
			case <-time.After(30 * time.Second):
				t.Error("the connection is held")
			}
		})
	}
}
