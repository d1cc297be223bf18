package rpc_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
)

// outcome is what a caller sees of a stream.
type outcome struct {
	http, grpc string // :status and grpc-status
	reset      http2.ErrCode
}

// answered sends headers and an empty message, and says what came back.
func answered(t *testing.T, c *rawhttp2.Conn, stream uint32, fields []string) outcome {
	t.Helper()
	if err := c.Headers(stream, false, fields...); err != nil {
		t.Fatal(err)
	}
	_ = c.Message(stream, true, nil)
	got, reset := c.Answer(stream, 10*time.Second)
	if reset != nil {
		return outcome{reset: *reset}
	}
	return outcome{http: got[":status"], grpc: got["grpc-status"]}
}

// replaced is a call's fields with one replaced, or left out.
func replaced(name, value string, more ...string) []string {
	var out []string
	for f := rawhttp2.GRPC(echo); len(f) > 0; f = f[2:] {
		switch {
		case f[0] != name:
			out = append(out, f[0], f[1])
		case value != "":
			out = append(out, name, value)
		}
	}
	return append(out, more...)
}

// TestOddCalls: what is not quite a gRPC call gets a clear answer, reaches no
// service, and spoils its connection for nobody.
func TestOddCalls(t *testing.T) {
	unimplemented := outcome{http: "200", grpc: "12"}
	ok := outcome{http: "200", grpc: "0"}
	protocol := outcome{reset: http2.ErrCodeProtocol}
	for _, tc := range []struct {
		name   string
		fields []string
		want   outcome
	}{
		{"right", rawhttp2.GRPC(echo), ok},
		{"path without a slash", replaced(":path", echo[1:]), unimplemented},
		{"path of a slash", replaced(":path", "/"), unimplemented},
		{"path without a method", replaced(":path", "/sluice.test.v1.TestService"), unimplemented},
		{"path with an empty method", replaced(":path", service), unimplemented},
		{"path with an empty service", replaced(":path", "//Echo"), unimplemented},
		{"path with two slashes", replaced(":path", "/"+echo), unimplemented},
		{"path with more", replaced(":path", echo+"/x"), unimplemented},
		{"path with a slash behind", replaced(":path", echo+"/"), unimplemented},
		{"path with a query", replaced(":path", echo+"?x=1"), unimplemented},
		{"path escaped", replaced(":path", "/sluice.test.v1.TestService/%45cho"), unimplemented},
		{"path with dots", replaced(":path", "/a/../sluice.test.v1.TestService/Echo"), unimplemented},
		{"path in absolute form", replaced(":path", "http://test"+echo), unimplemented},
		{"path in another case", replaced(":path", strings.ToLower(echo)), unimplemented},
		{"path with NUL", replaced(":path", echo+"\x00"), protocol},
		{"no path", replaced(":path", ""), unimplemented},
		{"unknown service", replaced(":path", "/a.B/C"), unimplemented},
		{"unknown method", replaced(":path", service+"Nope"), unimplemented},
		{"GET", replaced(":method", "GET"), outcome{http: "405", grpc: "13"}},
		{"no content-type", replaced("content-type", ""), outcome{http: "415", grpc: "3"}},
		{"JSON", replaced("content-type", "application/json"), outcome{http: "415", grpc: "3"}},
		{"gRPC-Web", replaced("content-type", "application/grpc-web"), outcome{http: "415", grpc: "3"}},
		{"content-type with a subtype", replaced("content-type", "application/grpc+proto"), ok},
		{"no te", replaced("te", ""), ok},
		{"no authority", replaced(":authority", ""), outcome{http: "400", grpc: "13"}},
		{"two authorities", replaced("te", "trailers", "host", "a", "host", "b"), outcome{http: "400", grpc: "13"}},
		{"connection header", replaced("te", "trailers", "connection", "close"), protocol},
		{"timeout without a unit", replaced("te", "trailers", "grpc-timeout", "10"), outcome{http: "400", grpc: "13"}},
		{"timeout too long", replaced("te", "trailers", "grpc-timeout", "999999999999H"), outcome{http: "400", grpc: "13"}},
		{"timeout below zero", replaced("te", "trailers", "grpc-timeout", "-1S"), outcome{http: "400", grpc: "13"}},
		{"timeout of nothing", replaced("te", "trailers", "grpc-timeout", "0n"), outcome{http: "200", grpc: "4"}},
		{"timeout of 11,000 years", replaced("te", "trailers", "grpc-timeout", "99999999H"), ok},
		{"unknown encoding", replaced("te", "trailers", "grpc-encoding", "zstd"), unimplemented},
		{"binary metadata", replaced("te", "trailers", "x-bin", base64.StdEncoding.EncodeToString([]byte{0, 255})), ok},
		{"binary metadata that is none", replaced("te", "trailers", "x-bin", "!!!"), outcome{http: "400", grpc: "13"}},
		{"reserved metadata", replaced("te", "trailers", "grpc-status", "0", "grpc-message", "x", "grpc-status-details-bin", "AAAA", "grpc-internal-encoding-request", "x"), ok},
		{"upper case in a name", replaced("te", "trailers", "X-Upper", "x"), protocol},
		{"line break in a value", replaced("te", "trailers", "x-a", "a\r\nb: c"), protocol},
		{"NUL in a value", replaced("te", "trailers", "x-a", "a\x00"), protocol},
		{"space in a name", replaced("te", "trailers", "x a", "x"), protocol},
		{"pseudo-header field behind", replaced("te", "trailers", ":path", echo), protocol},
		{"unknown pseudo-header field", append([]string{":x", "x"}, rawhttp2.GRPC(echo)...), protocol},
		{"two paths", append([]string{":path", echo}, rawhttp2.GRPC(echo)...), protocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := start(t, nil)
			c := rawhttp2.Dial(t, e.addr, nil)
			if got := answered(t, c, 1, tc.fields); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if got := answered(t, c, 3, rawhttp2.GRPC(echo)); got != ok {
				t.Errorf("the next call of the connection: %+v", got)
			}
			want := 1
			if tc.want == ok {
				want = 2
			}
			if n := e.backend.count(); n != want {
				t.Errorf("%d calls reached the service, want %d", n, want)
			}
		})
	}
}

