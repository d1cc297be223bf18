package tlsfile_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/tlsfile"
)

// buffer is a log that tests read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// listener is a TLS listener that says one byte to whom it shakes hands with.
type listener struct {
	*tlsfile.ServerTLS
	addr     string
	log      *buffer
	registry *prometheus.Registry
}

func serve(t *testing.T, o tlsfile.ServerOptions) *listener {
	t.Helper()
	l := &listener{log: &buffer{}, registry: prometheus.NewRegistry()}
	o.Refresh, o.Name, o.Metrics, o.Log = refresh, "http", l.registry, slog.New(slog.NewTextHandler(l.log, nil))
	s, err := tlsfile.Server(o)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := tls.Listen("tcp", "127.0.0.1:0", s.Config("h2", "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	l.ServerTLS, l.addr = s, inner.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := inner.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = c.Write([]byte("x"))
			})
		}
	})
	t.Cleanup(func() {
		inner.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	return l
}

// dial shakes hands and reads the byte: in TLS 1.3, a server refuses a client
// only after the client's side of the handshake is done.
func (l *listener) dial(t *testing.T, c *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", l.addr, c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = io.ReadFull(conn, make([]byte, 1))
	return conn.ConnectionState(), err
}

func (l *listener) reloads(t *testing.T, outcome string) float64 {
	t.Helper()
	return metric(t, l.registry, "sluice_tls_reloads_total", outcome)
}

func metric(t *testing.T, g prometheus.Gatherer, name, outcome string) float64 {
	t.Helper()
	all, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if outcome == "" || label.GetValue() == outcome {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	t.Fatalf("no metric %s %s", name, outcome)
	return 0
}

func TestServerReload(t *testing.T) {
	ca, d := newAuthority(t, "ca"), newDir(t)
	cert, key := d.putPair(t, "server", ca.issue(t, "one", nil))
	l := serve(t, tlsfile.ServerOptions{CertFile: cert, KeyFile: key})
	client := &tls.Config{RootCAs: ca.pool(), ServerName: "localhost", NextProtos: []string{"h2"}}
	name := func() string {
		state, err := l.dial(t, client)
		if err != nil {
			t.Fatal(err)
		}
		if state.NegotiatedProtocol != "h2" {
			t.Errorf("protocol %q", state.NegotiatedProtocol)
		}
		return state.PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "one" {
		t.Fatal(got)
	}
	second := ca.issue(t, "two", nil)
	d.put(t, "server.pem", second.cert) // Half of the pair.
	eventually(t, "half a pair is complained of", func() bool { return l.reloads(t, "failed") == 1 })
	if got := name(); got != "one" {
		t.Errorf("half a pair is in use: %s", got)
	}
	d.put(t, "server.key", second.key)
	eventually(t, "the second certificate", func() bool { return name() == "two" })
	eventually(t, "the reload is counted", func() bool { return l.reloads(t, "loaded") == 1 })
	if want := float64(second.load(t).Leaf.NotAfter.Unix()); metric(t, l.registry, "sluice_tls_certificate_expiry_seconds", "") != want {
		t.Errorf("expiry is not %v", want)
	}

	for i, bad := range []func(){
		func() { d.put(t, "server.pem", []byte("no PEM")) },
		func() { d.put(t, "server.pem", nil) },
		func() { _ = os.Remove(cert) },
		func() { _ = os.Mkdir(cert, 0o700) },
	} {
		bad()
		eventually(t, "a bad file is complained of", func() bool { return l.reloads(t, "failed") == float64(2+i) })
		if got := name(); got != "two" {
			t.Errorf("bad file %d: %s is in use", i, got)
		}
	}
	before := strings.Count(l.log.String(), "level=ERROR")
	time.Sleep(20 * refresh)
	if after := strings.Count(l.log.String(), "level=ERROR"); after != before {
		t.Errorf("the same complaint again: %d, then %d", before, after)
	}
	if strings.Contains(l.log.String(), "PRIVATE KEY") {
		t.Error("a key is in the log")
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	d.put(t, "server.pem", second.cert)
	third := ca.issue(t, "three", nil)
	d.put(t, "server.key", third.key)
	d.put(t, "server.pem", third.cert)
	eventually(t, "it recovers", func() bool { return name() == "three" })
}

// TestServerReloadThroughLinks: Kubernetes swaps a link to the directory of
// all files of a volume.
func TestServerReloadThroughLinks(t *testing.T) {
	ca, d := newAuthority(t, "ca"), newDir(t)
	generation := func(name string) string {
		sub := dir(d.path(name))
		if err := os.Mkdir(string(sub), 0o700); err != nil {
			t.Fatal(err)
		}
		sub.putPair(t, "tls", ca.issue(t, name, nil))
		return string(sub)
	}
	point := func(at string) {
		if err := errors.Join(os.Symlink(at, d.path("..tmp")), os.Rename(d.path("..tmp"), d.path("..data"))); err != nil {
			t.Fatal(err)
		}
	}
	point(generation("one"))
	for _, f := range []string{"tls.pem", "tls.key"} {
		if err := os.Symlink("..data/"+f, d.path(f)); err != nil {
			t.Fatal(err)
		}
	}
	l := serve(t, tlsfile.ServerOptions{CertFile: d.path("tls.pem"), KeyFile: d.path("tls.key")})
	point(generation("two"))
	eventually(t, "the second generation", func() bool {
		state, err := l.dial(t, &tls.Config{RootCAs: ca.pool(), ServerName: "localhost"})
		return err == nil && state.PeerCertificates[0].Subject.CommonName == "two"
	})
}

func TestServerClientCertificates(t *testing.T) {
	ca, other, d := newAuthority(t, "ca"), newAuthority(t, "other"), newDir(t)
	cert, key := d.putPair(t, "server", ca.issue(t, "server", nil))
	clients := d.put(t, "clients.pem", ca.pem)
	good := []tls.Certificate{ca.issue(t, "ada", nil).load(t)}
	expired := []tls.Certificate{ca.issue(t, "ada", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).load(t)}
	forServers := []tls.Certificate{ca.issue(t, "ada", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }).load(t)}
	stranger := []tls.Certificate{other.issue(t, "ada", nil).load(t)}
	for _, tc := range []struct {
		name    string
		require bool
		certs   []tls.Certificate
		ok      bool
	}{
		{"optional, none", false, nil, true},
		{"optional, good", false, good, true},
		{"optional, unknown authority", false, stranger, false},
		{"optional, expired", false, expired, false},
		{"required, none", true, nil, false},
		{"required, good", true, good, true},
		{"required, unknown authority", true, stranger, false},
		{"required, for servers", true, forServers, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := serve(t, tlsfile.ServerOptions{CertFile: cert, KeyFile: key, ClientCAFile: clients, RequireClientCert: tc.require})
			for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				// A function, for a client leaves out a certificate that the server did not ask for.
				_, err := l.dial(t, &tls.Config{RootCAs: ca.pool(), ServerName: "localhost", MaxVersion: v,
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						if tc.certs == nil {
							return &tls.Certificate{}, nil
						}
						return &tc.certs[0], nil
					}})
				if (err == nil) != tc.ok {
					t.Errorf("TLS %x: %v, want ok %v", v, err, tc.ok)
				}
			}
		})
	}
}

