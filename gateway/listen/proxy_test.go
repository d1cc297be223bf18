package listen

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// v2 is a header of version 2 for a client at src, with extensions.
func v2(t testing.TB, src, dst string, tlvs ...proxyproto.TLV) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(src)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(dst)))
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// withSum is a header of version 2 with a checksum that fits.
func withSum(t testing.TB) string {
	b := []byte(v2(t, "203.0.113.7:4711", "192.0.2.2:443", proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("x")},
		proxyproto.TLV{Type: proxyproto.PP2_TYPE_CRC32C, Value: make([]byte, 4)}))
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

const local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

type headerCase struct {
	name, header string
	want         string // client, `local` or empty: refused
}

func headerCases(t testing.TB) []headerCase {
	four := v2(t, "203.0.113.7:4711", "192.0.2.2:443")
	unix := string(append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8"), make([]byte, 216)...))
	sum := withSum(t)
	return []headerCase{
		{"v1 IPv4", "PROXY TCP4 203.0.113.7 192.0.2.2 4711 443\r\n", "203.0.113.7:4711"},
		{"v1 IPv6", "PROXY TCP6 2001:db8::7 2001:db8::2 4711 443\r\n", "[2001:db8::7]:4711"},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "local"},
		{"v1 unknown with addresses", "PROXY UNKNOWN ffff:f 1 2 3 4\r\n", "local"},
		{"v2 IPv4", four, "203.0.113.7:4711"},
		{"v2 IPv6", v2(t, "[2001:db8::7]:4711", "[2001:db8::2]:443"), "[2001:db8::7]:4711"},
		{"v2 mapped", v2(t, "[::ffff:203.0.113.7]:4711", "[2001:db8::2]:443"), "203.0.113.7:4711"},
		{"v2 with TLVs", v2(t, "203.0.113.7:4711", "192.0.2.2:443", proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("example.com")},
			proxyproto.TLV{Type: 0xEA, Value: bytes.Repeat([]byte("x"), 1000)}), "203.0.113.7:4711"},
		{"v2 with a checksum", sum, "203.0.113.7:4711"},
		{"v2 local", local, "local"},

		{"v2 wrong checksum", sum[:len(sum)-1] + "?", ""},
		{"v2 checksum of another client", sum[:16] + "\x01" + sum[17:], ""},
		{"v2 short checksum", v2(t, "203.0.113.7:4711", "192.0.2.2:443", proxyproto.TLV{Type: proxyproto.PP2_TYPE_CRC32C, Value: []byte("xx")}), ""},
		{"v2 too long", v2(t, "203.0.113.7:4711", "192.0.2.2:443", proxyproto.TLV{Type: 0xEA, Value: bytes.Repeat([]byte("x"), 5000)}), ""},
		{"v2 TLV that does not fit", four[:15] + "\x10" + four[16:] + "\x01\xff\xff\x00", ""},
		{"v2 version 3", strings.Replace(four, "\x21\x11", "\x31\x11", 1), ""},
		{"v2 command 2", strings.Replace(four, "\x21\x11", "\x22\x11", 1), ""},
		{"v2 UDP", strings.Replace(four, "\x21\x11", "\x21\x12", 1), ""},
		{"v2 Unix", unix, ""},
		{"v2 unspecified family", strings.Replace(four, "\x21\x11", "\x21\x00", 1), ""},
		{"v2 length too short", four[:15] + "\x04" + four[16:20], ""},
		{"v2 unspecified address", v2(t, "0.0.0.0:1", "192.0.2.2:443"), ""},
		{"v2 multicast", v2(t, "224.0.0.1:1", "192.0.2.2:443"), ""},
		{"v1 wrong family", "PROXY TCP4 2001:db8::7 2001:db8::2 4711 443\r\n", ""},
		{"v1 IPv4 as TCP6", "PROXY TCP6 203.0.113.7 192.0.2.2 4711 443\r\n", ""},
		{"v1 leading zero", "PROXY TCP4 203.0.113.07 192.0.2.2 4711 443\r\n", ""},
		{"v1 port", "PROXY TCP4 203.0.113.7 192.0.2.2 65536 443\r\n", ""},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", ""},
		{"v1 spaces", "PROXY  TCP4 203.0.113.7 192.0.2.2 4711 443\r\n", ""},
		{"v1 more", "PROXY TCP4 203.0.113.7 192.0.2.2 4711 443 5\r\n", ""},
		{"v1 without CR", "PROXY TCP4 203.0.113.7 192.0.2.2 4711 443\n", ""},
		{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n", ""},
		{"v1 short", "PROXY TCP4\r\nxxxxxxxxxxxxxxxxxx", ""},
		{"v1 lower case", "proxy tcp4 203.0.113.7 192.0.2.2 4711 443\r\n", ""},
		{"v1 signature of something else", "PROXYTCP4 203.0.113.7 192.0.2.2 4711 443\r\n", ""},
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"an HTTP method that begins alike", "PROPFIND / HTTP/1.1\r\n\r\n", ""},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03xxxxxxxx", ""},
		{"h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
	}
}

