package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates, which it writes to a directory.
type authority struct {
	dir  string
	file string // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.file = filepath.Join(a.dir, "ca.pem")
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = newKey(t)
	a.write(t, a.file, a.cert, a.key)
	return a
}

// issue makes a certificate for the loopback address and for name.
func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k := newKey(t)
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key.pem")
	a.write(t, cert, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, k)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, key, "PRIVATE KEY", der)
	return cert, key
}

func (a *authority) write(t *testing.T, file string, c *x509.Certificate, k *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, file, "CERTIFICATE", der)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTLS: the gateway talks only to the service it means, and a service with a
// client authority only to the gateway it knows. Anything else is 503, for as
// long as it lasts.
func TestTLS(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	serverCert, serverKey := ours.issue(t, "profiles.internal")
	clientCert, clientKey := ours.issue(t, "gateway.internal")
	strangerCert, strangerKey := others.issue(t, "gateway.internal")
	k := makeKeys(t)
	plain := startService(t, service{name: "profile", k: k})
	tls := startService(t, service{name: "profile", k: k, args: []string{"--tls-cert", serverCert, "--tls-key", serverKey}})
	mutual := startService(t, service{name: "profile", k: k, args: []string{"--tls-cert", serverCert, "--tls-key", serverKey, "--tls-client-ca", ours.file}})

	for _, c := range []struct {
		name   string
		to     *service
		tls    object // nil means plaintext
		status int
	}{
		{"TLS", tls, object{"ca_file": ours.file}, 200},
		{"TLS, for a name", tls, object{"ca_file": ours.file, "server_name": "profiles.internal"}, 200},
		{"TLS, another authority", tls, object{"ca_file": others.file}, 503},
		{"TLS, the system's authorities", tls, object{}, 503},
		{"TLS, for another name", tls, object{"ca_file": ours.file, "server_name": "users.internal"}, 503},
		{"plaintext towards TLS", tls, nil, 503},
		{"TLS towards plaintext", plain, object{"ca_file": ours.file}, 503},
		{"mTLS", mutual, object{"ca_file": ours.file, "cert_file": clientCert, "key_file": clientKey}, 200},
		{"mTLS, no client certificate", mutual, object{"ca_file": ours.file}, 503},
		{"mTLS, a client certificate of another authority", mutual, object{"ca_file": ours.file, "cert_file": strangerCert, "key_file": strangerKey}, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := object{"target": c.to.addr}
			if c.tls != nil {
				u["tls"] = c.tls
			}
			g := startGateway(t, setup{config: object{"assertion": object{"key_file": k.private}, "upstreams": object{profileService: u}}})
			for range 3 {
				a := g.rest(t, "GET", "/v1/users/ada/profile", "", "")
				switch {
				case c.status == 503:
					unavailable(t, a)
				case a.status != 200 || !strings.Contains(string(a.body), "London"):
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
}
