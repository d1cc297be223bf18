package listen

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// corkable is what rest knows a connection by.
type corkable interface {
	net.Conn
	Cork()
	Uncork() error
}

// writes notes the size of each write that reaches the system. It has no writev,
// so that two slices at once are two of them here; see rest's TestOneWrite.
type writes struct {
	net.Conn
	mu    sync.Mutex
	sizes []int
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.sizes = append(w.sizes, len(p))
	w.mu.Unlock()
	return w.Conn.Write(p)
}

func (w *writes) take() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sizes
	w.sizes = nil
	return s
}

// noted gives out connections whose writes are noted.
type noted struct {
	net.Listener
	conns chan *writes
}

func (n noted) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &writes{Conn: c}
	n.conns <- w
	return w, nil
}

// corkedPair is a connection of a listener, what is written to it, and its client.
func corkedPair(t testing.TB) (corkable, *writes, net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := noted{inner, make(chan *writes, 1)}
	l := Wrap(n, Options{})
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
		l.Close()
		if all := l.count.all; all != 0 {
			t.Errorf("%d connections are counted after the last is closed", all)
		}
	})
	return server.(corkable), <-n.conns, client
}

func TestCork(t *testing.T) {
	part := bytes.Repeat([]byte("p"), 4096)
	record := bytes.Repeat([]byte("r"), 16<<10)
	large := bytes.Repeat([]byte("l"), 60<<10)
	for name, tt := range map[string]struct {
		parts [][]byte
		want  []int // sizes of writes
	}{
		"nothing":              {nil, nil},
		"nothing but nothing":  {[][]byte{nil, {}}, nil},
		"one":                  {[][]byte{part}, []int{4096}},
		"several":              {[][]byte{part, part, []byte("end")}, []int{2*4096 + 3}},
		"records to the brim":  {[][]byte{record, record, record, record}, []int{4 * 16 << 10}},
		"one record too many":  {[][]byte{record, record, record, record, record}, []int{4 * 16 << 10, 16 << 10}},
		"large behind a part":  {[][]byte{part, large}, []int{4096, 60 << 10}},
		"large alone":          {[][]byte{large}, []int{60 << 10}},
		"more behind the rest": {[][]byte{part, large, part, []byte("end")}, []int{4096, 60 << 10, 4099}},
	} {
		t.Run(name, func(t *testing.T) {
			server, w, client := corkedPair(t)
			server.Cork()
			for _, p := range tt.parts {
				if n, err := server.Write(p); n != len(p) || err != nil {
					t.Fatalf("%d of %d, %v", n, len(p), err)
				}
			}
			if err := server.Uncork(); err != nil {
				t.Fatal(err)
			}
			if got := w.take(); !slices.Equal(got, tt.want) {
				t.Errorf("writes of %d bytes, want %d", got, tt.want)
			}
			if _, err := server.Write([]byte("behind")); err != nil {
				t.Fatal(err)
			}
			if got := w.take(); !slices.Equal(got, []int{6}) {
				t.Errorf("still held back: %d", got)
			}
			server.Close()
			want := append(bytes.Join(tt.parts, nil), "behind"...)
			if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes came, %v; want %d, the same", len(got), err, len(want))
			}
		})
	}
}

// TestCorkKeepsOrder: whatever is written, corked or not, arrives once and in
// order.
func TestCorkKeepsOrder(t *testing.T) {
	server, _, client := corkedPair(t)
	sent := sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer server.Close()
		rnd, buf := rand.New(rand.NewPCG(1, 2)), make([]byte, 80<<10)
		for range 2000 {
			switch rnd.IntN(8) {
			case 0:
				server.Cork()
			case 1:
				if err := server.Uncork(); err != nil {
					t.Error(err)
				}
			default:
				p := buf[:rnd.IntN(1+[]int{10, 5000, 17 << 10, 80 << 10}[rnd.IntN(4)])]
				for i := range p {
					p[i] = byte(rnd.Uint32())
				}
				sent.Write(p)
				if n, err := server.Write(p); n != len(p) || err != nil {
					t.Errorf("%d of %d, %v", n, len(p), err)
				}
			}
		}
		if err := server.Uncork(); err != nil {
			t.Error(err)
		}
	})
	came := sha256.New()
	if _, err := io.Copy(came, client); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if !bytes.Equal(came.Sum(nil), sent.Sum(nil)) {
		t.Error("other bytes came than were sent")
	}
}

