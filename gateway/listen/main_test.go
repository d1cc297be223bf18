package listen

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

// harness accepts everything a listener gives out.
type harness struct {
	net.Listener
	t        *testing.T
	accepted chan net.Conn

	mu      sync.Mutex
	refused map[string]int
}

func start(t *testing.T, o Options) *harness {
	t.Helper()
	h := &harness{t: t, accepted: make(chan net.Conn, 10_000), refused: map[string]int{}}
	o.Addr, o.Refused = "127.0.0.1:0", func(limit string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.refused[limit]++
	}
	l, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	h.Listener = l
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.accepted <- c
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
		close(h.accepted)
		for c := range h.accepted {
			c.Close()
		}
		if all, each := h.counts(); all != 0 || len(each) != 0 {
			t.Errorf("everything is closed, and %d connections are counted, of %v", all, each)
		}
	})
	return h
}

func (h *harness) counts() (int, map[netip.Addr]int) {
	c := &h.Listener.(*Listener).count
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all, maps.Clone(c.each)
}

func (h *harness) refusals(limit string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused[limit]
}

// dial connects and sends each part by itself.
func (h *harness) dial(parts ...string) net.Conn {
	h.t.Helper()
	return h.dialFrom("", parts...)
}

func (h *harness) dialFrom(local string, parts ...string) net.Conn {
	h.t.Helper()
	var d net.Dialer
	if local != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	c, err := d.DialContext(h.t.Context(), "tcp", h.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	for i, p := range parts {
		if i > 0 {
			time.Sleep(5 * time.Millisecond) // So that it is a packet of its own.
		}
		if _, err := c.Write([]byte(p)); err != nil {
			h.t.Fatal(err)
		}
	}
	return c
}

// next is the next connection that was given out.
func (h *harness) next() net.Conn {
	h.t.Helper()
	select {
	case c := <-h.accepted:
		h.t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(10 * time.Second):
		h.t.Fatal("no connection is given out")
		return nil
	}
}

// closed waits until the other side closes c.
func (h *harness) closed(c net.Conn) {
	h.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		h.t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || isTimeout(err) {
		h.t.Fatalf("%v is not closed: %d, %v", c.LocalAddr(), n, err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (h *harness) read(c net.Conn, want string) {
	h.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		h.t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		h.t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
