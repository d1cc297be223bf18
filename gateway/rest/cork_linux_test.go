package rest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// packets is an end of a connection that keeps apart what was written apart: a
// read returns what one write or writev sent. It remembers the rest of a packet,
// and counts them.
type packets struct {
	*net.UnixConn // With its writev.
	r             *bufio.Reader
	n             atomic.Int64
}

func newPackets(c net.Conn) *packets {
	p := &packets{UnixConn: c.(*net.UnixConn)}
	p.r = bufio.NewReaderSize(packetReader{p}, 256<<10)
	return p
}

func (p *packets) Read(b []byte) (int, error) { return p.r.Read(b) }

type packetReader struct{ p *packets }

func (r packetReader) Read(b []byte) (int, error) {
	n, err := r.p.UnixConn.Read(b)
	if n > 0 {
		r.p.n.Add(1)
	}
	return n, err
}

type packetListener struct{ net.Listener }

func (l packetListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newPackets(c), nil
}

// TestOneWrite: an answer of up to 60 KB leaves in one system call, header and
// all, with TLS and without. The kernel is witness: SOCK_SEQPACKET keeps writes apart.
func TestOneWrite(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "tls"}[secure], func(t *testing.T) {
			l, err := net.Listen("unixpacket", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			c := newCorked(t, packetListener{l}, secure, nil)
			raw, err := net.Dial("unixpacket", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			p := newPackets(raw)
			var conn net.Conn = p
			if secure {
				conn = tls.Client(p, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			}
			r := bufio.NewReader(conn)
			get := func(size int) int64 {
				t.Helper()
				c.conn.size.Store(int64(size))
				before := p.n.Load()
				if _, err := fmt.Fprint(conn, getNames); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(r, &http.Request{Method: http.MethodGet})
				if err != nil {
					t.Fatal(err)
				}
				if a := readAnswer(t, res); a.body != names(size) {
					t.Errorf("other bytes: %d, want %d", len(a.body), len(names(size)))
				}
				return p.n.Load() - before
			}
			get(1) // With the handshake.
			for _, size := range []int{0, 200, 600, 2000, 3500, 3700, 4100, 8000, 11_000, 30_000, 60_000, 11_000, 200} {
				if n := get(size); n != 1 {
					t.Errorf("%d bytes: %d writes", size, n)
				}
			}
		})
	}
}
