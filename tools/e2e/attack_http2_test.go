package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
	"github.com/sluice-gateway/sluice/tools/effort"
)

// http2Edge is a listener that speaks HTTP/2, and an ordinary call there.
type http2Edge struct {
	name, addr string
	tls        *tls.Config
	call       []string // fields of a call for ada's data, by ada
	message    []byte   // its request
}

// replaced is the call with one field replaced, or left out, and more behind.
func (e http2Edge) replaced(name, value string, more ...string) []string {
	var out []string
	for f := e.call; len(f) > 0; f = f[2:] {
		switch {
		case f[0] != name:
			out = append(out, f[0], f[1])
		case value != "":
			out = append(out, name, value)
		}
	}
	return append(out, more...)
}

func (e http2Edge) grpc() bool { return e.name == "gRPC" }

// http2Edges are the three of a process that listens with TLS and one that does
// without.
func http2Edges(plain, secure *target, trust *tls.Config) []http2Edge {
	rest := func(tg *target) []string {
		return []string{":method", "GET", ":scheme", "http", ":path", "/v1/users/ada", ":authority", "gateway.test", "authorization", "Bearer " + tg.ada}
	}
	return []http2Edge{
		{"HTTP", plain.addr, nil, rest(plain), nil},
		{"HTTPS", secure.addr, trust, rest(secure), nil},
		{"gRPC", plain.grpcAddr, nil, rawhttp2.GRPC("/"+userService+"/GetUser", "authorization", "Bearer "+plain.ada), []byte("\x0a\x03ada")},
	}
}

// begin sends the fields, and the message where the edge wants one.
func (e http2Edge) begin(c *rawhttp2.Conn, stream uint32, fields []string) error {
	if e.message == nil {
		return c.Headers(stream, true, fields...)
	}
	return errors.Join(c.Headers(stream, false, fields...), c.Message(stream, true, e.message))
}

// served says whether an ordinary call on the connection succeeds.
func (e http2Edge) served(c *rawhttp2.Conn, stream uint32) error {
	if err := e.begin(c, stream, e.call); err != nil {
		return err
	}
	got, reset := c.Answer(stream, patience)
	if reset != nil || got[":status"] != "200" || (e.grpc() && got["grpc-status"] != "0") {
		return fmt.Errorf("an ordinary call: %v, reset %v", got, reset)
	}
	return nil
}

// http2Targets are a process without TLS and one with.
func http2Targets(t *testing.T) (plain, secure *target, edges []http2Edge) {
	t.Helper()
	ca := newAuthority(t, "ours")
	cert, key := ca.issue(t, "gateway.internal")
	trust := &tls.Config{RootCAs: pool(t, ca.file), ServerName: "gateway.internal"}
	plain = startTarget(t, nil, nil)
	plain.measure(t)
	secure = startTarget(t, object{"http": object{"tls": object{"cert_file": cert, "key_file": key}}}, nil)
	secure.client = trusting(t, trust)
	secure.measure(t)
	return plain, secure, http2Edges(plain, secure, trust)
}

// TestAttackHTTP2 sends what HTTP/2 forbids, or what only looks like a call. The
// connection's next call is served where the fault was a stream's.
func TestAttackHTTP2(t *testing.T) {
	t.Parallel()
	plain, secure, edges := http2Targets(t)
	for _, e := range edges {
		t.Run(e.name, func(t *testing.T) {
			for _, row := range headerRows(e) {
				t.Run(row.name, func(t *testing.T) { row.run(t, e) })
			}
		})
	}
	for _, tg := range []*target{plain, secure} {
		tg.serves(t)
		tg.bounded(t)
		tg.accessLog(t)
	}
}

// headerRow is the fields of a call and what becomes of it: over HTTP the
// status, over gRPC `status grpc-status`, `reset` for RST_STREAM, or `closed` for
// the end of the connection. A choice between several has bars.
type headerRow struct {
	name       string
	fields     []string
	http, grpc string
}

func (row headerRow) run(t *testing.T, e http2Edge) {
	c := rawhttp2.Dial(t, e.addr, e.tls)
	sending := e.begin(c, 1, row.fields)
	got, reset := c.Answer(1, patience)
	was, want := got[":status"], row.http
	if e.grpc() {
		want = row.grpc
	}
	if sending != nil && !strings.Contains(want, "closed") { // The server may close before all is sent.
		t.Fatal(sending)
	}
	if e.grpc() {
		was, want = got[":status"]+" "+got["grpc-status"], row.grpc
	}
	switch {
	case reset != nil:
		was = "reset"
	case got == nil:
		was = "closed"
	}
	if !strings.Contains("|"+want+"|", "|"+was+"|") {
		t.Errorf("%q, want %q: %v", was, want, got)
	}
	if err := e.served(c, 3); err != nil && was != "closed" {
		t.Errorf("the next call of the connection: %v", err)
	}
}

