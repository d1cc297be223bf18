package gateway_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
)

// door is a listener, as a client comes to it.
type door struct {
	name, addr string
	tls        *tls.Config // nil means plaintext
	g          *gatewaytest.Gateway
}

// dial connects; over TLS with the protocol.
func (d door) dial(t *testing.T, protocol string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if d.tls == nil {
		return c
	}
	o := d.tls.Clone()
	o.NextProtos = []string{protocol}
	return tls.Client(c, o)
}

// doors are the listeners of HTTP: HTTP, HTTPS and the operators'; and those of
// gRPC, without TLS and with.
func doors(t *testing.T, edit func(*configv1.Config)) (web, grpc []door) {
	t.Helper()
	o := gateway.WithServices(gatewaytest.TestService(nil))
	plain := gatewaytest.Start(t, edit, o)
	cert, key, trust := certificate(t)
	secure := gatewaytest.Config(t)
	if edit != nil {
		edit(secure)
	}
	secure.Http.Tls = &configv1.ServerTls{CertFile: cert, KeyFile: key}
	secure.Grpc.Tls = &configv1.ServerTls{CertFile: cert, KeyFile: key}
	over := gatewaytest.Run(t, secure, o)
	return []door{{"HTTP", plain.Addrs().HTTP, nil, plain}, {"HTTPS", over.Addrs().HTTP, trust, over}, {"admin", plain.Addrs().Admin, nil, plain}},
		[]door{{"gRPC", plain.Addrs().GRPC, nil, plain}, {"gRPC over TLS", over.Addrs().GRPC, trust, over}}
}

// certificate writes one of localhost, and returns what trusts it.
func certificate(t *testing.T) (certFile, keyFile string, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600)); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// TestDoubtfulFraming: behind a request whose end two readers could see in two
// places nothing is read, on any listener, from any caller (RFC 9112, 6.1). Each
// case is followed by another request at once.
func TestDoubtfulFraming(t *testing.T) {
	const get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	head := func(version, fields string) string {
		return "POST /healthz HTTP/" + version + "\r\nHost: localhost\r\n" + fields + "\r\n"
	}
	post := func(fields, body string) string { return head("1.1", fields) + body }
	const chunked = "Transfer-Encoding: chunked\r\n"
	web, _ := doors(t, nil)
	for name, tc := range map[string]struct {
		send   string
		refuse int // the status of net/http's own refusal; 0 means that it is answered
		second bool
	}{
		"a length":                         {send: post("Content-Length: 2\r\n", "{}"), second: true},
		"chunks":                           {send: post(chunked, "2\r\n{}\r\n0\r\n\r\n"), second: true},
		"chunks with a trailer":            {send: post(chunked, "2;a=b\r\n{}\r\n0\r\nX-A: b\r\n\r\n"), second: true},
		"no body":                          {send: get, second: true},
		"lines like a head's, in a body":   {send: post("Content-Length: 42\r\n", "Content-Length: 1\r\nTransfer-Encoding: x\r\n\n"), second: true},
		"CL and TE":                        {send: post("Content-Length: 4\r\n"+chunked, "2\r\n{}\r\n0\r\n\r\n")},
		"TE and CL":                        {send: post(chunked+"Content-Length: 4\r\n", "2\r\n{}\r\n0\r\n\r\n")},
		"CL of 0 and TE":                   {send: post("Content-Length: 0\r\n"+chunked, "0\r\n\r\n")},
		"the same CL twice":                {send: post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}")},
		"CL and TE, the second of two":     {send: get + post("Content-Length: 4\r\n"+chunked, "0\r\n\r\n")},
		"CL and TE behind chunks":          {send: post(chunked, "2\r\n{}\r\n0\r\n\r\n") + post("Content-Length: 4\r\n"+chunked, "0\r\n\r\n")},
		"two CL":                           {send: post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"), refuse: 400},
		"CL as a list":                     {send: post("Content-Length: 2, 2\r\n", "{}"), refuse: 400},
		"CL with a sign":                   {send: post("Content-Length: +2\r\n", "{}"), refuse: 400},
		"CL in hexadecimal":                {send: post("Content-Length: 0x2\r\n", "{}"), refuse: 400},
		"CL of nothing":                    {send: post("Content-Length: \r\n", "{}"), refuse: 400},
		"CL beyond 63 bits":                {send: post("Content-Length: 18446744073709551618\r\n", "{}"), refuse: 400},
		"CL with a space before the colon": {send: post("Content-Length : 2\r\n", "{}"), refuse: 400},
		"TE with a space before the colon": {send: post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), refuse: 400},
		"TE in HTTP/1.0":                   {send: head("1.0", "Connection: keep-alive\r\n"+chunked)},
		"TE and CL in HTTP/1.0":            {send: head("1.0", "Connection: keep-alive\r\nContent-Length: 2\r\n"+chunked) + "{}"},
		"TE that does not end in chunked":  {send: post("Transfer-Encoding: chunked, gzip\r\n", ""), refuse: 501},
		"TE of another coding":             {send: post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), refuse: 501},
		"TE of identity":                   {send: post("Transfer-Encoding: identity\r\nContent-Length: 2\r\n", "{}"), refuse: 501},
		"TE twice":                         {send: post(chunked+chunked, "0\r\n\r\n"), refuse: 501},
		"TE of nothing":                    {send: post("Transfer-Encoding:\r\n", "0\r\n\r\n"), refuse: 501},
		"TE behind a vertical tab":         {send: post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), refuse: 400},
		"TE folded":                        {send: post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n")},
		"a folded line":                    {send: post("X-A: 1\r\n b\r\nContent-Length: 2\r\n", "{}")},
		"a folded line with a tab":         {send: post("X-A: 1\r\n\tContent-Length: 9\r\nContent-Length: 2\r\n", "{}")},
		"a line that ends in LF":           {send: post("X-A: 1\nContent-Length: 2\r\n", "{}")},
		"a request line that ends in LF":   {send: "GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n"},
		"a head that ends in LF":           {send: "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\n"},
		"a lone CR in a value":             {send: post("X-A: 1\rContent-Length: 5\r\nContent-Length: 2\r\n", "{}"), refuse: 400},
		"a line without a colon":           {send: post("X-A\r\nContent-Length: 2\r\n", "{}"), refuse: 400},
		"a line without a name":            {send: post(": 1\r\nContent-Length: 2\r\n", "{}"), refuse: 400},
		"chunk sizes that end in LF":       {send: post(chunked, "2\n{}\n0\n\n")},
		"a chunk longer than it says":      {send: post(chunked, "1\r\n{}\r\n0\r\n\r\n")},
		"a chunk size with a sign":         {send: post(chunked, "+2\r\n{}\r\n0\r\n\r\n")},
		"a chunk size in 0x":               {send: post(chunked, "0x2\r\n{}\r\n0\r\n\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, d := range web {
				got := d.answers(t, tc.send+get)
				want := strings.Count(tc.send, "HTTP/1.") // As many as are sent, the last of them doubtful.
				if tc.second {
					want++
				}
				if len(got) == 0 && tc.refuse != 0 {
					continue // Closed with something unread, so that the refusal may be lost.
				}
				if len(got) == 0 || len(got) > want || (tc.second && len(got) != want) {
					t.Errorf("%s: %d answers, want %d: %v", d.name, len(got), want, got)
					continue
				}
				last := got[len(got)-1]
				if tc.refuse != 0 && last != tc.refuse || tc.refuse == 0 && !tc.second && (last == 501 || last == 500) {
					t.Errorf("%s: %v, want %d", d.name, got, tc.refuse)
				}
			}
		})
	}
}

