// Package rawhttp2 is an HTTP/2 client for attacks: it sends the frames that a
// test asks for, in any order and number, to either listener of a gateway. It
// imports nothing of the gateway's.
//
// A connection is read all the time, so that a server that answers a flood does
// not stop the flood; DialDeaf makes one that does not read. What the other side
// does is in the frames it sends: ReadUntil waits for them. Writing to a
// connection that the server has closed is an error, and no failure of the test.
package rawhttp2

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// keep is how many frames a connection remembers; of more, it only counts them,
// but for GOAWAY.
const keep = 2_000

// Frame is a frame that the server sent.
type Frame struct {
	Type   http2.FrameType
	Stream uint32
	Ack    bool              // of PING and SETTINGS
	End    bool              // END_STREAM
	Fields map[string]string // of HEADERS; values of one name are joined with commas
	Data   []byte            // of DATA
	Code   http2.ErrCode     // of RST_STREAM and GOAWAY
	Debug  string            // of GOAWAY
}

// Conn is a connection. Writing is for one goroutine, the rest for any.
type Conn struct {
	t      testing.TB
	raw    net.Conn
	framer *http2.Framer
	encode *hpack.Encoder
	block  bytes.Buffer

	mu     sync.Mutex
	frames []Frame
	counts map[http2.FrameType]int
	closed error // why reading ended
	more   chan struct{}
	done   chan struct{}
}

// Dial connects, with TLS where tc is not nil (ALPN h2), and sends preface and
// SETTINGS. The connection ends with the test.
func Dial(t testing.TB, addr string, tc *tls.Config) *Conn {
	t.Helper()
	c := dial(t, addr, tc)
	go c.read()
	t.Cleanup(func() {
		c.Close()
		<-c.done
	})
	return c
}

// DialDeaf is Dial for a client that never reads.
func DialDeaf(t testing.TB, addr string, tc *tls.Config) *Conn {
	t.Helper()
	return dial(t, addr, tc)
}

func dial(t testing.TB, addr string, tc *tls.Config) *Conn {
	t.Helper()
	raw, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if tc != nil {
		tc = tc.Clone()
		tc.NextProtos = []string{"h2"}
		conn := tls.Client(raw, tc)
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		raw = conn
	}
	c := &Conn{t: t, raw: raw, framer: http2.NewFramer(raw, raw), counts: map[http2.FrameType]int{}, more: make(chan struct{}, 1), done: make(chan struct{})}
	c.framer.AllowIllegalWrites = true
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = 1 << 20
	c.encode = hpack.NewEncoder(&c.block)
	if err := c.deadline(); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

// deadline bounds the next write: a server may stop reading.
func (c *Conn) deadline() error { return c.raw.SetWriteDeadline(time.Now().Add(10 * time.Second)) }

// Close ends the connection, without GOAWAY.
func (c *Conn) Close() { _ = c.raw.Close() }

// Headers begins a stream with header fields, as name, value, …: pseudo-header
// fields first, if they should be valid. end sets END_STREAM.
func (c *Conn) Headers(stream uint32, end bool, fields ...string) error {
	if err := c.deadline(); err != nil {
		return err
	}
	return c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.Block(fields...), EndStream: end, EndHeaders: true})
}

// GRPC is the fields of a gRPC call to path, with more behind them.
func GRPC(path string, more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "test",
		"content-type", "application/grpc", "te", "trailers"}, more...)
}

// Block encodes header fields. Blocks must be sent in the order they were made.
func (c *Conn) Block(fields ...string) []byte {
	c.block.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		if err := c.encode.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			c.t.Fatal(err)
		}
	}
	return bytes.Clone(c.block.Bytes())
}

// ContinuationFlood begins a stream and never ends its headers: n CONTINUATION
// frames of size bytes each.
func (c *Conn) ContinuationFlood(stream uint32, n, size int) error {
	if err := c.deadline(); err != nil {
		return err
	}
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.Block(GRPC("/a.B/C")...)})
	for i := 0; i < n && err == nil; i++ {
		if err = c.deadline(); err == nil {
			err = c.framer.WriteContinuation(stream, false, c.Block(fmt.Sprintf("x-%d", i), strings.Repeat("x", size)))
		}
	}
	return err
}

// Data sends body bytes.
func (c *Conn) Data(stream uint32, end bool, b []byte) error {
	if err := c.deadline(); err != nil {
		return err
	}
	return c.framer.WriteData(stream, end, b)
}

// Message sends a gRPC message.
func (c *Conn) Message(stream uint32, end bool, m []byte) error {
	head := []byte{0, byte(len(m) >> 24), byte(len(m) >> 16), byte(len(m) >> 8), byte(len(m))}
	return c.Data(stream, end, append(head, m...))
}