func headerRows(e http2Edge) []headerRow {
	more := func(fields ...string) []string { return e.replaced("", "", fields...) }
	first := func(fields ...string) []string { return append(fields, e.call...) }
	path := func(p string) []string { return e.replaced(":path", p) }
	return []headerRow{
		{"right", e.call, "200", "200 0"},
		{"no path", e.replaced(":path", ""), "reset", "200 12"},
		{"a path without a slash", path("v1/users/ada"), "reset|400", "200 12"},
		{"a path of an authority", path("//evil.test/v1/users/ada"), "400", "200 12"},
		{"a path with dots", path("/v1/users/ada/../grace"), "400", "200 12"},
		{"a path in absolute form", path("http://evil.test/v1/users/ada"), "400", "200 12"},
		{"a path of an asterisk", path("*"), "400", "200 12"},
		{"a path with NUL", path("/v1/users/ada\x00"), "reset|400", "reset"},
		{"a path with a space", path("/v1/users/ada HTTP/1.1"), "400", "200 12"},
		{"a path with a line end", path("/v1/users/ada\r\nX: y"), "reset|400", "reset"},
		{"two paths", first(":path", "/v1/users/grace"), "reset", "reset"},
		{"two methods", first(":method", "DELETE"), "reset", "reset"},
		{"no method", e.replaced(":method", ""), "reset", "reset|405 13|200 13|400 13"},
		{"no scheme", e.replaced(":scheme", ""), "reset", "200 0"},
		{"a scheme that is none", e.replaced(":scheme", "gopher"), "200|400|reset", "200 0"},
		{"a method in lower case", e.replaced(":method", "get"), "405", "405 13"},
		{"CONNECT", e.replaced(":method", "CONNECT"), "reset", "405 13"},
		{"an extended CONNECT", append(e.replaced(":method", "CONNECT"), ":protocol", "websocket"), "reset", "reset"},
		{"an unknown pseudo-header", first(":evil", "x"), "reset", "reset"},
		{"a status in a request", first(":status", "200"), "reset", "reset"},
		{"a pseudo-header behind", more(":path", "/v1/users/grace"), "reset", "reset"},
		{"Host as the authority", more("host", "gateway.test"), "200", "200 0"},
		{"Host against the authority", more("host", "evil.test"), "400", "200 0|400 13"},
		{"two Hosts", more("host", "gateway.test", "host", "evil.test"), "400", "400 13|200 0"},
		{"an authority that is none", e.replaced(":authority", "a b"), "400|reset", "200 0|400 13"},
		{"Connection", more("connection", "close"), "reset|400", "reset"},
		{"Keep-Alive", more("keep-alive", "1"), "reset|400", "reset|200 0"},
		{"Transfer-Encoding", more("transfer-encoding", "chunked"), "reset|400", "reset|200 0"},
		{"Upgrade", more("upgrade", "h2c"), "reset|400", "reset|200 0"},
		{"Proxy-Connection", more("proxy-connection", "keep-alive"), "reset|400", "reset|200 0"},
		{"TE that is not trailers", more("te", "gzip"), "400|reset", "200 0"},
		{"a name in upper case", more("X-Upper", "x"), "reset", "reset"},
		{"a name with a space", more("x y", "x"), "reset", "reset"},
		{"an empty name", more("", "x"), "reset", "reset"},
		{"a value with a line end", more("x-a", "a\r\nauthorization: b"), "reset", "reset"},
		{"a value with NUL", more("x-a", "\x00"), "reset", "reset"},
		{"two tokens", more("authorization", "Bearer x"), "401", "200 16"},
		{"gRPC's own fields", more("grpc-status", "0", "grpc-message", "x", "grpc-status-details-bin", "AAAA"), "200", "200 0"},
		{"200 fields", e.replaced("", "", many(200, "x-%d", "1")...), "431", "200 0"},
		{"90 KB of fields", e.replaced("", "", many(30, "x-a%.0d", strings.Repeat("x", 3000))...), "431", "reset|closed"},
		{"a length against the body", more("content-length", "5"), "reset|200", "200 0|reset"},
		{"two lengths", more("content-length", "0", "content-length", "5"), "reset|200|400", "200 0|reset"},
	}
}

