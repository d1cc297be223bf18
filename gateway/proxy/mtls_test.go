package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/proxy"
)

// authority signs certificates, in files of a directory of its own.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir(), pool: x509.NewCertPool()}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = key(t)
	a.cert = a.sign(t, c, c, a.key, "ca")
	a.pool.AddCert(a.cert)
	return a
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign writes a certificate and its key.
func (a *authority) sign(t *testing.T, c, by *x509.Certificate, k *ecdsa.PrivateKey, file string) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, by, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{a.path(file + ".pem"): {Type: "CERTIFICATE", Bytes: der}, a.path(file + ".key"): {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue makes a certificate for a name, for servers and clients.
func (a *authority) issue(t *testing.T, name string) {
	t.Helper()
	a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.cert, key(t), name)
}

// TestMutualTLS: the service sees the gateway's certificate, and both sides refuse whom
// they do not know.
func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	for _, a := range []*authority{ours, theirs} {
		a.issue(t, "up.internal")
		a.issue(t, "gateway")
	}
	pair, err := tls.LoadX509KeyPair(ours.path("up.internal.pem"), ours.path("up.internal.key"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName+" "+r.Proto)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: ours.pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	addr := srv.Listener.Addr().String()
	known := proxy.TLSOptions{CAFile: ours.path("ca.pem"), CertFile: ours.path("gateway.pem"), KeyFile: ours.path("gateway.key")}
	change := func(f func(*proxy.TLSOptions)) proxy.TLSOptions { o := known; f(&o); return o }
	for name, tc := range map[string]struct {
		tls  proxy.TLSOptions
		host string // that discovery names
		code int
	}{
		"both are known":              {known, "up.internal", 200},
		"the name is configured":      {change(func(o *proxy.TLSOptions) { o.ServerName = "up.internal" }), "", 200},
		"the service has another":     {known, "other.internal", 503},
		"an address is no name of it": {known, "", 503},
		"without a certificate":       {change(func(o *proxy.TLSOptions) { o.CertFile, o.KeyFile = "", "" }), "up.internal", 503},
		"the gateway is a stranger": {change(func(o *proxy.TLSOptions) {
			o.CertFile, o.KeyFile = theirs.path("gateway.pem"), theirs.path("gateway.key")
		}), "up.internal", 503},
		"the service is a stranger": {change(func(o *proxy.TLSOptions) { o.CAFile = theirs.path("ca.pem") }), "up.internal", 503},
	} {
		t.Run(name, func(t *testing.T) {
			up := proxy.Upstream{Target: proxy.Target{Endpoints: endpoint(addr, tc.host), TLS: &tc.tls}}
			_, url := start(t, proxy.Options{Upstreams: map[string]proxy.Upstream{"up": up}, Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
			res, body := get(t, url+"/", nil)
			if res.StatusCode != tc.code || tc.code == 200 && body != "gateway HTTP/1.1" {
				t.Errorf("%d %q, want %d", res.StatusCode, body, tc.code)
			}
		})
	}
	if _, err := proxy.Open("up", proxy.Upstream{Target: proxy.Target{Endpoints: endpoint(addr, ""), TLS: &proxy.TLSOptions{CAFile: ours.path("none.pem")}}}, proxy.Options{}); err == nil {
		t.Error("a file of authorities that is not there is taken")
	}
}

// endpoint is a backend whose certificate names another host than its address.
func endpoint(addr, name string) []discovery.Backend {
	return []discovery.Backend{{Addr: addr, ServerName: name}}
}
