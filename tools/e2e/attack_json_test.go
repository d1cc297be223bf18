package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"strconv"
	"strings"
	"testing"
)

// TestAttackJSON: hostile bodies are refused, at a price that the process can
// pay: each is sent to a call that its sender may make.
func TestAttackJSON(t *testing.T) {
	t.Parallel()
	tg := startTarget(t, nil, nil)
	tg.measure(t)
	const size = 1 << 20 // What a call takes by default.
	fit := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for _, c := range []struct {
		name, body string
		status     int
		reason     string
	}{
		{"right", `{"displayName":"Ada Lovelace"}`, 200, ""},
		{"a name twice", `{"displayName":"A","displayName":"B"}`, 400, ""},
		{"a name in both spellings", `{"displayName":"A","display_name":"B"}`, 400, ""},
		{"a name twice, once escaped", `{"displayName":"A","display\u004eame":"B"}`, 400, ""},
		{"the owner in the body, against the path", `{"userId":"grace","displayName":"X"}`, 200, ""}, // The path decides.
		{"deep lists", fit("["), 400, "JSON_TOO_DEEP"},
		{"deep objects", fit(`{"a":`), 400, "JSON_TOO_DEEP"},
		{"deep unknown values", `{"displayName":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, 400, "JSON_TOO_DEEP"},
		{"just deep enough", strings.Repeat("[", 60) + strings.Repeat("]", 60), 400, ""},
		{"brackets in a text are no depth", `{"displayName":"` + strings.Repeat("[", 90) + `"}`, 200, ""},
		{"closing brackets", fit("]"), 400, ""},
		{"one byte too many", fit("[") + "[", 413, "BODY_TOO_LARGE"},
		{"a number of a megabyte", fit("9"), 400, ""},
		{"a number of a megabyte in a field", `{"displayName":` + strings.Repeat("9", size-100) + `}`, 400, ""},
		{"a huge exponent", `{"createTime":1e999999999}`, 400, ""},
		{"a huge exponent in an unknown field", `{"x":1e999999999}`, 400, ""},
		{"a text of a megabyte", `{"displayName":"` + strings.Repeat("x", size-100) + `"}`, 400, ""},
		{"a text of escapes", `{"displayName":"` + strings.Repeat(`\u0041`, 150_000) + `"}`, 400, ""},
		{"no UTF-8", "{\"displayName\":\"\xff\xfe\"}", 400, ""},
		{"overlong UTF-8", "{\"displayName\":\"\xc0\x80\"}", 400, ""},
		{"half a surrogate", `{"displayName":"\ud800"}`, 400, ""},
		{"a byte order mark", "\xef\xbb\xbf{\"displayName\":\"A\"}", 400, ""},
		{"UTF-16", "\xff\xfe{\x00}\x00", 400, ""},
		{"a NUL behind", `{"displayName":"A"}` + "\x00", 400, ""},
		{"a raw control character in a text", "{\"displayName\":\"a\x01b\"}", 400, ""},
		{"a second value behind", `{"displayName":"A"}{"displayName":"B"}`, 400, ""},
		{"garbage behind", `{"displayName":"A"} x`, 400, ""},
		{"a comma behind", `{"displayName":"A",}`, 400, ""},
		{"comments", `{/* */"displayName":"A"}`, 400, ""},
		{"single quotes", `{'displayName':'A'}`, 400, ""},
		{"NaN", `{"displayName":NaN}`, 400, ""},
		{"spaces", fit(" "), 400, ""},
		{"a list", `[]`, 400, ""},
		{"a text", `"x"`, 400, ""},
		{"null", `null`, 400, ""},
		{"half", `{"displayName":"A`, 400, ""},
		{"a wrong type", `{"displayName":{"a":1}}`, 400, ""},
		{"an unknown field", `{"isAdmin":true}`, 400, ""},
		{"100,000 unknown fields", manyFields(40_000), 400, ""},
		{"100,000 times one field", "{" + strings.Repeat(`"a":1,`, 100_000) + `"a":1}`, 400, ""},
		{"keys of JavaScript", `{"__proto__":{"isAdmin":true},"constructor":{"prototype":{"isAdmin":true}}}`, 400, ""},
		{"an any", `{"@type":"type.googleapis.com/google.protobuf.Any","value":{}}`, 400, ""},
		{"an unknown any", `{"@type":"type.googleapis.com/shop.user.v1.User"}`, 400, ""},
		{"an extension", `{"[google.api.http]":{}}`, 400, ""},
		{"XML", `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>`, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) { cheap(t, tg, c.body, "", c.status, c.reason) })
	}
	for _, c := range []struct {
		name, body, head string
		status           int
		reason           string
	}{
		{"a bomb of 1 MB", bomb(t, size-1), "Content-Encoding: gzip\r\n", 413, "BODY_TOO_LARGE"},
		{"a bomb of 10 MB", bomb(t, 10<<20), "Content-Encoding: gzip\r\n", 413, "BODY_TOO_LARGE"},
		{"a bomb called zstd", bomb(t, 1000), "Content-Encoding: zstd\r\n", 415, "UNSUPPORTED_ENCODING"},
		{"a bomb in a bomb", bomb(t, 1000), "Content-Encoding: gzip, gzip\r\n", 415, "UNSUPPORTED_ENCODING"},
		{"a bomb in two lines", bomb(t, 1000), "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", 415, "UNSUPPORTED_ENCODING"},
		{"gzip that is none", "{}", "Content-Encoding: gzip\r\n", 400, "BODY_NOT_GZIP"},
		{"a form", "displayName=A", "Content-Type: application/x-www-form-urlencoded\r\n", 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"a form in parts", "--x\r\n\r\n--x--", "Content-Type: multipart/form-data; boundary=x\r\n", 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"two types", "{}", "Content-Type: application/json\r\nContent-Type: text/plain\r\n", 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"another charset", "{}", "Content-Type: application/json; charset=utf-7\r\n", 200, ""}, // It is UTF-8 whatever they call it (RFC 8259, 8.1).
	} {
		t.Run(c.name, func(t *testing.T) { cheap(t, tg, c.body, c.head, c.status, c.reason) })
	}
	tg.serves(t)
	tg.bounded(t)
}

// dear is the processor time in seconds that no body may cost; a race detector
// or a slow machine is within it, what grows with the square of a megabyte is not.
const dear = 5

// cheap sends a body, of a known length and in chunks, and looks at the outcome
// and at its price.
func cheap(t *testing.T, tg *target, body, head string, status int, reason string) {
	t.Helper()
	before := tg.metric(t, "process_cpu_seconds_total")
	request := "PATCH /v1/users/ada HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + tg.ada + "\r\n" + head
	for kind, send := range map[string]string{
		"length": request + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body,
		"chunks": request + "Transfer-Encoding: chunked\r\n\r\n" + chunked(body),
	} {
		got := exchange(t, tg.addr, send, 1)
		if len(got) != 1 || got[0].status != status || got[0].reason != reason {
			t.Errorf("%s: %v; want %d %s", kind, got, status, reason)
			continue
		}
		if got[0].status == 200 && !strings.Contains(got[0].body, `"userId":"ada"`) {
			t.Errorf("%s: %v", kind, got)
		}
		if len(got[0].body) > 16<<10 {
			t.Errorf("%s: an answer of %d bytes", kind, len(got[0].body))
		}
	}
	if cost := tg.metric(t, "process_cpu_seconds_total") - before; cost > dear {
		t.Errorf("it cost %.1f s of processor time", cost)
	}
}

// chunked is a body in chunks of 64 KiB.
func chunked(body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(len(body), 64<<10)
		b.WriteString(strconv.FormatInt(int64(n), 16) + "\r\n" + body[:n] + "\r\n")
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// manyFields is an object of n different names.
func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"f` + strconv.Itoa(i) + `":null,`)
	}
	return "{" + b.String() + `"z":1}`
}

// bomb is gzip of about as many bytes that unpacks to a thousand times as much:
// the compressed form of some spaces, over and over, for what a flush ends can
// be repeated.
func bomb(t *testing.T, size int) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	spaces := bytes.Repeat([]byte(" "), 8<<20)
	var ends []int
	for range 2 {
		if _, err := w.Write(spaces); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, packed.Len())
	}
	again := packed.Bytes()[ends[0]:ends[1]]
	out := bytes.Clone(packed.Bytes())
	for len(out)+len(again) <= size {
		out = append(out, again...)
	}
	// It must be what it is said to be, or nothing was tried.
	r, err := gzip.NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, r, 24<<20); err != nil && len(out) > 64<<10 {
		t.Fatalf("the bomb is a dud after %d bytes: %v", n, err)
	}
	return string(out)
}
