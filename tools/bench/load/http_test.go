package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func drop(int) *prefix { return nil }

func TestReadAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want answer
		rest string // left for the next answer
	}{
		"length":            {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP", answer{200, 5, false}, "HTTP"},
		"length in capital": {"HTTP/1.1 404 Not Found\r\nCONTENT-LENGTH:\t2 \r\n\r\nno", answer{404, 2, false}, ""},
		"no reason":         {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", answer{200, 0, false}, ""},
		"chunks":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\nrest", answer{200, 15, false}, "rest"},
		"trailer":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n", answer{200, 1, false}, ""},
		"no content":        {"HTTP/1.1 204 No Content\r\n\r\nnext", answer{204, 0, false}, "next"},
		"interim":           {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", answer{200, 1, false}, ""},
		"close":             {"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\nx", answer{200, 1, true}, ""},
		"until the end":     {"HTTP/1.1 200 OK\r\n\r\nall of it", answer{200, 9, true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			// The smallest buffer there is: bodies come in pieces.
			in := bufio.NewReaderSize(strings.NewReader(tc.in), 64)
			got, err := readAnswer(in, drop)
			if err != nil || got != tc.want {
				t.Errorf("%+v, error %v; want %+v", got, err, tc.want)
			}
			if rest, _ := io.ReadAll(in); string(rest) != tc.rest {
				t.Errorf("left %q, want %q", rest, tc.rest)
			}
		})
	}
}

func TestReadAnswerRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":            "",
		"another protocol":   "HTTP/2 200 OK\r\n\r\n",
		"no number":          "HTTP/1.1 abc OK\r\n\r\n",
		"a long number":      "HTTP/1.1 2000 OK\r\n\r\n",
		"a bare line feed":   "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
		"cut in the head":    "HTTP/1.1 200 OK\r\nContent-",
		"cut in the body":    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
		"cut in a chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
		"no last chunk":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
		"chunk too long":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
		"no chunk size":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
		"negative chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		"length and chunks":  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
		"negative length":    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"another coding":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"a folded line":      "HTTP/1.1 200 OK\r\nA: b\r\n c: d\r\n\r\n",
		"no colon":           "HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
		"other protocol now": "HTTP/1.1 101 Switching Protocols\r\n\r\n",
	} {
		if got, err := readAnswer(bufio.NewReader(strings.NewReader(in)), drop); err == nil {
			t.Errorf("%s: %q gives %+v, want an error", name, in, got)
		}
	}
}

// What both this reader and net/http take, they take for the same.
func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := readAnswer(bufio.NewReader(strings.NewReader(s)), func(int) *prefix { return &prefix{} })
		if err != nil {
			return
		}
		in := bufio.NewReader(strings.NewReader(s))
		res, err := http.ReadResponse(in, nil)
		for err == nil && res.StatusCode/100 == 1 { // net/http's client passes over these too.
			res, err = http.ReadResponse(in, nil)
		}
		if err != nil {
			return
		}
		size, err := io.Copy(io.Discard, res.Body)
		if err == nil && (size != got.size || res.StatusCode != got.status) {
			t.Errorf("%q: read %+v, net/http %d and %d bytes", s, got, res.StatusCode, size)
		}
	})
}

func TestHTTPCalls(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if asked.Add(1)%3 == 0 {
			w.Header().Set("Connection", "close")
		}
		if r.Method == http.MethodPost && string(body) == `{"a":1}` && r.Header.Get("Content-Type") == "application/json" {
			w.WriteHeader(http.StatusCreated)
		}
		fmt.Fprint(w, strings.Repeat("x", 100_000)) // Chunked.
	}))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	h, err := DialHTTP(t.Context(), addr, []Request{
		NewRequest("GET", addr, "/x", "secret", "", nil, 200),
		NewRequest("POST", addr, "/x", "secret", "application/json", []byte(`{"a":1}`), 201),
		NewRequest("GET", addr, "/x", "", "", nil, 401),
		NewRequest("GET", addr, "/x", "", "", nil, 200),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for round := range 4 {
		for n := range 3 {
			if err := h.Call(t.Context(), 4*round+n); err != nil {
				t.Fatalf("round %d, request %d: %v", round, n, err)
			}
		}
	}
	if err := h.Call(t.Context(), 3); err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "who are you?") {
		t.Errorf("error %v, want the 401 and its body", err)
	}
}

func TestInterruptEndsACall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // Accepts and says nothing.
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h, err := DialHTTP(t.Context(), l.Addr().String(), []Request{NewRequest("GET", "x", "/", "", "", nil, 200)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	done := make(chan error)
	go func() { done <- h.Call(t.Context(), 0) }()
	h.Interrupt()
	var timeout net.Error
	if err := <-done; !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error %v, want a timeout", err)
	}
}