// answers sends bytes and reads the status of each answer until the connection
// closes. A connection that stays open is closed by the last request of all.
func (d door) answers(t *testing.T, send string) (statuses []int) {
	t.Helper()
	c := d.dial(t, "http/1.1")
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	// A request to close, which only an open connection answers: that one does not
	// count.
	_, _ = io.WriteString(c, "DELETE /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Last: yes\r\n\r\n")
	in := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			if ne := (net.Error)(nil); errors.As(err, &ne) && ne.Timeout() {
				t.Fatalf("%s: the connection stays open after %v", d.name, statuses)
			}
			break
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			break
		}
		statuses = append(statuses, res.StatusCode)
	}
	if d.open(statuses, send) {
		return statuses[:len(statuses)-1]
	}
	return statuses
}

// open says whether the last of the answers is that of the last request.
func (d door) open(statuses []int, send string) bool {
	return len(statuses) > strings.Count(send, "HTTP/1.")
}

// TestFloodOfFrames: on every listener of HTTP/2 a connection that sends frames
// that ask for nothing is closed and told why, and another is served.
func TestFloodOfFrames(t *testing.T) {
	const n = 60_000
	web, grpc := doors(t, nil)
	for _, d := range append(web[:2:2], grpc...) {
		t.Run(d.name, func(t *testing.T) {
			for name, send := range map[string]func(c *rawhttp2.Conn, i uint32) error{
				"SETTINGS": func(c *rawhttp2.Conn, i uint32) error {
					return c.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: i})
				},
				"WINDOW_UPDATE": func(c *rawhttp2.Conn, _ uint32) error { return c.WindowUpdate(0, 1) },
				"PRIORITY": func(c *rawhttp2.Conn, i uint32) error {
					return c.Raw(http2.FramePriority, 0, 2*i+1, []byte{0, 0, 0, 0, 1})
				},
				"an unknown type":                 func(c *rawhttp2.Conn, _ uint32) error { return c.Raw(0xbe, 0, 0, nil) },
				"ends of a stream that has ended": func(c *rawhttp2.Conn, _ uint32) error { return c.Data(1, true, nil) },
				"DATA of padding": func(c *rawhttp2.Conn, _ uint32) error {
					return c.Raw(http2.FrameData, http2.FlagDataPadded, 1, []byte{5, 0, 0, 0, 0, 0})
				},
				"reset calls": func(c *rawhttp2.Conn, i uint32) error {
					return errors.Join(c.Headers(2*i+3, false, rawhttp2.GRPC("/a.B/C")...), c.Reset(2*i+3, http2.ErrCodeCancel))
				},
			} {
				t.Run(name, func(t *testing.T) { // Behind a call that has been answered.
					before := limited(t, d.g, "http2_frames")
					c := rawhttp2.Dial(t, d.addr, d.tls)
					if err := c.Headers(1, true, rawhttp2.GRPC("/a.B/C")...); err != nil {
						t.Fatal(err)
					}
					if fields, reset := c.Answer(1, 20*time.Second); fields == nil {
						t.Fatalf("the call before: %v", reset)
					}
					sent := 0
					for ; sent < n && send(c, uint32(sent)) == nil; sent++ { //nolint:gosec // Small.
					}
					away, ended := c.Ended(20 * time.Second)
					if !ended {
						t.Fatal("the connection goes on")
					}
					if away != nil && away.Code != http2.ErrCodeEnhanceYourCalm {
						t.Errorf("%+v", away)
					}
					if got := limited(t, d.g, "http2_frames"); got != before+1 {
						t.Errorf("%v refusals, want %v", got, before+1)
					}
					other := rawhttp2.Dial(t, d.addr, d.tls)
					if err := other.Headers(1, true, rawhttp2.GRPC("/a.B/C")...); err != nil {
						t.Fatal(err)
					}
					if fields, reset := other.Answer(1, 20*time.Second); fields == nil {
						t.Errorf("another connection: %v", reset)
					}
				})
			}
		})
	}
}