// TestCorkOfTwoWriters: TLS also writes from the goroutine that reads. Nobody
// overtakes himself, and nothing is lost, while another one corks.
func TestCorkOfTwoWriters(t *testing.T) {
	server, _, client := corkedPair(t)
	const each = 3000
	var writers sync.WaitGroup
	for id := range uint32(2) {
		writers.Go(func() {
			for i := range uint32(each) {
				if id == 0 && i%3 == 0 {
					server.Cork()
				}
				b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, id), i)
				if _, err := server.Write(b); err != nil {
					t.Error(err)
				}
				if id == 0 && i%3 == 2 {
					if err := server.Uncork(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	go func() {
		writers.Wait()
		server.Close()
	}()
	all, err := io.ReadAll(client)
	if err != nil {
		t.Fatal(err)
	}
	var next [2]uint32
	for ; len(all) >= 8; all = all[8:] {
		id, i := binary.BigEndian.Uint32(all), binary.BigEndian.Uint32(all[4:])
		if id > 1 || next[id] != i {
			t.Fatalf("writer %d: %d came, want %v", id, i, next)
		}
		next[id]++
	}
	if next != [2]uint32{each, each} {
		t.Errorf("%d came", next)
	}
}

// fill writes until not even a byte goes into the client's window and the
// system's buffers, which move what they have for a moment.
func fill(t *testing.T, server net.Conn) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for size := len(buf); size > 0; {
		_ = server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := server.Write(buf[:size]); errors.Is(err, os.ErrDeadlineExceeded) {
			size /= 32
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCorkHasADeadline: a client that reads nothing is let go when what is held
// cannot be sent in time, and nothing may follow on its connection.
func TestCorkHasADeadline(t *testing.T) {
	for name, send := range map[string]func(corkable) error{
		"held": func(c corkable) error {
			if n, err := c.Write([]byte("held")); n != 4 || err != nil {
				t.Errorf("%d, %v: it is not held", n, err)
			}
			return c.Uncork()
		},
		"behind what is held": func(c corkable) error {
			_, _ = c.Write([]byte("held"))
			n, err := c.Write(make([]byte, heldPart+1))
			if n != 0 || err == nil {
				t.Errorf("%d, %v: nothing of it was sent", n, err)
			}
			if e := c.Uncork(); e != nil {
				t.Errorf("%v is told twice", e)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, w, _ := corkedPair(t)
			fill(t, server)
			w.take()
			server.Cork()
			_ = server.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			if err := send(server); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v, want the deadline", err)
			}
			_ = server.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("what follows is written: %v", err)
			}
			if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the next request is read: %v", err)
			}
		})
	}
}

// TestCloseEndsUncork: closing does not wait for a client that does not read, as
// the end of a drain needs.
func TestCloseEndsUncork(t *testing.T) {
	server, w, _ := corkedPair(t)
	fill(t, server)
	w.take()
	_ = server.SetWriteDeadline(time.Time{})
	server.Cork()
	_, _ = server.Write([]byte("held"))
	uncorked := make(chan error)
	go func() { uncorked <- server.Uncork() }()
	eventually(t, "Uncork writes", func() bool { return len(w.take()) > 0 })
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-uncorked; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want that it is closed", err)
	}
}

// TestCloseWriteSendsWhatIsHeld: the end comes behind it.
func TestCloseWriteSendsWhatIsHeld(t *testing.T) {
	h := start(t, Options{})
	client := h.dial()
	server := h.next().(corkable)
	server.Cork()
	_, _ = server.Write([]byte("held"))
	if err := server.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(client); err != nil || string(got) != "held" {
		t.Errorf("%q, %v", got, err)
	}
}

// BenchmarkCork is an answer of 11 KB as net/http writes it, in two parts.
func BenchmarkCork(b *testing.B) {
	for _, corked := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "corked"}[corked], func(b *testing.B) {
			server, w, client := corkedPair(b)
			server.(*conn).Conn = w.Conn // As it is in service.
			go func() { _, _ = io.Copy(io.Discard, client) }()
			one, two := make([]byte, 4096), make([]byte, 7500)
			b.ReportAllocs()
			b.SetBytes(int64(len(one) + len(two)))
			for b.Loop() {
				if corked {
					server.Cork()
				}
				_, _ = server.Write(one)
				_, _ = server.Write(two)
				if err := server.Uncork(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
