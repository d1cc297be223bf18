package frames

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// script writes frames.
type script struct {
	bytes.Buffer
	*http2.Framer
}

func newScript() *script {
	s := &script{}
	s.WriteString(http2.ClientPreface)
	s.Framer = http2.NewFramer(&s.Buffer, nil)
	s.AllowIllegalWrites = true
	return s
}

// sink is a connection that takes all that is written.
type sink struct{ net.Conn }

func (sink) Write(p []byte) (int, error) { return len(p), nil }

func guard() *Guard {
	return NewGuard(Options{Timeout: time.Hour, Refused: func(string) {}, Close: func() {}})
}

// TestCosts: a client may send so many frames that ask for nothing, and more for
// every answer. Time stands still.
func TestCosts(t *testing.T) {
	type step func(i int, in, out *script)
	settings := func(_ int, in, _ *script) {
		_ = in.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	}
	for name, tc := range map[string]struct {
		each step
		n    int
		ends bool
	}{
		"SETTINGS":                  {settings, burst + 1, true},
		"SETTINGS within the bound": {settings, burst, false},
		"acknowledged SETTINGS":     {func(_ int, in, _ *script) { _ = in.WriteSettingsAck() }, burst + 1, true},
		"PING":                      {func(_ int, in, _ *script) { _ = in.WritePing(false, [8]byte{}) }, burst + 1, true},
		"answers to no PING":        {func(_ int, in, _ *script) { _ = in.WritePing(true, [8]byte{}) }, burst + 1, true},
		"PRIORITY":                  {func(i int, in, _ *script) { _ = in.WritePriority(uint32(2*i+1), http2.PriorityParam{}) }, burst + 1, true},
		"WINDOW_UPDATE":             {func(_ int, in, _ *script) { _ = in.WriteWindowUpdate(0, 1) }, burst + 1, true},
		"CONTINUATION of nothing":   {func(_ int, in, _ *script) { _ = in.WriteContinuation(1, false, nil) }, burst + 1, true},
		"GOAWAY":                    {func(_ int, in, _ *script) { _ = in.WriteGoAway(0, 0, nil) }, burst + 1, true},
		"frames of an unknown type": {func(_ int, in, _ *script) { _ = in.WriteRawFrame(0xbe, 0, 0, make([]byte, 100)) }, burst + 1, true},
		"RST_STREAM":                {func(i int, in, _ *script) { _ = in.WriteRSTStream(uint32(2*i+1), 8) }, burst + 1, true},
		"calls that nobody answers": {func(i int, in, _ *script) {
			_ = in.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndHeaders: true})
		}, burst + 1, true},
		"empty DATA":       {func(_ int, in, _ *script) { _ = in.WriteData(1, false, nil) }, burst + 1, true},
		"DATA of one byte": {func(_ int, in, _ *script) { _ = in.WriteData(1, false, []byte("x")) }, burst + 1, true},
		"empty DATA that ends": {func(i int, in, out *script) {
			id := uint32(2*i + 1)
			_ = in.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true})
			_ = in.WriteData(id, true, nil)
			_ = out.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true})
		}, 10 * burst, false},
		"empty DATA that ends what has ended": {func(_ int, in, _ *script) { _ = in.WriteData(1, true, nil) }, burst + 1, true},
		"DATA of a stream that has ended": {func(_ int, in, out *script) {
			_ = in.WriteData(1, false, make([]byte, 5))
			_ = out.WriteRSTStream(1, http2.ErrCodeStreamClosed)
		}, burst + 2, true}, // The last answer counts with the frame behind it.
		"DATA of padding":         {func(_ int, in, _ *script) { _ = in.WriteDataPadded(1, false, nil, make([]byte, 255)) }, burst + 1, true},
		"DATA with padding":       {func(_ int, in, _ *script) { _ = in.WriteDataPadded(1, false, make([]byte, 260), make([]byte, 9)) }, 10 * burst, false},
		"messages of gRPC, empty": {func(_ int, in, _ *script) { _ = in.WriteData(1, false, make([]byte, 5)) }, 10 * burst, false},
		"window by the byte":      {func(_ int, in, out *script) { _ = in.WriteWindowUpdate(1, 1); _ = out.WriteData(1, false, []byte("x")) }, burst + 1, true},
		"resets, answered by resets": {func(i int, in, out *script) {
			_ = in.WriteRSTStream(uint32(2*i+1), 8)
			_ = out.WriteRSTStream(uint32(2*i+1), 8)
		}, burst + 1, true},
		"PING, answered": {func(_ int, in, out *script) {
			_ = in.WritePing(false, [8]byte{})
			_ = out.WritePing(true, [8]byte{})
		}, burst + 1, true},
		"SETTINGS, answered": {func(_ int, in, out *script) {
			_ = in.WriteSettings()
			_ = out.WriteSettingsAck()
		}, burst + 1, true},
		"calls, answered": {func(i int, in, out *script) {
			id := uint32(2*i + 1)
			_ = in.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true})
			_ = out.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true})
		}, 10 * burst, false},
		"calls, of which most are reset": {func(i int, in, out *script) {
			id := uint32(2*i + 1)
			_ = in.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true})
			if i%4 > 0 {
				_ = in.WriteRSTStream(id, http2.ErrCodeCancel)
				return
			}
			_ = out.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true})
			_ = out.WriteData(id, true, make([]byte, 100))
		}, 10 * burst, false},
		// grpc-go's client measures the way with every message.
		"a PING for each message": {func(_ int, in, out *script) {
			_ = out.WriteData(1, false, make([]byte, 20))
			_ = in.WritePing(false, [8]byte{})
		}, 10 * burst, false},
		// net/http's client gives each 4 KiB back twice: to the stream, to the connection.
		"a window by the page": {func(_ int, in, out *script) {
			_ = out.WriteData(1, false, make([]byte, 16<<10))
			for range 4 {
				_ = in.WriteWindowUpdate(0, 4<<10)
				_ = in.WriteWindowUpdate(1, 4<<10)
			}
		}, 2 * burst, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, in, out := guard(), newScript(), newScript()
				out.Reset()
				defer g.Stop()
				if err := g.Read(in.Bytes(), nil); err != nil {
					t.Fatal(err)
				}
				var err error
				i := 0
				for ; i < tc.n && err == nil; i++ {
					in.Reset()
					out.Reset()
					tc.each(i, in, out)
					if _, e := g.Write(sink{}, out.Bytes(), nil); e != nil {
						t.Fatal(e)
					}
					err = g.Read(in.Bytes(), nil)
				}
				if tc.ends != errors.Is(err, ErrFlood) {
					t.Errorf("after %d: %v", i, err)
				}
			})
		})
	}
}