// limited is how often a limit has refused.
func limited(t *testing.T, g *gatewaytest.Gateway, limit string) int {
	t.Helper()
	res, err := http.Get(g.AdminURL + "/metrics") //nolint:noctx // A test.
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), `sluice_refused_total{limit="`+limit+`"} `)
	if !found {
		return 0
	}
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestUnfinishedFrames: what a client of HTTP/2 has begun and does not finish ends
// its connection after the time that heads have, long before it would be asked
// whether it is still there.
func TestUnfinishedFrames(t *testing.T) {
	web, _ := doors(t, func(c *configv1.Config) { c.Http.ReadHeaderTimeout = durationpb.New(300 * time.Millisecond) })
	block := append([]byte{0, 0, 1, byte(http2.FrameHeaders), 0, 0, 0, 0, 1}, 0x82)
	settings := string([]byte{0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0})
	for name, send := range map[string]string{
		"half a preface":              http2.ClientPreface[:10],
		"most of a preface":           http2.ClientPreface[:20],
		"half of SETTINGS":            http2.ClientPreface + settings[:4],
		"HEADERS without END_HEADERS": http2.ClientPreface + settings + string(block),
		"half a frame's head":         http2.ClientPreface + settings + string(block[:5]),
	} {
		for _, d := range web[:2] {
			t.Run(d.name+", "+name, func(t *testing.T) {
				t.Parallel()
				c := d.dial(t, "h2")
				if _, err := io.WriteString(c, send); err != nil {
					t.Fatal(err)
				}
				_, err := io.Copy(io.Discard, c)
				if ne := (net.Error)(nil); errors.As(err, &ne) && ne.Timeout() {
					t.Error("the connection stays open")
				}
			})
		}
	}
}

// TestProtocolOfTheHandshake: over TLS a connection speaks what it has agreed on.
func TestProtocolOfTheHandshake(t *testing.T) {
	web, _ := doors(t, nil)
	for name, tc := range map[string]struct{ protocol, send, want string }{
		"HTTP/1.1":              {"http/1.1", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404"},
		"HTTP/1.1 where HTTP/2": {"h2", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "closed"},
		"HTTP/2 where HTTP/1.1": {"http/1.1", http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "closed"},
	} {
		c := web[1].dial(t, tc.protocol)
		if _, err := io.WriteString(c, tc.send); err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(c)
		switch got := string(b); {
		case tc.want == "closed" && got != "":
			t.Errorf("%s: %q", name, got)
		case tc.want != "closed" && !strings.HasPrefix(got, tc.want):
			t.Errorf("%s: %q", name, got)
		}
	}
}
