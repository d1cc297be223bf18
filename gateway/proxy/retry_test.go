package proxy_test

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestARequestIsSentTwiceAtMost: an answer that cannot be read is one all the same, and a
// connection that ends under a request says little of the others: that many are idle
// does not multiply a request.
func TestARequestIsSentTwiceAtMost(t *testing.T) {
	const idle = 4
	for name, tc := range map[string]struct {
		does script
		most int32
	}{
		"a header that is too large":       {says("HTTP/1.1 200 OK\r\nX-Big: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), 1},
		"no HTTP":                          {says("SSH-2.0-OpenSSH\r\n\r\n"), 1},
		"a header that breaks off":         {says("HTTP/1.1 200 OK\r\nX-"), 1},
		"an interim answer and no other":   {says("HTTP/1.1 100 Continue\r\n\r\n"), 1},
		"the connection ends":              {says(""), 2},
		"a length that is none":            {says("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), 1},
		"a connection of another protocol": {says("HTTP/2.0 200 OK\r\n\r\n"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			var there sync.WaitGroup
			there.Add(idle)
			s := scriptedBackend(t, func(c net.Conn, in *bufio.Reader) {
				asked.Add(1)
				tc.does(c, in)
				_ = c.Close()
			})
			s.wait = func() {
				there.Done()
				there.Wait()
			}
			_, url := start(t, all(s, once))
			var first sync.WaitGroup
			for range idle {
				first.Go(func() {
					if got := ask(t, "GET", url+"/wait", "", nil); got != "200 proper" {
						t.Error(got)
					}
				})
			}
			first.Wait()
			if n := s.conns.Load(); n != idle {
				t.Fatalf("%d connections", n)
			}
			ask(t, "GET", url+"/odd", "", nil)
			if n := asked.Load(); n < 1 || n > tc.most {
				t.Errorf("the request was sent %d times, want %d at most", n, tc.most)
			}
		})
	}
}