// Reset sends RST_STREAM.
func (c *Conn) Reset(stream uint32, code http2.ErrCode) error {
	if err := c.deadline(); err != nil {
		return err
	}
	return c.framer.WriteRSTStream(stream, code)
}

// Ping sends PING.
func (c *Conn) Ping() error {
	if err := c.deadline(); err != nil {
		return err
	}
	return c.framer.WritePing(false, [8]byte{1})
}

// Settings sends SETTINGS.
func (c *Conn) Settings(s ...http2.Setting) error {
	if err := c.deadline(); err != nil {
		return err
	}
	return c.framer.WriteSettings(s...)
}

// WindowUpdate sends WINDOW_UPDATE; stream 0 is the connection.
func (c *Conn) WindowUpdate(stream, n uint32) error {
	if err := c.deadline(); err != nil {
		return err
	}
	return c.framer.WriteWindowUpdate(stream, n)
}

// Raw sends any frame.
func (c *Conn) Raw(t http2.FrameType, flags http2.Flags, stream uint32, payload []byte) error {
	if err := c.deadline(); err != nil {
		return err
	}
	return c.framer.WriteRawFrame(t, flags, stream, payload)
}

// read remembers what comes until the connection ends.
func (c *Conn) read() {
	defer close(c.done)
	for {
		f, err := c.framer.ReadFrame()
		c.mu.Lock()
		if err != nil {
			c.closed = err
		} else {
			c.counts[f.Header().Type]++
			if len(c.frames) < keep || f.Header().Type == http2.FrameGoAway {
				c.frames = append(c.frames, frameOf(f))
			}
		}
		c.mu.Unlock()
		select {
		case c.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func frameOf(f http2.Frame) Frame {
	h := f.Header()
	out := Frame{Type: h.Type, Stream: h.StreamID}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		out.End, out.Fields = f.StreamEnded(), map[string]string{}
		for _, hf := range f.Fields {
			if v, ok := out.Fields[hf.Name]; ok {
				hf.Value = v + "," + hf.Value
			}
			out.Fields[hf.Name] = hf.Value
		}
	case *http2.DataFrame:
		out.End, out.Data = f.StreamEnded(), bytes.Clone(f.Data())
	case *http2.RSTStreamFrame:
		out.Code = f.ErrCode
	case *http2.GoAwayFrame:
		out.Code, out.Debug = f.ErrCode, string(f.DebugData())
	case *http2.PingFrame:
		out.Ack = f.IsAck()
	case *http2.SettingsFrame:
		out.Ack = f.IsAck()
	}
	return out
}

// ReadUntil waits until ok holds of a frame the server has sent, however long
// ago, and returns it. found is false when the connection ends, or the time is
// over, without one.
func (c *Conn) ReadUntil(timeout time.Duration, ok func(Frame) bool) (f Frame, found bool) {
	late := time.NewTimer(timeout)
	defer late.Stop()
	for seen := 0; ; {
		c.mu.Lock()
		for ; seen < len(c.frames); seen++ {
			if ok(c.frames[seen]) {
				f := c.frames[seen]
				c.mu.Unlock()
				return f, true
			}
		}
		over := c.closed != nil
		c.mu.Unlock()
		if over {
			return Frame{}, false
		}
		select {
		case <-c.more:
		case <-time.After(10 * time.Millisecond): // Another ReadUntil took the news.
		case <-late.C:
			return Frame{}, false
		}
	}
}

// Answer waits for the end of a stream's answer: its fields and trailers
// together, or the code it was reset with.
func (c *Conn) Answer(stream uint32, timeout time.Duration) (fields map[string]string, reset *http2.ErrCode) {
	c.t.Helper()
	last, found := c.ReadUntil(timeout, func(f Frame) bool {
		return f.Stream == stream && (f.End || f.Type == http2.FrameRSTStream)
	})
	if !found {
		return nil, nil
	}
	if last.Type == http2.FrameRSTStream {
		return nil, &last.Code
	}
	fields = map[string]string{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if f.Stream == stream {
			maps.Copy(fields, f.Fields)
		}
	}
	return fields, nil
}

// Ended waits until the server closes the connection, and returns its GOAWAY,
// if it sent one.
func (c *Conn) Ended(timeout time.Duration) (goAway *Frame, ended bool) {
	select {
	case <-c.done:
	case <-time.After(timeout):
		return nil, false
	}
	if f, found := c.ReadUntil(0, func(f Frame) bool { return f.Type == http2.FrameGoAway && f.Code != http2.ErrCodeNo }); found {
		return &f, true
	}
	return nil, true
}

// Count says how many frames of a type the server has sent.
func (c *Conn) Count(t http2.FrameType) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[t]
}
