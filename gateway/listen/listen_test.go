package listen

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestMaxConns(t *testing.T) {
	h := start(t, Options{MaxConns: 3})
	var open []net.Conn
	for range 3 {
		h.dial()
		open = append(open, h.next())
	}
	h.closed(h.dial())
	if n := h.refusals(LimitConnections); n != 1 {
		t.Errorf("%d refusals", n)
	}
	for range 3 { // Only the first Close gives anything back.
		_ = open[0].Close()
	}
	h.dial()
	h.next()
	h.closed(h.dial())
	if all, _ := h.counts(); all != 3 {
		t.Errorf("%d connections are counted, want 3", all)
	}
}

func TestMaxConnsPerAddress(t *testing.T) {
	h := start(t, Options{MaxConnsPerAddress: 2})
	h.dial()
	first := h.next()
	h.dial()
	h.next()
	h.closed(h.dial())
	h.dialFrom("127.0.0.2") // Somebody else.
	h.next()
	if n := h.refusals(LimitConnectionsPerAddress); n != 1 {
		t.Errorf("%d refusals", n)
	}
	_, each := h.counts()
	if each[netip.MustParseAddr("127.0.0.1")] != 2 || each[netip.MustParseAddr("127.0.0.2")] != 1 {
		t.Errorf("counts %v", each)
	}
	_ = first.Close()
	h.dial()
	h.next()
}

// TestCloseWrite: the writing half can be ended alone, as net/http does before
// it leaves a request unread.
func TestCloseWrite(t *testing.T) {
	h := start(t, Options{})
	client := h.dial()
	server, ok := h.next().(interface {
		net.Conn
		CloseWrite() error
	})
	if !ok {
		t.Fatal("no CloseWrite")
	}
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := client.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the client reads %d, %v; want the end", n, err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Errorf("the other half is closed, too: %v", err)
	}
}

func TestNoBounds(t *testing.T) {
	h := start(t, Options{MaxConns: -1, MaxConnsPerAddress: -1})
	for range 50 {
		h.dial()
		h.next()
	}
}

// TestCountsUnderLoad: many connections at once, closed twice from two
// goroutines, leave nothing counted.
func TestCountsUnderLoad(t *testing.T) {
	for name, o := range map[string]Options{
		"plain": {MaxConns: 40, MaxConnsPerAddress: 20},
		"proxy": {MaxConns: 40, MaxConnsPerAddress: 20, ProxyTrusted: loopback},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, o)
			var clients, handlers sync.WaitGroup
			stop := make(chan struct{})
			handlers.Go(func() {
				for {
					select {
					case c := <-h.accepted:
						if all, _ := h.counts(); all > 40 {
							t.Errorf("%d connections at once", all)
						}
						for range 2 {
							handlers.Go(func() { _ = c.Close() })
						}
					case <-stop:
						return
					}
				}
			})
			for range 8 {
				clients.Go(func() {
					for range 100 {
						c, err := net.Dial("tcp", h.Addr().String())
						if err != nil {
							t.Error(err)
							return
						}
						_, _ = c.Write([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
						_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
						_, _ = c.Read(make([]byte, 1))
						_ = c.Close()
					}
				})
			}
			clients.Wait()
			eventually(t, "nothing is counted", func() bool {
				all, each := h.counts()
				return all == 0 && len(each) == 0
			})
			close(stop)
			handlers.Wait()
		})
	}
}

func TestWhose(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "2001:db8:1:2::": "2001:db8:1:2::", "2001:db8:1:3::1": "2001:db8:1:3::",
	} {
		if got := whose(netip.MustParseAddr(in)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s", in, got)
		}
	}
	if a := addrOf(&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Zone: "eth0"}); a != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("mapped: %s", a)
	}
	if addrOf(&net.UnixAddr{}).IsValid() {
		t.Error("a Unix socket has an address")
	}
}

// failing fails to accept with each error in turn, before it does.
type failing struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		f.mu.Unlock()
		return nil, err
	}
	f.mu.Unlock()
	return f.Listener.Accept()
}