// TestAnswersBeforeTheirWindow: what answers earn is not lost while their client
// does not acknowledge them, however much that is.
func TestAnswersBeforeTheirWindow(t *testing.T) {
	g, in, out := guard(), newScript(), newScript()
	defer g.Stop()
	out.Reset()
	_ = out.WriteData(1, false, make([]byte, 16<<10))
	for range 1000 {
		if _, err := g.Write(sink{}, out.Bytes(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 8000 {
		_ = in.WriteWindowUpdate(1, 4<<10)
	}
	if err := g.Read(in.Bytes(), nil); err != nil {
		t.Error(err)
	}
}

// TestEarnedIsBounded: a connection that has had many answers is no better placed to
// flood than one that has had some, whatever it asks for first.
func TestEarnedIsBounded(t *testing.T) {
	for name, flood := range map[string]func(in, out *script){
		"PING": func(in, _ *script) { _ = in.WritePing(false, [8]byte{}) },
		"DATA of a stream that has ended": func(in, out *script) {
			_ = in.WriteData(1, false, make([]byte, 5))
			_ = out.WriteRSTStream(1, http2.ErrCodeStreamClosed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, in, out := guard(), newScript(), newScript()
				defer g.Stop()
				out.Reset()
				for range 10 * mostEarned / perHeaders {
					_ = out.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true})
				}
				if _, err := g.Write(sink{}, out.Bytes(), nil); err != nil {
					t.Fatal(err)
				}
				if err := g.Read(in.Bytes(), nil); err != nil {
					t.Fatal(err)
				}
				n := 0
				for err := error(nil); err == nil && n < 3*mostEarned; n++ {
					in.Reset()
					out.Reset()
					flood(in, out)
					if _, e := g.Write(sink{}, out.Bytes(), nil); e != nil {
						t.Fatal(e)
					}
					err = g.Read(in.Bytes(), nil)
				}
				if n > mostEarned+burst+2 {
					t.Errorf("ended after %d", n)
				}
			})
		})
	}
}

// TestTimeGives: a connection may go on to send perSecond, and no more than burst
// at once.
func TestTimeGives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, in := guard(), newScript()
		defer g.Stop()
		if err := g.Read(in.Bytes(), nil); err != nil {
			t.Fatal(err)
		}
		pings := func(n int) (sent int) {
			for ; sent < n; sent++ {
				in.Reset()
				_ = in.WritePing(false, [8]byte{})
				if g.Read(in.Bytes(), nil) != nil {
					return sent
				}
			}
			return sent
		}
		for range 100 { // Slowly, for ever.
			if got := pings(perSecond); got != perSecond {
				t.Fatalf("%d in a second", got)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		if got := pings(10 * burst); got < burst || got > 2*burst {
			t.Errorf("%d at once", got)
		}
	})
}

// pipe is a guarded connection and its other end.
func pipe(t *testing.T) (g *Guard, client net.Conn, refused *atomic.Value, ended chan error) {
	client, server := net.Pipe()
	refused, ended = &atomic.Value{}, make(chan error, 1)
	g = NewGuard(Options{Timeout: 10 * time.Second, Refused: func(l string) { refused.Store(l) }, Close: func() { _ = server.Close() }})
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := server.Read(b)
			if n > 0 {
				if e := g.Read(b[:n], nil); e != nil {
					g.End(server)
					err = e
				}
			}
			if err != nil {
				_ = server.Close()
				g.Stop()
				ended <- err
				return
			}
		}
	}()
	t.Cleanup(func() { _ = client.Close() })
	return g, client, refused, ended
}