func many(n int, name, value string) (fields []string) {
	for i := range n {
		fields = append(fields, fmt.Sprintf(name, i), value)
	}
	return fields
}

// flood is many frames. They may end the connection.
type flood struct {
	name string
	send func(e http2Edge, c *rawhttp2.Conn) error
	// overHTTP and overGRPC say that net/http and grpc-go must close the connection.
	// Where they do not, what it costs is bounded all the same.
	overHTTP, overGRPC bool
	// code is that of its GOAWAY where there is one; 0 is any.
	code http2.ErrCode
}

// TestAttackFloods: while one connection is flooded, others are served; after it
// the process is what it was. The listeners are net/http's and grpc-go's, each
// with its own way to end a flood.
func TestAttackFloods(t *testing.T) {
	t.Parallel()
	plain, secure, edges := http2Targets(t)
	for _, e := range edges {
		t.Run(e.name, func(t *testing.T) {
			tg := plain
			if e.tls != nil {
				tg = secure
			}
			for _, f := range floods() {
				t.Run(f.name, func(t *testing.T) { f.run(t, tg, e) })
			}
		})
	}
	for _, tg := range []*target{plain, secure} {
		tg.serves(t)
		tg.bounded(t)
		tg.accessLog(t)
	}
}

func (f flood) run(t *testing.T, tg *target, e http2Edge) {
	calm := rawhttp2.Dial(t, e.addr, e.tls)
	if err := e.served(calm, 1); err != nil {
		t.Fatal(err)
	}
	// Others ask all the time that it lasts, and the peak is looked at.
	ctx, over := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		for stream := uint32(3); ; stream += 2 {
			if err := e.served(calm, stream); err != nil || ctx.Err() != nil {
				asked <- err
				return
			}
			time.Sleep(20 * time.Millisecond) // rawhttp2 remembers no more than 2,000 frames.
		}
	}()
	c := rawhttp2.Dial(t, e.addr, e.tls)
	err := f.send(e, c)
	if n := tg.metric(t, "go_goroutines"); n > tg.goroutines+2000 {
		t.Errorf("%.0f goroutines, %.0f before", n, tg.goroutines)
	}
	if (f.overHTTP && !e.grpc()) || (f.overGRPC && e.grpc()) {
		goAway, ended := c.Ended(patience)
		if !ended {
			t.Error("the connection goes on")
		}
		if goAway != nil && f.code != 0 && goAway.Code != f.code {
			t.Errorf("GOAWAY with %v, want %v", goAway.Code, f.code)
		}
	}
	over()
	if err := <-asked; err != nil {
		t.Errorf("another connection, during the flood: %v", err)
	}
	if err := tg.served(t); err != nil {
		t.Error(err)
	}
	c.Close()
	tg.bounded(t)
	t.Logf("sending: %v; %d frames back", err, c.Count(http2.FrameHeaders)+c.Count(http2.FrameRSTStream)+c.Count(http2.FramePing)+c.Count(http2.FrameSettings))
}

// each sends n times, until something fails: the connection may be closed.
func each(n int, send func(i uint32) error) (err error) {
	for i := 0; i < n && err == nil; i++ {
		err = send(uint32(i))
	}
	return err
}