// TestReadProxyHeader: whole, byte by byte, and cut off anywhere; what follows
// the header is not touched.
func TestReadProxyHeader(t *testing.T) {
	for _, tc := range headerCases(t) {
		t.Run(tc.name, func(t *testing.T) {
			for how, wrap := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "EOF with data": iotest.DataErrReader,
			} {
				rest := strings.NewReader(tc.header + "rest")
				got, err := readProxyHeader(wrap(rest))
				if tc.want == "" {
					if err == nil || got != nil {
						t.Errorf("%s: %v, %v; want an error alone", how, got, err)
					}
					continue
				}
				if err != nil || say(got) != tc.want {
					t.Errorf("%s: %s, %v; want %s", how, say(got), err, tc.want)
				}
				if left, _ := io.ReadAll(rest); how == "whole" && string(left) != "rest" {
					t.Errorf("left %q", left)
				}
			}
			for n := range len(tc.header) {
				if got, err := readProxyHeader(strings.NewReader(tc.header[:n])); err == nil || got != nil {
					t.Fatalf("cut off at %d: %v, %v", n, got, err)
				}
			}
		})
	}
}

func say(a net.Addr) string {
	if a == nil {
		return "local"
	}
	return a.String()
}

// TestProxy: over real sockets.
func TestProxy(t *testing.T) {
	for _, tc := range headerCases(t) {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, Options{ProxyTrusted: loopback})
			if tc.want == "" {
				h.closed(h.dial(tc.header + strings.Repeat("garbage", 20)))
				eventually(t, "the refusal is counted", func() bool { return h.refusals(LimitProxyHeader) == 1 })
				return
			}
			half := len(tc.header) / 2
			out := h.dial(tc.header[:half], tc.header[half:]+"hel", "lo")
			c := h.next()
			want := tc.want
			if want == "local" {
				want = out.LocalAddr().String()
			}
			if got := c.RemoteAddr().String(); got != want {
				t.Errorf("client %s, want %s", got, want)
			}
			h.read(c, "hello")
			if _, err := c.Write([]byte("back")); err != nil {
				t.Fatal(err)
			}
			h.read(out, "back")
		})
	}
}

// TestProxyCounts: a client behind a proxy is counted as itself; IPv6 by /64.
func TestProxyCounts(t *testing.T) {
	h := start(t, Options{ProxyTrusted: loopback, MaxConnsPerAddress: 2})
	for _, src := range []string{"[2001:db8:0:1::1]:1", "[2001:db8:0:1::2]:1", "[2001:db8:0:2::1]:1"} {
		h.dial(v2(t, src, "[2001:db8::2]:443"))
		h.next()
	}
	h.closed(h.dial(v2(t, "[2001:db8:0:1:ffff::3]:1", "[2001:db8::2]:443")))
	if n := h.refusals(LimitConnectionsPerAddress); n != 1 {
		t.Errorf("%d refusals", n)
	}
	_, each := h.counts()
	if len(each) != 2 || each[netip.MustParseAddr("2001:db8:0:1::")] != 2 {
		t.Errorf("counts %v", each)
	}
}

// TestSilentProxy: who sends no header holds up nobody, and not for long; while
// it lasts it is counted.
func TestSilentProxy(t *testing.T) {
	h := start(t, Options{ProxyTrusted: loopback, MaxConns: 3, HeaderTimeout: 300 * time.Millisecond})
	silent := []net.Conn{h.dial(), h.dial("PROXY TCP4")}
	eventually(t, "the silent are counted", func() bool { all, _ := h.counts(); return all == 2 })
	h.dial("PROXY TCP4 203.0.113.7 192.0.2.2 4711 443\r\n")
	h.next()
	h.closed(h.dial()) // One more than MaxConns.
	for _, c := range silent {
		h.closed(c)
	}
	eventually(t, "the silent are counted no more", func() bool { all, _ := h.counts(); return all == 1 })
	if got := h.refusals(LimitProxyHeader); got != 2 {
		t.Errorf("%d refusals", got)
	}
}

// TestForgedProxy: who is not a proxy is a plain client, whatever it sends.
func TestForgedProxy(t *testing.T) {
	h := start(t, Options{ProxyTrusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}})
	const header = "PROXY TCP4 203.0.113.7 192.0.2.2 4711 443\r\n"
	out := h.dial(header)
	c := h.next()
	if c.RemoteAddr().String() != out.LocalAddr().String() {
		t.Errorf("a stranger is %s", c.RemoteAddr())
	}
	h.read(c, header)
	h.dialFrom("127.0.0.2", header)
	if got := h.next().RemoteAddr().String(); got != "203.0.113.7:4711" {
		t.Errorf("the proxy's client is %s", got)
	}
}

// FuzzReadProxyHeader: nothing panics, no address beside an error, and what is
// accepted is what go-proxyproto makes of the very bytes that were taken.
func FuzzReadProxyHeader(f *testing.F) {
	for _, tc := range headerCases(f) {
		f.Add([]byte(tc.header))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		got, err := readProxyHeader(r)
		if err != nil {
			if got != nil {
				t.Fatalf("%v beside %v", got, err)
			}
			return
		}
		taken := b[:len(b)-r.Len()]
		if !bytes.HasPrefix(taken, proxyproto.SIGV1) && !bytes.HasPrefix(taken, proxyproto.SIGV2) {
			t.Fatalf("accepted %q", taken)
		}
		if got == nil {
			return
		}
		if a := addrOf(got); !a.IsValid() || a.IsUnspecified() {
			t.Fatalf("client %v", got)
		}
	})
}
