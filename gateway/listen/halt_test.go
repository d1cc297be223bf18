//go:build linux

package listen

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHaltServesTheQueue: connections that the kernel has made are given out
// before the socket closes, Accept goes on waiting, and whoever comes later is
// refused.
func TestHaltServesTheQueue(t *testing.T) {
	for name, proxies := range map[string][]string{"plain": nil, "with proxies": {"yes"}} {
		t.Run(name, func(t *testing.T) {
			o := Options{}
			if proxies != nil {
				o.ProxyTrusted = loopback
			}
			l := Wrap(inner(t), o)
			const queued = 20
			for range queued {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := io.WriteString(c, "PROXY UNKNOWN\r\nhello"); err != nil {
					t.Fatal(err)
				}
			}
			accepted, ended := make(chan net.Conn, queued), make(chan error, 1)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						ended <- err
						return
					}
					accepted <- c
				}
			}()
			l.Halt()
			l.Halt() // Twice is once.
			for range queued {
				select {
				case c := <-accepted:
					defer c.Close()
				case err := <-ended:
					t.Fatal("Accept ends early:", err)
				case <-time.After(10 * time.Second):
					t.Fatal("a connection of the queue is not given out")
				}
			}
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
				c.Close()
				t.Error("a late connection is not refused")
			}
			if n := l.Open(); n != queued {
				t.Errorf("%d connections are open, want %d", n, queued)
			}
			select {
			case err := <-ended:
				t.Fatal("Accept ends before Close:", err)
			default:
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept ends with %v", err)
			}
			l.CloseAll()
			if n := l.Open(); n != 0 {
				t.Errorf("%d connections are open after CloseAll", n)
			}
		})
	}
}

// TestHaltWithoutAccept: a server that has ended does not hold up the halt.
func TestHaltWithoutAccept(t *testing.T) {
	l := Wrap(inner(t), Options{})
	l.Halt()
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("still listening")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// idleServer is net/http on a listener, and says which way requests came.
func idleServer(t *testing.T, http2 bool) *Listener {
	t.Helper()
	l := Wrap(inner(t), Options{})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(http2)
	srv := &http.Server{
		Protocols: protocols, ConnState: State, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(HTTP(l, HTTPOptions{}))
	}()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
		eventually(t, "all connections are closed", func() bool { return l.Open() == 0 })
	})
	return l
}

// asker is a connection of HTTP/1 that asks when it is told to.
type asker struct {
	net.Conn
	in *bufio.Reader
}

func newAsker(t *testing.T, l *Listener) asker {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return asker{c, bufio.NewReader(c)}
}

func (a asker) ask(t *testing.T, path string) {
	t.Helper()
	if _, err := io.WriteString(a, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	a.answered(t, path)
}

func (a asker) answered(t *testing.T, path string) {
	t.Helper()
	if err := a.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(a.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != path {
		t.Fatalf("%s is answered %q, %v", path, body, err)
	}
}

// TestCloseIdle: what rests is closed, once it has rested long enough, and so is
// what has never asked.
func TestCloseIdle(t *testing.T) {
	l := idleServer(t, false)
	rests := newAsker(t, l)
	rests.ask(t, "/1")
	eventually(t, "one connection is seen at rest", func() bool { return l.CloseIdle(time.Hour) == 1 })
	rests.ask(t, "/2") // It is not closed before its time, and its time begins anew.
	eventually(t, "it rests again", func() bool { return l.CloseIdle(time.Hour) == 1 })
	eventually(t, "none rests", func() bool { return l.CloseIdle(0) == 0 })
	if err := rests.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := rests.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection at rest ends with %v, want EOF", err)
	}
	fresh := newAsker(t, l)
	eventually(t, "a connection that has not asked is seen", func() bool { return l.CloseIdle(time.Hour) == 1 })
	eventually(t, "it is closed", func() bool { return l.CloseIdle(0) == 0 && l.Open() == 0 })
	if _, err := fresh.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection that has not asked ends with %v, want EOF", err)
	}
}

// TestCloseIdleLooksOnce: a request that the kernel has when its connection is
// closed for resting is answered. Clients that ask at all times, against a
// server that closes at all times, are never refused one that was received.
func TestCloseIdleLooksOnce(t *testing.T) {
	l := idleServer(t, false)
	a := newAsker(t, l)
	a.ask(t, "/1")
	var c *conn
	eventually(t, "the connection rests", func() bool {
		for _, open := range l.all() {
			c = open
		}
		return c.rest.since.Load() == resting
	})
	// The request is in the kernel before the reader can wake: it is made to, late.
	c.rest.mu.Lock()
	if !c.rest.since.CompareAndSwap(resting, retired) {
		t.Fatal("not at rest")
	}
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	blocked := make(chan struct{})
	go func() { // Hold the descriptor's read side while the request arrives.
		defer close(blocked)
		_ = raw.Control(func(fd uintptr) {
			if _, err := io.WriteString(a, "GET /late HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				t.Error(err)
			}
			eventually(t, "the kernel has it", func() bool {
				n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
				return n == 1 || err != nil
			})
		})
	}()
	<-blocked
	_ = c.SetReadDeadline(time.Unix(1, 0))
	c.rest.mu.Unlock()
	a.answered(t, "/late")
	a.ask(t, "/and-on") // It is in use again: the server has set its own deadlines.
}

// TestCloseIdleLeavesHTTP2: it has GOAWAY.
func TestCloseIdleLeavesHTTP2(t *testing.T) {
	l := idleServer(t, true)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	get := func() {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+l.Addr().String()+"/x", strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	get()
	for range 10 {
		if n := l.CloseIdle(0); n != 0 {
			t.Fatalf("%d connections are taken for HTTP/1 at rest", n)
		}
		time.Sleep(time.Millisecond)
	}
	get()
	if n := l.Open(); n != 1 {
		t.Errorf("%d connections, want the one", n)
	}
}

// TestAdopt: a socket of somebody else's is bounded and given out as our own.
func TestAdopt(t *testing.T) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	strange, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Adopt(strange)
	if err != nil {
		t.Fatal(err)
	}
	w := Wrap(l, Options{MaxConns: 1})
	defer w.Close()
	c, err := net.Dial("tcp", w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := w.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	raw, err := got.(*conn).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if n, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT); err != nil || n != keepAlive.Count {
			t.Errorf("%d probes, %v", n, err)
		}
		if n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || time.Duration(n)*time.Millisecond != userTimeout {
			t.Errorf("user timeout %d, %v", n, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
