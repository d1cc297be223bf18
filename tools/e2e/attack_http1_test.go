package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// hurried is a configuration in which slowness ends soon.
func hurried() object {
	return object{"http": object{"read_header_timeout": "1s", "read_timeout": "1s"}}
}

// soon is when what is configured as a second must have happened, on a machine
// with other work; what is not configured takes 10 s at least.
const soon = 8 * time.Second

// framingRow is bytes, and the answers they get.
type framingRow struct {
	name, send string
	// want are the statuses in order, a reason behind a space. A connection that
	// ends without an answer is none.
	want []string
}

func (row framingRow) run(t *testing.T, tg *target) {
	t.Helper()
	got := exchange(t, tg.addr, row.send, len(row.want)+1)
	var was []string
	for _, v := range got {
		was = append(was, strings.TrimSpace(strconv.Itoa(v.status)+" "+v.reason))
		if strings.Contains(v.body, "grace@example.com") {
			t.Errorf("another's data: %v", v)
		}
	}
	if fmt.Sprint(was) != fmt.Sprint(row.want) {
		t.Errorf("got %q, want %q: %v", was, row.want, got)
	}
}

// TestAttackHTTP1: whatever the framing, nobody sees two requests where we see
// one, and what cannot be read is refused and the connection closed.
func TestAttackHTTP1(t *testing.T) {
	t.Parallel()
	tg := startTarget(t, hurried(), nil)
	tg.measure(t)
	for _, row := range append(framingRows(tg), headRows(tg)...) {
		t.Run(row.name, func(t *testing.T) { row.run(t, tg) })
	}
	tg.serves(t)
	tg.bounded(t)
}

