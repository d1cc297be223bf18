package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// identify makes a client certificate for a URI, good from and until.
func (a *authority) identify(t *testing.T, uri string, from, until time.Time) tls.Certificate {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(t)
	file := filepath.Join(t.TempDir(), "client.pem")
	a.write(t, file, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "ada"}, NotBefore: from, NotAfter: until,
		URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, k)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(filepath.Dir(file), "client.key.pem")
	writePEM(t, keyFile, "PRIVATE KEY", der)
	c, err := tls.LoadX509KeyPair(file, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mutual is a gateway whose listeners both want TLS; what clients must show is in
// its configuration.
type mutual struct {
	*target
	ca, clients *authority
	trust       *tls.Config
}

func startMutual(t *testing.T, required bool) *mutual {
	t.Helper()
	m := &mutual{ca: newAuthority(t, "ours"), clients: newAuthority(t, "clients")}
	cert, key := m.ca.issue(t, "gateway.internal")
	listener := object{"cert_file": cert, "key_file": key, "client_ca_file": m.clients.file, "require_client_cert": required}
	m.target = startTarget(t, object{"http": object{"tls": listener}, "grpc": object{"tls": listener}},
		object{"client_certificates": []object{{"uri": "spiffe://shop.test/user/*", "scopes": strings.Fields(all)}}})
	m.trust = &tls.Config{RootCAs: pool(t, m.ca.file), ServerName: "gateway.internal"}
	return m
}

// with is the trust with a client certificate.
func (m *mutual) with(certs ...tls.Certificate) *tls.Config {
	c := m.trust.Clone()
	// Sent whatever the server says it takes.
	if len(certs) > 0 {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
	}
	return c
}

// ask asks for a user over REST and over gRPC, with TLS as it says, and a token
// where there is one. Both edges must agree; broken says that no connection came
// to be.
func (m *mutual) ask(t *testing.T, c *tls.Config, user, token string) (status int, broken bool) {
	t.Helper()
	status, err := m.askREST(t, c, user, token)
	cc, dialErr := grpc.NewClient(m.grpcAddr, grpc.WithTransportCredentials(credentials.NewTLS(c.Clone())))
	if dialErr != nil {
		t.Fatal(dialErr)
	}
	defer cc.Close()
	ctx := bounded(t)
	if token != "" {
		ctx = withToken(ctx, token)
	}
	_, grpcErr := userv1.NewUserServiceClient(cc).GetUser(ctx, &userv1.GetUserRequest{UserId: user})
	code, _ := verdictOf(grpcErr)
	if want := map[int]string{0: "UNAVAILABLE", 200: "", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}[status]; code != want {
		t.Errorf("REST: %d %v; gRPC: %v", status, err, grpcErr)
	}
	return status, err != nil
}

func (m *mutual) askREST(t *testing.T, c *tls.Config, user, token string) (status int, err error) {
	t.Helper()
	conn, err := tlsDial(t.Context(), m.addr, c)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	fields := []string{"Connection", "close"}
	if token != "" {
		fields = append(fields, bearer(token)...)
	}
	got := talk(t, conn, "GET /v1/users/"+user+" HTTP/1.1\r\nHost: gateway.internal\r\n"+lines(fields)+"\r\n", 1)
	if len(got) != 1 { // TLS 1.3 refuses a client after its handshake.
		return 0, errors.New("no answer")
	}
	return got[0].status, nil
}

func tlsDial(ctx context.Context, addr string, c *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", addr)
}

// TestAttackTLS: versions, and certificates of all kinds, on both edges.
func TestAttackTLS(t *testing.T) {
	t.Parallel()
	optional, required := startMutual(t, false), startMutual(t, true)
	t.Run("versions", func(t *testing.T) { optional.versions(t) })
	hour := time.Hour
	now := time.Now()
	strangers := newAuthority(t, "clients") // Of the same name.
	for _, c := range []struct {
		name, user string
		cert       func(m *mutual) []tls.Certificate
		token      func(m *mutual) string
		optional   int // 0: the connection is refused
		required   int
	}{
		{"no certificate", "ada", nil, nil, 401, 0},
		{"no certificate, but a token", "ada", nil, func(m *mutual) string { return m.ada }, 200, 0},
		{"ada's", "ada", func(m *mutual) []tls.Certificate {
			return []tls.Certificate{m.clients.identify(t, "spiffe://shop.test/user/ada", now.Add(-hour), now.Add(hour))}
		}, nil, 200, 200},
		{"ada's, for grace", "grace", func(m *mutual) []tls.Certificate {
			return []tls.Certificate{m.clients.identify(t, "spiffe://shop.test/user/ada", now.Add(-hour), now.Add(hour))}
		}, nil, 403, 403},
		{"ada's, with grace's token", "grace", func(m *mutual) []tls.Certificate {
			return []tls.Certificate{m.clients.identify(t, "spiffe://shop.test/user/ada", now.Add(-hour), now.Add(hour))}
		}, func(m *mutual) string { return m.grace }, 401, 401},
		{"of another domain", "ada", func(m *mutual) []tls.Certificate {
			return []tls.Certificate{m.clients.identify(t, "spiffe://evil.test/user/ada", now.Add(-hour), now.Add(hour))}
		}, nil, 401, 401},
		{"of a longer path", "ada", func(m *mutual) []tls.Certificate {
			return []tls.Certificate{m.clients.identify(t, "spiffe://shop.test/user/ada/admin", now.Add(-hour), now.Add(hour))}
		}, nil, 401, 401},
		{"expired", "ada", func(m *mutual) []tls.Certificate {
			return []tls.Certificate{m.clients.identify(t, "spiffe://shop.test/user/ada", now.Add(-2*hour), now.Add(-hour))}
		}, nil, 0, 0},
		{"not yet valid", "ada", func(m *mutual) []tls.Certificate {
			return []tls.Certificate{m.clients.identify(t, "spiffe://shop.test/user/ada", now.Add(hour), now.Add(2*hour))}
		}, nil, 0, 0},
		{"of another authority of the same name", "ada", func(*mutual) []tls.Certificate {
			return []tls.Certificate{strangers.identify(t, "spiffe://shop.test/user/ada", now.Add(-hour), now.Add(hour))}
		}, nil, 0, 0},
		{"of the servers' authority", "ada", func(m *mutual) []tls.Certificate {
			return []tls.Certificate{m.ca.identify(t, "spiffe://shop.test/user/ada", now.Add(-hour), now.Add(hour))}
		}, nil, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for m, want := range map[*mutual]int{optional: c.optional, required: c.required} {
				var certs []tls.Certificate
				if c.cert != nil {
					certs = c.cert(m)
				}
				token := ""
				if c.token != nil {
					token = c.token(m)
				}
				if got, broken := m.ask(t, m.with(certs...), c.user, token); got != want || broken != (want == 0) {
					t.Errorf("%d, want %d", got, want)
				}
			}
		})
	}
	t.Run("plaintext", func(t *testing.T) {
		got := exchange(t, optional.addr, "GET /v1/users/ada HTTP/1.1\r\nHost: x\r\n"+lines(bearer(optional.ada))+"\r\n", 1)
		if len(got) != 1 || got[0].status != 400 || !strings.Contains(got[0].body, "HTTP request to an HTTPS server") {
			t.Errorf("%v; want net/http's hint", got)
		}
		if got := exchange(t, optional.grpcAddr, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 1); len(got) != 0 {
			t.Errorf("the gRPC edge answers %v", got)
		}
	})
	for _, m := range []*mutual{optional, required} {
		ada := m.clients.identify(t, "spiffe://shop.test/user/ada", now.Add(-hour), now.Add(hour))
		if got, _ := m.ask(t, m.with(ada), "ada", ""); got != 200 {
			t.Errorf("an ordinary caller at the end: %d", got)
		}
		m.accessLog(t)
	}
}