// TestMalformedNamesAreCounted: grpc-go answers them by itself.
func TestMalformedNamesAreCounted(t *testing.T) {
	e := start(t, nil)
	c := rawhttp2.Dial(t, e.addr, nil)
	for i, path := range []string{"x", "/", "/x", "x/y"} {
		answered(t, c, uint32(2*i+1), replaced(":path", path))
	}
	answered(t, c, 9, replaced(":path", "/x/y"))
	eventually(t, "four are counted", func() bool { return e.refusals("method_name") == 4 })
}

// TestMetadataTooLarge: more than the bound is refused, and just below it is
// not. One value beyond it, or far too much, ends the connection: it is not
// even decoded.
func TestMetadataTooLarge(t *testing.T) {
	const bound = 8 << 10
	e := start(t, func(o *rpc.Options) { o.MaxMetadataBytes = bound })
	fields := func(n, size int) (out []string) {
		for range n {
			out = append(out, "x-a", strings.Repeat("x", size))
		}
		return out
	}
	c := rawhttp2.Dial(t, e.addr, nil)
	for i, tc := range []struct {
		name   string
		fields []string
		want   outcome
	}{
		{"one, below", fields(1, bound-512), outcome{http: "200", grpc: "0"}},
		{"four, below", fields(4, bound/4-128), outcome{http: "200", grpc: "0"}},
		{"four, above", fields(4, bound/4), outcome{reset: http2.ErrCodeFrameSize}},
		{"many small ones, which count 32 bytes each", fields(300, 1), outcome{reset: http2.ErrCodeFrameSize}},
	} {
		if got := answered(t, c, uint32(2*i+1), rawhttp2.GRPC(echo, tc.fields...)); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
	if n := e.backend.count(); n != 2 {
		t.Errorf("%d calls reached the service", n)
	}
	for name, fields := range map[string][]string{"one, above": fields(1, 2*bound), "far above": fields(100, bound/2)} {
		c := rawhttp2.Dial(t, e.addr, nil)
		_ = c.Headers(1, true, rawhttp2.GRPC(echo, fields...)...)
		if _, ended := c.Ended(10 * time.Second); !ended {
			t.Errorf("%s: the connection goes on", name)
		}
	}
	if got := answered(t, c, 99, rawhttp2.GRPC(echo)); got.grpc != "0" {
		t.Errorf("the first connection, later: %+v", got)
	}
}

// TestMaxConcurrentStreams: one more than the bound is refused, and the others
// go on.
func TestMaxConcurrentStreams(t *testing.T) {
	e := start(t, func(o *rpc.Options) { o.MaxConcurrentStreams = 3 })
	c := rawhttp2.Dial(t, e.addr, nil)
	for id := uint32(1); id <= 7; id += 2 {
		if err := c.Headers(id, false, rawhttp2.GRPC(chat)...); err != nil {
			t.Fatal(err)
		}
	}
	if _, reset := c.Answer(7, 10*time.Second); reset == nil || *reset != http2.ErrCodeRefusedStream {
		t.Errorf("the fourth: %v", reset)
	}
	_ = c.Message(1, true, nil)
	if got, _ := c.Answer(1, 10*time.Second); got["grpc-status"] != "0" {
		t.Errorf("the first: %v", got)
	}
	eventually(t, "there is room again", func() bool { return e.backend.count() == 3 })
	if got := answered(t, c, 9, rawhttp2.GRPC(echo)); got.grpc != "0" {
		t.Errorf("the next: %+v", got)
	}
}

// TestBomb: compressed messages of sixty megabytes each cost their bound.
func TestBomb(t *testing.T) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 20 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	frame := append([]byte{1, byte(b.Len() >> 24), byte(b.Len() >> 16), byte(b.Len() >> 8), byte(b.Len())}, b.Bytes()...)
	if len(frame) > 65000 {
		t.Fatalf("%d bytes do not fit into the window", len(frame))
	}
	e := start(t, nil)
	var conns []*rawhttp2.Conn
	for range 8 {
		conns = append(conns, rawhttp2.Dial(t, e.addr, nil))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, c := range conns {
		if err := c.Headers(1, false, rawhttp2.GRPC(echo, "grpc-encoding", "gzip")...); err != nil {
			t.Fatal(err)
		}
		for rest := frame; len(rest) > 0; {
			n := min(len(rest), 16<<10)
			if err := c.Data(1, n == len(rest), rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	}
	for _, c := range conns {
		if got, reset := c.Answer(1, 20*time.Second); got["grpc-status"] != "8" {
			t.Errorf("%v, %v", got, reset)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 8*12<<20 {
		t.Errorf("8 bombs of 20 MiB allocated %d MiB", got>>20)
	}
	if e.backend.count() != 0 {
		t.Error("a bomb went on")
	}
	eventually(t, "they are counted", func() bool { return e.refusals("message_bytes") == 8 })
}

// TestCallsThatHoldUp: each is counted by its name.
func TestCallsThatHoldUp(t *testing.T) {
	e := start(t, func(o *rpc.Options) { o.Patience = 100 * time.Millisecond })
	c := rawhttp2.Dial(t, e.addr, nil)
	if err := c.Headers(1, false, rawhttp2.GRPC(echo)...); err != nil {
		t.Fatal(err)
	}
	if err := c.Headers(3, false, rawhttp2.GRPC(echo)...); err != nil {
		t.Fatal(err)
	}
	if err := c.Data(3, false, []byte{0, 0, 0, 0, 100, 1, 2}); err != nil { // A part.
		t.Fatal(err)
	}
	if err := c.Headers(5, false, rawhttp2.GRPC(echo)...); err != nil {
		t.Fatal(err)
	}
	if err := c.Message(5, false, nil); err != nil { // Whole, and no end.
		t.Fatal(err)
	}
	for _, id := range []uint32{1, 3, 5} {
		if _, found := c.ReadUntil(10*time.Second, func(f rawhttp2.Frame) bool { return f.Stream == id }); !found {
			t.Errorf("stream %d has no end", id)
		}
	}
	eventually(t, "all are counted and logged", func() bool { return e.refusals("slow_message") == 3 && len(e.requests()) == 3 })
	if got := answered(t, c, 7, rawhttp2.GRPC(echo)); got.grpc != "0" {
		t.Errorf("the next: %+v", got)
	}
}

// TestReservedMetadata is not what checks see as the caller's, either.
func TestReservedMetadata(t *testing.T) {
	var mu sync.Mutex
	got := map[string][]string{}
	e := start(t, func(o *rpc.Options) {
		o.Arrival = step("look", func(c *policy.Call) error {
			mu.Lock()
			defer mu.Unlock()
			for _, k := range []string{"grpc-status", "grpc-message", "grpc-encoding", "grpc-timeout", ":path", ":method", "te", "x-own"} {
				got[k] = c.Headers(k)
			}
			return nil
		})
	})
	c := rawhttp2.Dial(t, e.addr, nil)
	answered(t, c, 1, rawhttp2.GRPC(echo, "grpc-status", "0", "grpc-message", "x", "grpc-timeout", "10S", "x-own", "1"))
	mu.Lock()
	defer mu.Unlock()
	for k, v := range got {
		if (k == "x-own") != (len(v) == 1) {
			t.Errorf("%s: %q", k, v)
		}
	}
}
