package rpc_test

import (
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
	"github.com/sluice-gateway/sluice/gateway/rpc"
)

// watch says how many goroutines there are more than before, at the most.
func watch(what func()) int {
	base, stop, done, most := runtime.NumGoroutine(), make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(done)
		for {
			most = max(most, runtime.NumGoroutine()-base-1)
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	what()
	close(stop)
	<-done
	return most
}

// mostGoroutines is what one connection may cost. grpc-go starts no handler beyond
// MaxConcurrentStreams before another has returned, and a handler whose caller has
// gone returns after its pump, and after what watches its stream to the service:
// three a stream. The rest is the connection's own, and goroutines that have done
// their work but are still to be taken off the processor.
const mostGoroutines = 3*250 + 50

// TestFloods: what one connection sends costs little, is answered by its end
// where HTTP/2 says so, and keeps nobody else from being served.
func TestFloods(t *testing.T) {
	const n = 10_000
	calm, protocol, flow := http2.ErrCodeEnhanceYourCalm, http2.ErrCodeProtocol, http2.ErrCodeFlowControl
	for name, tc := range map[string]struct {
		flood func(c *rawhttp2.Conn) error
		ends  bool           // the connection must be closed
		code  *http2.ErrCode // and this said, where we can know
	}{
		"rapid reset": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := uint32(0); i < n && err == nil; i++ {
				if err = c.Headers(2*i+1, false, rawhttp2.GRPC(echo)...); err == nil {
					err = c.Reset(2*i+1, http2.ErrCodeCancel)
				}
			}
			return err
		}},
		"rapid reset of streams": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := uint32(0); i < n && err == nil; i++ {
				if err = c.Headers(2*i+1, true, rawhttp2.GRPC(chat)...); err == nil {
					err = c.Reset(2*i+1, http2.ErrCodeCancel)
				}
			}
			return err
		}},
		"calls made wrong, which we reset": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := uint32(0); i < n && err == nil; i++ {
				if err = c.Headers(2*i+1, false, rawhttp2.GRPC(echo)...); err == nil {
					err = c.WindowUpdate(2*i+1, 0)
				}
			}
			return err
		}},
		"calls of an unknown encoding": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := uint32(0); i < n && err == nil; i++ {
				err = c.Headers(2*i+1, true, rawhttp2.GRPC(echo, "grpc-encoding", "zstd")...)
			}
			return err
		}},
		"calls without a name": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := uint32(0); i < n && err == nil; i++ {
				err = c.Headers(2*i+1, true, rawhttp2.GRPC("x")...)
			}
			return err
		}},
		"continuation": {flood: func(c *rawhttp2.Conn) error { return c.ContinuationFlood(1, n, 1000) }, ends: true},
		"continuation of nothing": {flood: func(c *rawhttp2.Conn) (err error) {
			if err = c.Raw(http2.FrameHeaders, 0, 1, c.Block(rawhttp2.GRPC(echo)...)); err != nil {
				return err
			}
			for i := 0; i < n && err == nil; i++ {
				err = c.Raw(http2.FrameContinuation, 0, 1, nil)
			}
			return err
		}},
		"ping": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := 0; i < n && err == nil; i++ {
				err = c.Ping()
			}
			return err
		}, ends: true, code: &calm},
		"settings": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := 0; i < n && err == nil; i++ {
				err = c.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
			}
			return err
		}},
		"empty DATA": {flood: func(c *rawhttp2.Conn) error {
			err := c.Headers(1, false, rawhttp2.GRPC(echo)...)
			for i := 0; i < n && err == nil; i++ {
				err = c.Data(1, false, nil)
			}
			return err
		}},
		"window overflow of the connection": {flood: func(c *rawhttp2.Conn) error {
			return errors.Join(c.WindowUpdate(0, math.MaxInt32), c.WindowUpdate(0, math.MaxInt32))
		}},
		"window overflow of a stream": {flood: func(c *rawhttp2.Conn) error {
			return errors.Join(c.Headers(1, false, rawhttp2.GRPC(chat)...), c.WindowUpdate(1, math.MaxInt32), c.WindowUpdate(1, math.MaxInt32))
		}},
		"window of zero": {flood: func(c *rawhttp2.Conn) error { return c.WindowUpdate(0, 0) }, ends: true},
		"DATA beyond the window": {flood: func(c *rawhttp2.Conn) error {
			err := c.Headers(1, false, rawhttp2.GRPC(chat)...)
			for i := 0; i < 100 && err == nil; i++ {
				err = c.Data(1, false, make([]byte, 16<<10))
			}
			return err
		}, code: &flow},
		"priority": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := 0; i < n && err == nil; i++ {
				err = c.Raw(http2.FramePriority, 0, uint32(2*i+1), []byte{0, 0, 0, 0, 1})
			}
			return err
		}},
		"frames of an unknown type": {flood: func(c *rawhttp2.Conn) (err error) {
			for i := 0; i < n && err == nil; i++ {
				err = c.Raw(0xbe, 0, 0, make([]byte, 100))
			}
			return err
		}},
		"a frame too large":   {flood: func(c *rawhttp2.Conn) error { return c.Raw(http2.FrameData, 0, 1, make([]byte, 1<<20)) }, ends: true},
		"a stream id of zero": {flood: func(c *rawhttp2.Conn) error { return c.Headers(0, true, rawhttp2.GRPC(echo)...) }, ends: true},
		"an even stream id":   {flood: func(c *rawhttp2.Conn) error { return c.Headers(2, true, rawhttp2.GRPC(echo)...) }, ends: true, code: &protocol},
		"HPACK that is garbage": {flood: func(c *rawhttp2.Conn) error {
			return c.Raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		}, ends: true},
		"DATA before HEADERS": {flood: func(c *rawhttp2.Conn) error { return c.Data(1, true, []byte("x")) }},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, nil)
			other := e.dial(nil)
			if _, err := invoke(soon(t), other, echo, 10); err != nil {
				t.Fatal(err)
			}
			var c *rawhttp2.Conn
			before := heap()
			goroutines := watch(func() {
				c = rawhttp2.Dial(t, e.addr, nil)
				err := tc.flood(c)
				if tc.ends {
					goAway, ended := c.Ended(20 * time.Second)
					if !ended {
						t.Error("the connection goes on")
					}
					if tc.code != nil && (goAway == nil || goAway.Code != *tc.code) && err == nil {
						t.Errorf("the connection ends with %+v, want %v", goAway, *tc.code)
					}
				}
				if _, err := invoke(soon(t), other, echo, 10); err != nil {
					t.Errorf("another connection is not served: %v", err)
				}
			})
			if goroutines > mostGoroutines {
				t.Errorf("it cost %d goroutines", goroutines)
			}
			eventually(t, "the calls end", func() bool { return runtime.NumGoroutine() < 60 })
			held := int64(0) // With the connection still open, and what the test keeps.
			eventually(t, "the heap is as before", func() bool {
				held = heap() - before
				return held < 6<<20
			})
			c.Close()
			t.Logf("%d goroutines at the most, %d KiB held", goroutines, held>>10)
		})
	}
}