// TestUnfinished: what is begun must be finished in its time; what is not begun,
// and the payload of DATA, may take any.
func TestUnfinished(t *testing.T) {
	whole := newScript()
	_ = whole.WriteSettings()
	begin := len(whole.Bytes())
	_ = whole.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
	_ = whole.WriteContinuation(1, false, []byte{0x84})
	open := len(whole.Bytes())
	_ = whole.WriteContinuation(1, true, []byte{0x86})
	closed := len(whole.Bytes())
	_ = whole.WriteData(1, false, make([]byte, 100))
	for name, tc := range map[string]struct {
		parts []int // where the client pauses, for 6s each
		rest  time.Duration
		ends  bool
	}{
		"nothing":                                   {nil, time.Hour, false},
		"half a preface":                            {[]int{10}, time.Hour, true},
		"a preface in time":                         {[]int{10, len(http2.ClientPreface)}, time.Hour, false},
		"a preface, too slow":                       {[]int{1, 2, len(http2.ClientPreface)}, time.Hour, true},
		"half a frame's head":                       {[]int{begin, begin + 4}, time.Hour, true},
		"a head without its block":                  {[]int{begin, begin + 9}, time.Hour, true},
		"HEADERS without END_HEADERS":               {[]int{begin, begin + 10}, time.Hour, true},
		"CONTINUATION without END_HEADERS":          {[]int{begin, begin + 10, open}, time.Hour, true},
		"a block in time":                           {[]int{begin, begin + 10, closed}, time.Hour, false},
		"half of DATA":                              {[]int{closed, closed + 50}, time.Hour, false},
		"half of the head of DATA":                  {[]int{closed, closed + 5}, time.Hour, true},
		"all":                                       {[]int{len(whole.Bytes())}, time.Hour, false},
		"one after the other, each begun at a time": {[]int{10, begin + 4, closed + 3, closed + 20}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, client, refused, ended := pipe(t)
				at := 0
				for _, to := range tc.parts {
					if _, err := client.Write(whole.Bytes()[at:to]); err != nil {
						break
					}
					at = to
					time.Sleep(6 * time.Second)
				}
				time.Sleep(tc.rest)
				synctest.Wait()
				limit, _ := refused.Load().(string)
				if tc.ends != (limit == LimitUnfinished) {
					t.Errorf("refused: %q", limit)
				}
				_ = client.Close()
				<-ended
			})
		})
	}
}

// TestEnd: who floods is told so, and by which stream.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client, refused, ended := pipe(t)
		in := newScript()
		_ = in.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, EndHeaders: true})
		for range 2 * burst {
			_ = in.WritePing(false, [8]byte{})
		}
		go func() {
			for part := range slices.Chunk(in.Bytes(), 1000) {
				if _, err := client.Write(part); err != nil {
					return
				}
			}
		}()
		f, err := http2.NewFramer(nil, client).ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		away, ok := f.(*http2.GoAwayFrame)
		if !ok || away.ErrCode != http2.ErrCodeEnhanceYourCalm || away.LastStreamID != 7 {
			t.Errorf("%v", f)
		}
		_, _ = io.Copy(io.Discard, client)
		if err := <-ended; !errors.Is(err, ErrFlood) || refused.Load() != LimitFrames {
			t.Errorf("%v, %v", err, refused.Load())
		}
	})
}

// TestEndOfTheDeaf: a client that does not read is closed all the same.
func TestEndOfTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, client, _, ended := pipe(t)
		_, other := net.Pipe()
		go func() { _, _ = g.Write(other, []byte("never read"), nil) }() // It holds the lock.
		synctest.Wait()
		in := newScript()
		for range 2 * burst {
			_ = in.WritePing(false, [8]byte{})
		}
		_, _ = client.Write(in.Bytes())
		if err := <-ended; !errors.Is(err, ErrFlood) {
			t.Error(err)
		}
		_ = other.Close()
	})
}

func BenchmarkGuard(b *testing.B) {
	in, out := newScript(), newScript()
	in.Reset()
	out.Reset()
	_ = in.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 200), EndHeaders: true, EndStream: true})
	_ = out.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 200), EndHeaders: true})
	_ = out.WriteData(1, true, make([]byte, 500))
	g := guard()
	defer g.Stop()
	if err := g.Read([]byte(http2.ClientPreface), nil); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() { // As both servers read: the head, then the rest.
		if g.Read(in.Bytes()[:9], nil) != nil || g.Read(in.Bytes()[9:], nil) != nil {
			b.Fatal("refused")
		}
		if _, err := g.Write(sink{}, out.Bytes(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
