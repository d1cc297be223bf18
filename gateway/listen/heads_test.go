package listen

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// doubted says whether heads doubts what comes in parts of n bytes.
func doubted(in string, n int) bool {
	var h heads
	for part := range slices.Chunk([]byte(in), n) {
		h.feed(part)
	}
	return h.doubt.Load()
}

// TestHeads: each connection is fed in parts of every size.
func TestHeads(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	post := func(head, body string) string { return "POST / HTTP/1.1\r\nHost: x\r\n" + head + "\r\n" + body }
	chunked := "Transfer-Encoding: chunked\r\n"
	for name, tc := range map[string]struct {
		send  string
		doubt bool
	}{
		"two requests":                  {get + get, false},
		"bodies":                        {post("Content-Length: 5\r\n", "a\nb\nc") + post("content-length:\t2 \r\n", "\n ") + get, false},
		"a body that looks like a head": {post("Content-Length: 38\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n") + get, false},
		"chunks":                        {post(chunked, "2\r\n\n \r\nA;x=y\r\n0123456789\r\n0\r\n\r\n") + post(chunked, "0\r\nContent-Length: 5\r\n\r\n") + get, false},
		"chunks in capitals":            {post("TRANSFER-ENCODING:CHUNKED\r\n", "0\r\n\r\n") + get, false},
		"a long line":                   {post("X-A: "+strings.Repeat("a", 1000)+"\r\n", "") + get, false},
		"a name that is longer":         {post("Content-Length-X: a\r\nX-Content-Length: b\r\n", "") + get, false},
		"an empty body":                 {post("Content-Length: 0\r\n", "") + get, false},
		"a tab before a value":          {post("Content-Length:\t2\r\n", "{}") + get, false},

		"CL and TE":                     {post("Content-Length: 5\r\n"+chunked, "0\r\n\r\n"), true},
		"TE and CL":                     {post(chunked+"X: y\r\nContent-Length: 0\r\n", "0\r\n\r\n"), true},
		"CL and TE, in the second":      {post("Content-Length: 2\r\n", "{}") + post("Content-Length: 5\r\n"+chunked, "0\r\n\r\n"), true},
		"CL and TE, behind chunks":      {post(chunked, "3\r\nabc\r\n0\r\n\r\n") + post("Content-Length: 5\r\n"+chunked, "0\r\n\r\n"), true},
		"CL twice, the same":            {post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"), true},
		"CL with a comma":               {post("Content-Length: 2, 2\r\n", "{}"), true},
		"CL with a sign":                {post("Content-Length: +2\r\n", "{}"), true},
		"CL of nothing":                 {post("Content-Length:\r\n", "{}"), true},
		"CL too large":                  {post("Content-Length: 99999999999999999999\r\n", "{}"), true},
		"CL behind many spaces":         {post("Content-Length:"+strings.Repeat(" ", 200)+"2\r\n", "{}"), false},
		"TE twice":                      {post(chunked+chunked, "0\r\n\r\n"), true},
		"TE that ends in another":       {post("Transfer-Encoding: chunked, gzip\r\n", ""), true},
		"TE before chunked":             {post("Transfer-Encoding: gzip, chunked\r\n", ""), true},
		"TE of nothing":                 {post("Transfer-Encoding:\r\n", ""), true},
		"a folded line":                 {post("X-A: 1\r\n 2\r\n", ""), true},
		"a line folded by a tab":        {post("X-A: 1\r\n\t2\r\n", ""), true},
		"a length folded in":            {post("X-A: 1\r\n Content-Length: 2\r\n", "{}"), true},
		"a line end of LF":              {"GET / HTTP/1.1\r\nHost: x\nX-A: 1\r\n\r\n", true},
		"a request line end of LF":      {"GET / HTTP/1.1\nHost: x\r\n\r\n", true},
		"a head's end of LF":            {"GET / HTTP/1.1\r\nHost: x\r\n\n", true},
		"a chunk size's end of LF":      {post(chunked, "2\n{}\r\n0\r\n\r\n"), true},
		"a chunk longer than it says":   {post(chunked, "1\r\n{}\r\n0\r\n\r\n"), true},
		"a chunk size that is none":     {post(chunked, "x\r\n"), true},
		"a chunk size with a sign":      {post(chunked, "-1\r\n"), true},
		"a trailer's end of LF":         {post(chunked, "0\r\nX: y\n\r\n"), true},
		"a long line that ends in LF":   {post("X-A: "+strings.Repeat("a", 1000)+"\n", ""), true},
		"a second head that ends in LF": {get + "GET / HTTP/1.1\r\nHost: x\r\n\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; n <= len(tc.send); n++ {
				got := doubted(tc.send, n)
				if name == "CL behind many spaces" && n < len(tc.send) { // Cut, it is too long to be held.
					continue
				}
				if got != tc.doubt {
					t.Fatalf("in parts of %d bytes: %v", n, got)
				}
			}
		})
	}
}

// FuzzHeads: what raises no doubt is read by net/http with the same end.
func FuzzHeads(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\n{}\r\n0\r\nX: y\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", "GET / HTTP/1.1\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(7))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		var h heads
		for part := range slices.Chunk(in, int(cut)+1) {
			h.feed(part)
		}
		if h.doubt.Load() || h.left > 0 {
			return
		}
		// net/http reads one request after the other; where it stops between two, so
		// does heads.
		r := bufio.NewReader(bytes.NewReader(in))
		for {
			if _, err := r.Peek(1); err != nil {
				break
			}
			req, err := http.ReadRequest(r)
			if err != nil || req.ProtoMajor != 1 || req.ProtoMinor == 0 {
				return // Refused, or closed after the answer.
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
		if h.state == inChunkSize || h.state == inChunk || h.state == inTrailers || h.begun {
			t.Errorf("net/http is between two requests, heads is not: %+v", h.state)
		}
	})
}

func BenchmarkHeads(b *testing.B) {
	in := []byte("GET /v1/users/ada HTTP/1.1\r\nHost: gateway.test\r\nUser-Agent: bench/1.0 (linux)\r\nAccept: application/json\r\nAccept-Encoding: gzip, zstd\r\n" +
		"Authorization: Bearer " + strings.Repeat("x", 700) + "\r\nX-Request-Id: 0123456789\r\nContent-Length: 40\r\nContent-Type: application/json\r\n\r\n" + strings.Repeat(" ", 40))
	var h heads
	b.ReportAllocs()
	for b.Loop() {
		h.feed(in)
	}
	if h.doubt.Load() {
		b.Fatal("doubted")
	}
}