// framingRows end with Connection: close where the connection would go on.
func framingRows(tg *target) []framingRow {
	head := "Host: x\r\nAuthorization: Bearer " + tg.ada + "\r\n"
	hidden := "GET /v1/users/grace HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + tg.grace + "\r\n\r\n"
	next := "GET /v1/users/ada HTTP/1.1\r\n" + head + "Connection: close\r\n\r\n"
	patch := func(fields, body string) string {
		return "PATCH /v1/users/ada HTTP/1.1\r\n" + head + fields + "\r\n" + body
	}
	const body = `{"displayName":"A"}`
	length := "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	chunks := chunked(body)
	ok, refused, unknown := []string{"200"}, []string{"400 net/http"}, []string{"501 net/http"}
	const closed = "Connection: close\r\n"
	return []framingRow{
		{"right", patch(length+closed, body), ok},
		{"right, in chunks", patch("Transfer-Encoding: chunked\r\n"+closed, chunks), ok},
		// Chunks override the length (RFC 9112, 6.3): both readers of net/http's kind
		// see one end.
		{"CL and TE", patch("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"+closed, chunks), ok},
		{"TE and CL", patch("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"+closed, chunks), ok},
		{"two lengths that differ", patch("Content-Length: 2\r\n"+length, body), refused},
		{"two lengths that agree", patch(length+length+closed, body), ok},
		{"two lengths in one line", patch("Content-Length: 19, 19\r\n", body), refused},
		{"a length with a sign", patch("Content-Length: +19\r\n", body), refused},
		{"a negative length", patch("Content-Length: -1\r\n", body), refused},
		{"a length beyond int64", patch("Content-Length: 99999999999999999999\r\n", body), refused},
		{"a length of 9 EB", patch("Content-Length: 9223372036854775807\r\n", body), []string{"413 BODY_TOO_LARGE"}},
		{"an empty length", patch("Content-Length:\r\n", body), refused},
		{"chunked twice", patch("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks), unknown},
		{"chunked, chunked", patch("Transfer-Encoding: chunked, chunked\r\n", chunks), unknown},
		{"xchunked", patch("Transfer-Encoding: xchunked\r\n", chunks), unknown},
		{"chunked and a tab", patch("Transfer-Encoding:\tchunked\r\n"+closed, chunks), ok},
		{"chunked in quotes", patch("Transfer-Encoding: \"chunked\"\r\n", chunks), unknown},
		{"identity", patch("Transfer-Encoding: identity\r\n"+length, body), unknown},
		{"gzip, chunked", patch("Transfer-Encoding: gzip, chunked\r\n", chunks), unknown},
		{"a space before the colon", patch("Transfer-Encoding : chunked\r\n", chunks), refused},
		{"a folded Transfer-Encoding", patch("Transfer-Encoding:\r\n chunked\r\n"+closed, chunks), ok},
		{"a chunk size beyond 64 bits", patch("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"+body), []string{"400 BODY_BROKEN"}},
		{"a chunk size of 64 bits", patch("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n"+body+strings.Repeat("x", 2<<20)), []string{"413 BODY_TOO_LARGE"}},
		{"a chunk size with a sign", patch("Transfer-Encoding: chunked\r\n", "+13\r\n"+body+"\r\n0\r\n\r\n"), []string{"400 BODY_BROKEN"}},
		{"a chunk size with 0x", patch("Transfer-Encoding: chunked\r\n", "0x13\r\n"+body+"\r\n0\r\n\r\n"), []string{"400 BODY_BROKEN"}},
		{"an empty chunk size", patch("Transfer-Encoding: chunked\r\n", "\r\n"+body+"\r\n0\r\n\r\n"), []string{"400 BODY_BROKEN"}},
		{"a chunk longer than it says", patch("Transfer-Encoding: chunked\r\n", "12\r\n"+body+"\r\n0\r\n\r\n"), []string{"400 BODY_BROKEN"}},
		{"chunk extensions", patch("Transfer-Encoding: chunked\r\n"+closed, "13;a=b;c=\"d\"\r\n"+body+"\r\n0\r\n\r\n"), ok},
		{"a chunk extension of 100 KB", patch("Transfer-Encoding: chunked\r\n", "13;"+strings.Repeat("x", 100_000)+"\r\n"+body+"\r\n0\r\n\r\n"), []string{"400 BODY_BROKEN"}},
		{"a flood of chunk extensions", patch("Transfer-Encoding: chunked\r\n", strings.Repeat("1;"+strings.Repeat("x", 2000)+"\r\n \r\n", 1000)), []string{"400 BODY_BROKEN"}},
		{"trailers that would be headers", patch("Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n"+closed, strings.TrimSuffix(chunks, "\r\n")+"Authorization: Bearer "+tg.grace+"\r\n\r\n"), ok},
		{"a GET in a body", "GET /v1/users/ada HTTP/1.1\r\n" + head + "Content-Length: " + strconv.Itoa(len(hidden)) + "\r\n" + closed + "\r\n" + hidden, ok},
		{"a GET in a refused body", patch("Content-Type: text/plain\r\n"+closed+"Content-Length: "+strconv.Itoa(len(hidden))+"\r\n", hidden), []string{"415 UNSUPPORTED_MEDIA_TYPE"}},
		{"a GET behind 100-continue that is refused", "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " + strconv.Itoa(len(hidden)) + "\r\n\r\n" + hidden, []string{"401"}},
		{"an expectation that is none", patch("Expect: x\r\n"+length, body), []string{"417 net/http"}},
		{"an upgrade to h2c with a body", "GET /v1/users/ada HTTP/1.1\r\n" + head + closed + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\nContent-Length: " + strconv.Itoa(len(hidden)) + "\r\n\r\n" + hidden, ok},
		{"an upgrade to WebSocket", "GET /v1/users/ada HTTP/1.1\r\n" + head + "Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", ok},
		{"the preface of HTTP/2 in the middle", "GET /v1/users/ada HTTP/1.1\r\n" + head + "\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []string{"200", "400 TARGET_REFUSED"}},
		{"requests one behind the other", "GET /v1/users/ada HTTP/1.1\r\n" + head + "\r\nGET /v1/users/nobody HTTP/1.1\r\n" + head + "\r\nGET /nowhere HTTP/1.1\r\n" + head + "\r\n" + next, []string{"200", "403 NOT_OWNER", "404 NO_SUCH_PATH", "200"}},
		{"HTTP/1.0 with chunks, and one behind", "PATCH /v1/users/ada HTTP/1.0\r\n" + head + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + hidden, ok},
	}
}

// headRows are about the lines before a body.
func headRows(tg *target) []framingRow {
	token := "Authorization: Bearer " + tg.ada + "\r\n"
	get := func(fields string) string {
		return "GET /v1/users/ada HTTP/1.1\r\nHost: x\r\n" + fields + token + "Connection: close\r\n\r\n"
	}
	line := func(first string) string { return first + "\r\nHost: x\r\n" + token + "Connection: close\r\n\r\n" }
	ok, refused := []string{"200"}, []string{"400 net/http"}
	return []framingRow{
		{"no Host", "GET /v1/users/ada HTTP/1.1\r\n\r\n", refused},
		{"two Hosts", get("Host: y\r\n"), refused},
		{"a folded line", get("X-A: 1\r\n 2\r\n"), ok},
		{"a folded first line", "GET /v1/users/ada HTTP/1.1\r\n X-A: 1\r\nHost: x\r\n\r\n", refused},
		{"bare LF", strings.ReplaceAll(get(""), "\r\n", "\n"), ok}, // RFC 9112, 2.2: may be taken.
		{"bare CR", "GET /v1/users/ada HTTP/1.1\rHost: x\r\r", refused},
		{"a line without a colon", get("X-A\r\n"), refused},
		{"a line of a colon", get(":\r\n"), refused},
		{"an empty name", get(": x\r\n"), refused},
		{"a space before the colon", get("X-A : 1\r\n"), refused},
		{"a space in a name", get("X A: 1\r\n"), refused},
		{"a NUL in a name", get("X-\x00A: 1\r\n"), refused},
		{"a NUL in a value", get("X-A: \x00\r\n"), refused},
		{"a pseudo-header", get(":path: /v1/users/grace\r\n"), refused},
		{"HTTP/0.9", "GET /v1/users/ada\r\n\r\n", refused},
		{"HTTP/1.2", line("GET /v1/users/ada HTTP/1.2"), ok},
		{"HTTP/2.0 without its preface", line("GET /v1/users/ada HTTP/2.0"), []string{"505 net/http"}},
		{"HTTP/9.9", line("GET /v1/users/ada HTTP/9.9"), []string{"505 net/http"}},
		{"a version in lower case", line("GET /v1/users/ada http/1.1"), refused},
		{"a method in lower case", line("get /v1/users/ada HTTP/1.1"), []string{"405 METHOD_NOT_ALLOWED"}},
		{"TRACE", line("TRACE /v1/users/ada HTTP/1.1"), []string{"405 METHOD_NOT_ALLOWED"}},
		{"CONNECT", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\nConnection: close\r\n\r\n", []string{"400 TARGET_REFUSED"}},
		{"a method of 1,000 bytes", line(strings.Repeat("M", 1000) + " /v1/users/ada HTTP/1.1"), []string{"405 METHOD_NOT_ALLOWED"}},
		{"a method that is none", line("G(T /v1/users/ada HTTP/1.1"), refused},
		{"200 header lines", get(strings.Repeat("X-A: 1\r\n", 200)), []string{"431 TOO_MANY_HEADERS"}},
		{"2,000 names", get(manyNames(2000)), []string{"431 TOO_MANY_HEADERS"}},
		{"70 KiB of header", get("X-A: " + strings.Repeat("a", 70<<10) + "\r\n"), []string{"431 net/http"}},
		{"10 MiB of header", get("X-A: " + strings.Repeat("a", 10<<20) + "\r\n"), []string{"431 net/http"}},
		{"10 MiB of request line", line("GET /" + strings.Repeat("a", 10<<20) + " HTTP/1.1"), []string{"431 net/http"}},
		{"empty lines in front", "\r\n\r\n\r\n" + get(""), refused},
		{"TLS to a plaintext port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 100) + "\r\n\r\n", refused},
		{"garbage", strings.Repeat("\xff\x00", 1000) + "\r\n\r\n", refused},
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%d: 1\r\n", i)
	}
	return b.String()
}

// TestAttackSlowness: whoever sends slowly is let go after the configured time,
// however steadily the bytes drip.
func TestAttackSlowness(t *testing.T) {
	t.Parallel()
	tg := startTarget(t, hurried(), nil)
	tg.measure(t)
	auth := "Authorization: Bearer " + tg.ada + "\r\n"
	var all sync.WaitGroup
	for _, c := range []struct {
		name, first, drip string
		want, reason      string // the beginning of the answer and a part of it; empty: closed without a word
	}{
		{"nothing", "", "", "", ""},
		{"half a request line", "GET /v1/us", "e", "HTTP/1.1 400", ""},
		{"headers that never end", "GET /v1/users/ada HTTP/1.1\r\nHost: x\r\n", "X-A: 1\r\n", "", ""},
		{"half a preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nS", "", "HTTP/1.1 400", "TARGET_REFUSED"},
		{"a body that never comes", "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 100\r\n\r\n", "", "HTTP/1.1 408", "BODY_TOO_SLOW"},
		{"a body that drips", "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 100000\r\n\r\n", "x", "HTTP/1.1 408", "BODY_TOO_SLOW"},
		{"chunks that drip", "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "HTTP/1.1 408", "BODY_TOO_SLOW"},
		{"a chunk's size that never ends", "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n0", "0", "HTTP/1.1 408", "BODY_TOO_SLOW"},
		// net/http makes one error of all that is wrong with trailers.
		{"trailers that drip", "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-A: 1\r\n", "HTTP/1.1 400", "BODY_BROKEN"},
		{"gzip that drips", "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00", "n", "HTTP/1.1 408", "BODY_TOO_SLOW"},
		{"a body of a refused request that drips", "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "x", "HTTP/1.1 401", ""},
		{"a body of GET that drips", "GET /v1/users/ada HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 100000\r\n\r\n", "x", "HTTP/1.1 200", ""},
	} {
		all.Go(func() {
			v, ended, err := drip(t.Context(), tg.addr, c.first, c.drip)
			switch {
			case err != nil:
				t.Errorf("%s: %v", c.name, err)
			case !ended:
				t.Errorf("%s: after %v the connection is still open; answered: %q", c.name, soon, v)
			case c.want == "" && v != "", !strings.HasPrefix(v, c.want), !strings.Contains(v, c.reason):
				t.Errorf("%s: %q; want %q %s", c.name, v, c.want, c.reason)
			}
		})
	}
	all.Wait()
	tg.serves(t)
	tg.bounded(t)
}

// drip sends the first bytes and then the others again and again, until the
// other side closes the connection or soon is over. It returns what was answered.
func drip(ctx context.Context, addr, first, more string) (answered string, ended bool, err error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", false, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		return "", false, err
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		_, err := io.WriteString(c, first)
		for err == nil && more != "" {
			select {
			case <-time.After(50 * time.Millisecond):
				_, err = io.WriteString(c, more)
			case <-stop:
				return
			}
		}
	}()
	// What is sent behind an answer makes the kernel reset the connection in the
	// end: what was received until then counts.
	got, err := io.ReadAll(c)
	return string(got), !errors.Is(err, os.ErrDeadlineExceeded), nil
}