func floods() []flood {
	n := effort.Rounds(3000, 10_000)
	return []flood{
		{name: "rapid reset", send: func(e http2Edge, c *rawhttp2.Conn) error {
			return each(n, func(i uint32) error {
				return errors.Join(c.Headers(2*i+1, false, e.call...), c.Reset(2*i+1, http2.ErrCodeCancel))
			})
		}},
		{name: "rapid reset of whole calls", send: func(e http2Edge, c *rawhttp2.Conn) error {
			return each(n, func(i uint32) error {
				return errors.Join(e.begin(c, 2*i+1, e.call), c.Reset(2*i+1, http2.ErrCodeCancel))
			})
		}},
		{name: "made you reset", send: func(e http2Edge, c *rawhttp2.Conn) error { // CVE-2025-8671
			return each(n, func(i uint32) error {
				return errors.Join(c.Headers(2*i+1, false, e.call...), c.WindowUpdate(2*i+1, 0))
			})
		}},
		{name: "1,000 streams at once", send: func(e http2Edge, c *rawhttp2.Conn) error {
			return each(1000, func(i uint32) error { return c.Headers(2*i+1, false, e.replaced(":method", "POST")...) })
		}},
		{name: "CONTINUATION", overHTTP: true, overGRPC: true, send: func(_ http2Edge, c *rawhttp2.Conn) error { return c.ContinuationFlood(1, n, 1000) }},
		{name: "PING", overGRPC: true, send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return each(n, func(uint32) error { return c.Ping() })
		}},
		{name: "SETTINGS", send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return each(n, func(i uint32) error {
				return c.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: i})
			})
		}},
		{name: "PRIORITY", send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return each(n, func(i uint32) error { return c.Raw(http2.FramePriority, 0, 2*i+1, []byte{0, 0, 0, 0, 1}) })
		}},
		{name: "WINDOW_UPDATE", send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return each(n, func(uint32) error { return c.WindowUpdate(0, 1) })
		}},
		{name: "a window too large", overHTTP: true, code: http2.ErrCodeFlowControl, send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return errors.Join(c.WindowUpdate(0, math.MaxInt32), c.WindowUpdate(0, math.MaxInt32))
		}},
		{name: "a window of zero", overHTTP: true, overGRPC: true, code: http2.ErrCodeProtocol, send: func(_ http2Edge, c *rawhttp2.Conn) error { return c.WindowUpdate(0, 0) }},
		{name: "empty DATA", send: func(e http2Edge, c *rawhttp2.Conn) error {
			err := c.Headers(1, false, e.replaced(":method", "POST")...)
			return errors.Join(err, each(n, func(uint32) error { return c.Data(1, false, nil) }))
		}},
		{name: "DATA of one byte", send: func(e http2Edge, c *rawhttp2.Conn) error {
			err := c.Headers(1, false, e.replaced(":method", "POST")...)
			return errors.Join(err, each(n, func(uint32) error { return c.Data(1, false, []byte("x")) }))
		}},
		{name: "DATA of streams that are none", send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return each(n, func(i uint32) error { return c.Data(2*i+1, true, []byte("x")) })
		}},
		{name: "padding", send: func(e http2Edge, c *rawhttp2.Conn) error {
			err := c.Headers(1, false, e.replaced(":method", "POST")...)
			return errors.Join(err, each(1000, func(uint32) error {
				return c.Raw(http2.FrameData, http2.FlagDataPadded, 1, append([]byte{255}, make([]byte, 255)...))
			}))
		}},
		{name: "frames of an unknown type", send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return each(n, func(uint32) error { return c.Raw(0xbe, 0, 0, make([]byte, 100)) })
		}},
		{name: "HPACK bomb", send: hpackBomb},
		{name: "HPACK table sizes", send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return c.Raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, bytes.Repeat([]byte{0x3f, 0xe1, 0x1f, 0x20}, 4000))
		}},
		{name: "HPACK of garbage", overHTTP: true, overGRPC: true, send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return c.Raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, bytes.Repeat([]byte{0xff}, 100))
		}},
		{name: "trailers with pseudo-headers", send: func(e http2Edge, c *rawhttp2.Conn) error {
			return each(1000, func(i uint32) error {
				return errors.Join(c.Headers(2*i+1, false, e.replaced(":method", "POST")...), c.Headers(2*i+1, true, ":path", "/v1/users/grace"))
			})
		}},
		{name: "a frame too large", overHTTP: true, overGRPC: true, send: func(_ http2Edge, c *rawhttp2.Conn) error {
			return c.Raw(http2.FrameData, 0, 1, make([]byte, 1<<20))
		}},
	}
}

// hpackBomb fills the dynamic table with one entry of 4 KB and then names it
// 16,000 times in a block: 64 MB of header fields in 16 KB.
func hpackBomb(e http2Edge, c *rawhttp2.Conn) error {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for f := e.call; len(f) > 0; f = f[2:] {
		// The literals without indexing leave the table to the bomb.
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}); err != nil {
			return err
		}
	}
	if err := enc.WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("x", 4000)}); err != nil {
		return err
	}
	block.Write(bytes.Repeat([]byte{0x80 | 62}, 11_000)) // The newest entry of the dynamic table (RFC 7541, 2.3.3).
	return each(100, func(i uint32) error {
		return c.Raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 2*i+1, block.Bytes())
	})
}