func (m *mutual) versions(t *testing.T) {
	for _, c := range []struct {
		name     string
		min, max uint16
		suites   []uint16
		ok       bool
	}{
		{"1.0", tls.VersionTLS10, tls.VersionTLS10, nil, false},
		{"1.1", tls.VersionTLS10, tls.VersionTLS11, nil, false},
		{"1.2", tls.VersionTLS12, tls.VersionTLS12, nil, true},
		{"1.3", tls.VersionTLS13, tls.VersionTLS13, nil, true},
		{"1.2, without forward secrecy", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, false},
		{"1.2, CBC", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, false},
		{"1.2, RC4", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}, false},
	} {
		for edge, addr := range map[string]string{"REST": m.addr, "gRPC": m.grpcAddr} {
			tc := m.trust.Clone()
			tc.MinVersion, tc.MaxVersion, tc.CipherSuites, tc.NextProtos = c.min, c.max, c.suites, []string{"h2"}
			conn, err := tlsDial(t.Context(), addr, tc)
			if err == nil {
				_ = conn.Close()
			}
			if (err == nil) != c.ok {
				t.Errorf("TLS %s to %s: %v", c.name, edge, err)
			}
		}
	}
}

// TestAttackTLSReload: a new certificate is shown to new connections without a
// restart, one that is broken is not, and connections that are there go on.
func TestAttackTLSReload(t *testing.T) {
	t.Parallel()
	m := startMutual(t, false)
	old, err := tlsDial(t.Context(), m.addr, m.trust)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	goesOn := func() {
		t.Helper()
		if got := talk(t, old, "GET /v1/users/ada HTTP/1.1\r\nHost: x\r\n"+lines(bearer(m.ada))+"\r\n", 1); len(got) != 1 || got[0].status != 200 {
			t.Errorf("the connection from before: %v", got)
		}
	}
	goesOn()
	first := shown(t, m)
	certFile := filepath.Join(m.ca.dir, "gateway.internal.pem")
	if err := os.WriteFile(certFile, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error {
		if n := m.metric(t, "sluice_tls_reloads_total", `outcome="failed"`); n < 2 {
			return errors.New("no failed reload is counted for both listeners")
		}
		return nil
	})
	if got := shown(t, m); !bytes.Equal(got[0], first[0]) || !bytes.Equal(got[1], first[1]) {
		t.Error("another certificate than before is shown, though the file is garbage")
	}
	m.ca.issue(t, "gateway.internal")
	eventually(t, patience, func() error {
		if got := shown(t, m); bytes.Equal(got[0], first[0]) || bytes.Equal(got[1], first[1]) {
			return errors.New("still the first certificate")
		}
		return nil
	})
	goesOn()
	if got, _ := m.ask(t, m.trust, "ada", m.ada); got != 200 {
		t.Errorf("a new connection: %d", got)
	}
}

// shown are the certificates that the HTTP and the gRPC edge show.
func shown(t *testing.T, m *mutual) (certs [2][]byte) {
	t.Helper()
	for i, addr := range []string{m.addr, m.grpcAddr} {
		c := m.trust.Clone()
		c.NextProtos = []string{"h2"}
		conn, err := tlsDial(t.Context(), addr, c)
		if err != nil {
			t.Fatal(err)
		}
		certs[i] = conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw
		_ = conn.Close()
	}
	return certs
}