// TestHalfOpen: who connects and says nothing, or only half a preface, is let
// go.
func TestHalfOpen(t *testing.T) {
	e := start(t, func(o *rpc.Options) { o.HandshakeTimeout = 200 * time.Millisecond })
	for name, send := range map[string]string{"nothing": "", "half a preface": http2.ClientPreface[:10], "a preface alone": http2.ClientPreface, "HTTP/1.1": "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", e.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte(send)); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			_, err = io.Copy(io.Discard, c)
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				t.Error("the connection stays open")
			}
		})
	}
}

// TestConnectionAges: idle connections end, old ones are asked to, and calls
// on them end by themselves.
func TestConnectionAges(t *testing.T) {
	e := start(t, func(o *rpc.Options) { o.IdleTimeout = 200 * time.Millisecond })
	goAway := func(f rawhttp2.Frame) bool { return f.Type == http2.FrameGoAway && f.Code == http2.ErrCodeNo }
	idle := rawhttp2.Dial(t, e.addr, nil)
	if _, found := idle.ReadUntil(10*time.Second, goAway); !found {
		t.Error("an idle connection is not asked to go")
	}
	e = start(t, func(o *rpc.Options) { o.MaxConnectionAge = 200 * time.Millisecond })
	old := rawhttp2.Dial(t, e.addr, nil)
	if err := old.Headers(1, false, rawhttp2.GRPC(chat)...); err != nil {
		t.Fatal(err)
	}
	if _, found := old.ReadUntil(10*time.Second, goAway); !found {
		t.Fatal("an old connection is not asked to go")
	}
	if err := old.Message(1, true, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, _ := old.Answer(1, 10*time.Second); got["grpc-status"] != "0" {
		t.Errorf("a call of an old connection ended with %v", got)
	}
}