// TestRemovedAuthorityEndsSessions: neither a full handshake nor a session
// ticket lets in a client whose authority was removed.
func TestRemovedAuthorityEndsSessions(t *testing.T) {
	for name, v := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			ca, next, d := newAuthority(t, "ca"), newAuthority(t, "next"), newDir(t)
			cert, key := d.putPair(t, "server", ca.issue(t, "server", nil))
			clients := d.put(t, "clients.pem", ca.pem)
			l := serve(t, tlsfile.ServerOptions{CertFile: cert, KeyFile: key, ClientCAFile: clients, RequireClientCert: true})
			ada := ca.issue(t, "ada", nil).load(t)
			client := &tls.Config{RootCAs: ca.pool(), ServerName: "localhost", MaxVersion: v, ClientSessionCache: tls.NewLRUClientSessionCache(8),
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &ada, nil }}
			resumed := func() bool {
				state, err := l.dial(t, client)
				if err != nil {
					t.Fatal(err)
				}
				return state.DidResume
			}
			resumed()
			if !resumed() {
				t.Fatal("no session is resumed: the test shows nothing")
			}
			d.put(t, "clients.pem", append(append([]byte(nil), ca.pem...), next.pem...)) // Adding one ends nothing.
			eventually(t, "the reload", func() bool { return l.reloads(t, "loaded") == 1 })
			if !resumed() {
				t.Error("a session of an authority that stays is not resumed")
			}
			d.put(t, "clients.pem", next.pem)
			eventually(t, "the reload", func() bool { return l.reloads(t, "loaded") == 2 })
			if state, err := l.dial(t, client); err == nil {
				t.Errorf("let in, resumed %v", state.DidResume)
			}
			d.put(t, "clients.pem", next.pem[:len(next.pem)/2])
			eventually(t, "half a file is refused", func() bool { return l.reloads(t, "failed") == 1 })
		})
	}
}

func TestServerVersionsAndSuites(t *testing.T) {
	ca, d := newAuthority(t, "ca"), newDir(t)
	cert, key := d.putPair(t, "server", ca.issue(t, "server", nil))
	for _, tc := range []struct {
		name   string
		least  uint16
		client *tls.Config
		ok     bool
	}{
		{"1.1", 0, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"1.2", 0, &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"1.3", 0, &tls.Config{MinVersion: tls.VersionTLS13}, true},
		{"1.2, 1.3 asked", tls.VersionTLS13, &tls.Config{MaxVersion: tls.VersionTLS12}, false},
		{"CBC", 0, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}}, false},
		{"CBC SHA-256", 0, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}}, false},
		{"GCM", 0, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := serve(t, tlsfile.ServerOptions{CertFile: cert, KeyFile: key, MinVersion: tc.least})
			tc.client.RootCAs, tc.client.ServerName = ca.pool(), "localhost"
			if _, err := l.dial(t, tc.client); (err == nil) != tc.ok {
				t.Errorf("%v, want ok %v", err, tc.ok)
			}
		})
	}
}

// TestServerExpired: an expired certificate is warned of, and served.
func TestServerExpired(t *testing.T) {
	ca, d := newAuthority(t, "ca"), newDir(t)
	cert, key := d.putPair(t, "server", ca.issue(t, "server", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	l := serve(t, tlsfile.ServerOptions{CertFile: cert, KeyFile: key})
	if !strings.Contains(l.log.String(), "has expired") {
		t.Errorf("log: %s", l.log)
	}
	if _, err := l.dial(t, &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Error(err)
	}
}

// TestServersShareMetrics: two listeners, one registry.
func TestServersShareMetrics(t *testing.T) {
	ca, d, r := newAuthority(t, "ca"), newDir(t), prometheus.NewRegistry()
	cert, key := d.putPair(t, "server", ca.issue(t, "server", nil))
	for _, name := range []string{"http", "grpc"} {
		s, err := tlsfile.Server(tlsfile.ServerOptions{CertFile: cert, KeyFile: key, Name: name, Metrics: r})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
	}
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range all {
		if f.GetName() == "sluice_tls_certificate_expiry_seconds" {
			n += len(f.GetMetric())
		}
	}
	if n != 2 {
		t.Errorf("%d listeners in the metric", n)
	}
}