func inner(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestAcceptFailures: too many open files do not end serving; what is final
// does.
func TestAcceptFailures(t *testing.T) {
	emfile := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	final := errors.New("final")
	for name, proxies := range map[string][]netip.Prefix{"plain": nil, "proxy": {netip.MustParsePrefix("192.0.2.0/24")}} {
		t.Run(name, func(t *testing.T) {
			l := Wrap(&failing{Listener: inner(t), errs: []error{emfile, emfile, &net.OpError{Op: "accept", Err: syscall.ECONNABORTED}}}, Options{ProxyTrusted: proxies})
			defer l.Close()
			out, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()

			dead := Wrap(&failing{Listener: inner(t), errs: []error{final}}, Options{ProxyTrusted: proxies})
			defer dead.Close()
			for range 2 {
				if _, err := dead.Accept(); name == "proxy" && !errors.Is(err, final) {
					t.Errorf("got %v", err)
				} else if name == "plain" {
					if !errors.Is(err, final) {
						t.Errorf("got %v", err)
					}
					break
				}
			}

			many := make([]error, 1000)
			for i := range many {
				many[i] = emfile
			}
			waiting := Wrap(&failing{Listener: inner(t), errs: many}, Options{ProxyTrusted: proxies})
			got := make(chan error, 1)
			go func() {
				_, err := waiting.Accept()
				got <- err
			}()
			time.Sleep(20 * time.Millisecond)
			_ = waiting.Close()
			select {
			case err := <-got:
				if err == nil {
					t.Error("accepted after Close")
				}
			case <-time.After(10 * time.Second):
				t.Error("Close does not end the waiting")
			}
		})
	}
}

// TestClose: Accept says that the listener is closed, as net/http expects, and
// connections that were given out stay.
func TestClose(t *testing.T) {
	for name, proxies := range map[string][]netip.Prefix{"plain": nil, "proxy": loopback} {
		t.Run(name, func(t *testing.T) {
			l := Wrap(inner(t), Options{ProxyTrusted: proxies, HeaderTimeout: time.Hour})
			out, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			_, _ = out.Write([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			silent, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept after close: %v", err)
			}
			if _, err := c.Write([]byte("x")); err != nil {
				t.Errorf("an accepted connection was closed: %v", err)
			}
			_ = silent.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := silent.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Errorf("a silent one stays open: %v", err)
			}
		})
	}
}

// TestHTTP: net/http serves on the listener, and sees the client's address; a
// header of somebody who is no proxy is garbage to it.
func TestHTTP(t *testing.T) {
	serve := func(t *testing.T, trusted []netip.Prefix) (addr string) {
		l, err := Listen(t.Context(), Options{Addr: "127.0.0.1:0", ProxyTrusted: trusted})
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.RemoteAddr)
		})}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.Serve(l)
		}()
		t.Cleanup(func() {
			_ = srv.Close()
			<-done
		})
		return l.Addr().String()
	}
	exchange := func(t *testing.T, addr, send string) string {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write([]byte(send)); err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(c)
		return string(b)
	}
	const header, request = "PROXY TCP4 203.0.113.7 192.0.2.2 4711 443\r\n", "GET / HTTP/1.0\r\n\r\n"
	proxied := serve(t, loopback)
	if got := exchange(t, proxied, header+request); got[9:12] != "200" || got[len(got)-16:] != "203.0.113.7:4711" {
		t.Errorf("through a proxy: %q", got)
	}
	if got := exchange(t, proxied, request+"padding of the header's length"); got != "" {
		t.Errorf("a proxy without a header: %q", got)
	}
	for name, addr := range map[string]string{"no proxies": serve(t, nil), "other proxies": serve(t, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})} {
		if got := exchange(t, addr, header+request); got[9:12] != "400" {
			t.Errorf("%s: a forged header: %q", name, got)
		}
		if got := exchange(t, addr, request); got[9:12] != "200" {
			t.Errorf("%s: no header: %q", name, got)
		}
	}
}

func BenchmarkCount(b *testing.B) {
	c := counter{max: 10_000, maxEach: 1000, each: map[netip.Addr]int{}, open: map[*conn]struct{}{}}
	of := &conn{}
	a := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		c.take(of)
		c.takeOf(whose(a))
		c.give(of, a)
	}
}
