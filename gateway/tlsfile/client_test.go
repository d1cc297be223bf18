package tlsfile_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/sluice-gateway/sluice/gateway/tlsfile"
)

// backend is a TLS server whose certificate tests choose; it tells what
// certificate the client showed.
type backend struct {
	addr  string
	mu    sync.Mutex
	cert  tls.Certificate
	shown chan string
}

func (b *backend) show(c tls.Certificate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cert = c
}

func newBackend(t *testing.T, clients *x509.CertPool) *backend {
	t.Helper()
	b := &backend{shown: make(chan string, 100)}
	cfg := &tls.Config{NextProtos: []string{"h2"}, ClientCAs: clients, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return &b.cert, nil
	}}
	if clients != nil {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				tc := c.(*tls.Conn)
				if tc.Handshake() != nil {
					return
				}
				if certs := tc.ConnectionState().PeerCertificates; len(certs) > 0 {
					b.shown <- certs[0].Subject.CommonName
				}
				_, _ = tc.Write([]byte("x"))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return b
}

// dial shakes hands as grpc-go would.
func (b *backend) dial(t *testing.T, c credentials.TransportCredentials, authority string) error {
	t.Helper()
	raw, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, info, err := c.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return err
	}
	defer conn.Close()
	if state := info.(credentials.TLSInfo).State; len(state.VerifiedChains) == 0 || state.Version < tls.VersionTLS12 {
		t.Errorf("an unverified connection: %+v", state)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = conn.Read(make([]byte, 1))
	return err
}

func client(t *testing.T, o tlsfile.ClientOptions) *tlsfile.ClientTLS {
	t.Helper()
	o.Refresh, o.Name = refresh, "backend"
	c, err := tlsfile.Client(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestClientVerifies: as crypto/tls does, and nothing less.
func TestClientVerifies(t *testing.T) {
	ca, other, d := newAuthority(t, "ca"), newAuthority(t, "ca"), newDir(t)
	file := d.put(t, "ca.pem", ca.pem)
	b := newBackend(t, nil)
	var (
		unknown  x509.UnknownAuthorityError
		host     x509.HostnameError
		invalid  x509.CertificateInvalidError
		verified *tls.CertificateVerificationError
	)
	for _, tc := range []struct {
		name, serverName, authority string
		cert                        pair
		want                        any
	}{
		{"good", "", "localhost:443", ca.issue(t, "b", nil), nil},
		{"good address", "", "127.0.0.1:443", ca.issue(t, "b", nil), nil},
		{"the name of the options counts", "b.internal", "elsewhere:443", ca.issue(t, "b.internal", nil), nil},
		{"wrong host", "", "example.com:443", ca.issue(t, "b", nil), &host},
		{"wrong name", "b.internal", "localhost:443", ca.issue(t, "b", nil), &host},
		{"wrong address", "", "127.0.0.2:443", ca.issue(t, "b", nil), &host},
		{"unknown authority of the same name", "", "localhost:443", other.issue(t, "b", nil), &unknown},
		{"expired", "", "localhost:443", ca.issue(t, "b", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), &invalid},
		{"not valid yet", "", "localhost:443", ca.issue(t, "b", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), &invalid},
		{"for clients only", "", "localhost:443", ca.issue(t, "b", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), &invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b.show(tc.cert.load(t))
			c := client(t, tlsfile.ClientOptions{CAFile: file, ServerName: tc.serverName})
			err := b.dial(t, c.Credentials(), tc.authority)
			if tc.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.As(err, tc.want) || !errors.As(err, &verified) {
				t.Errorf("got %v, want %T", err, tc.want)
			}
		})
	}
	t.Run("the system's authorities", func(t *testing.T) {
		b.show(ca.issue(t, "b", nil).load(t))
		if err := b.dial(t, client(t, tlsfile.ClientOptions{}).Credentials(), "localhost:443"); !errors.As(err, &verified) {
			t.Errorf("got %v", err)
		}
	})
}

func TestClientReload(t *testing.T) {
	ca, next, clients, d := newAuthority(t, "ca"), newAuthority(t, "next"), newAuthority(t, "clients"), newDir(t)
	b := newBackend(t, clients.pool())
	b.show(ca.issue(t, "b", nil).load(t))
	cert, key := d.putPair(t, "gateway", clients.issue(t, "gateway-1", nil))
	c := client(t, tlsfile.ClientOptions{CAFile: d.put(t, "ca.pem", ca.pem), CertFile: cert, KeyFile: key})
	creds := c.Credentials().Clone()
	if err := b.dial(t, creds, "localhost"); err != nil {
		t.Fatal(err)
	}
	if got := <-b.shown; got != "gateway-1" {
		t.Error(got)
	}
	second := clients.issue(t, "gateway-2", nil)
	d.put(t, "gateway.key", second.key)
	d.put(t, "gateway.pem", second.cert)
	eventually(t, "the second certificate is shown", func() bool { return b.dial(t, creds, "localhost") == nil && <-b.shown == "gateway-2" })

	d.put(t, "ca.pem", next.pem) // The authority is swapped: the server's certificate is worth nothing now.
	eventually(t, "the old authority is forgotten", func() bool {
		err := b.dial(t, creds, "localhost")
		var unknown x509.UnknownAuthorityError
		return errors.As(err, &unknown)
	})
	b.show(next.issue(t, "b", nil).load(t))
	if err := b.dial(t, creds, "localhost"); err != nil {
		t.Errorf("the new authority: %v", err)
	}
	d.put(t, "ca.pem", []byte("garbage"))
	time.Sleep(10 * refresh)
	if err := b.dial(t, creds, "localhost"); err != nil {
		t.Errorf("a bad file took the good one away: %v", err)
	}
}

func TestClientFirstLoad(t *testing.T) {
	d := newDir(t)
	for name, tc := range map[string]struct {
		o    tlsfile.ClientOptions
		want string
	}{
		"no such authorities": {tlsfile.ClientOptions{CAFile: d.path("nowhere.pem")}, "ca_file"},
		"garbage":             {tlsfile.ClientOptions{CAFile: d.put(t, "garbage", []byte("x"))}, "no PEM"},
		"half a pair":         {tlsfile.ClientOptions{CertFile: d.path("c")}, "go together"},
		"the other half":      {tlsfile.ClientOptions{KeyFile: d.path("c")}, "go together"},
	} {
		if _, err := tlsfile.Client(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	c := client(t, tlsfile.ClientOptions{})
	if _, _, err := c.Credentials().ServerHandshake(nil); err == nil {
		t.Error("a client's credentials serve")
	}
	if c.Credentials().Info().SecurityProtocol != "tls" {
		t.Error("info")
	}
}
