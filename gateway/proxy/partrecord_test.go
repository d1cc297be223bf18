package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/proxy"
)

// held is the connection below a backend's TLS, which sends what it has been given, but
// for the last bytes, in one go.
type held struct {
	net.Conn
	mu   sync.Mutex
	hold bool
	rest []byte
}

func (h *held) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rest = append(h.rest, p...); h.hold {
		return len(p), nil
	}
	_, err := h.Conn.Write(h.rest)
	h.rest = nil
	return len(p), err
}

func (h *held) release(most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.rest) - most
	_, _ = h.Conn.Write(h.rest[:n])
	h.rest, h.hold = h.rest[n:], false
}

// TestPartOfARecordIsStray: the first part of another answer comes with the answer, and
// lies in the buffers of TLS, which waits for the rest as for a next answer.
func TestPartOfARecordIsStray(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "up.internal")
	pair, err := tls.LoadX509KeyPair(a.path("up.internal.pem"), a.path("up.internal.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, late := range map[string]int{"all but a byte": 1, "a half": 30, "its header alone": 45 + 17, "a part of its header": 45 + 17 + 3} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var ended sync.WaitGroup
			t.Cleanup(func() { _ = l.Close(); ended.Wait() })
			ended.Go(func() {
				for {
					inner, err := l.Accept()
					if err != nil {
						return
					}
					ended.Go(func() {
						defer func() { _ = inner.Close() }()
						h := &held{Conn: inner}
						c := tls.Server(h, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
						in := bufio.NewReader(c)
						for {
							line, _, ok := readHead(in)
							if !ok {
								return
							}
							h.mu.Lock()
							h.hold = strings.Contains(line, " /odd ")
							h.mu.Unlock()
							if !strings.Contains(line, " /odd ") {
								h.release(0) // What was held back.
							}
							_, _ = io.WriteString(c, proper)
							if strings.Contains(line, " /odd ") {
								_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother")
								h.release(late)
							}
						}
					})
				}
			})
			s := &scripted{addr: l.Addr().String()}
			o := all(s, once)
			up := o.Upstreams["up"]
			up.TLS = &proxy.TLSOptions{CAFile: a.path("ca.pem"), ServerName: "up.internal"}
			o.Upstreams["up"] = up
			_, url := start(t, o)
			for range 5 {
				if got := ask(t, "GET", url+"/odd", "", nil); got != "200 proper" {
					t.Fatal(got)
				}
				if got := ask(t, "GET", url+"/next", "", nil); got != "200 proper" {
					t.Fatalf("the next caller got %q", got)
				}
			}
		})
	}
}
