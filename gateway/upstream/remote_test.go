package upstream_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// selfSigned makes a certificate of localhost that is its own authority.
func selfSigned(t *testing.T) (cert tls.Certificate, asPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "b"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// serveTLS runs a server that answers every call, on addr or a free port.
func serveTLS(t *testing.T, addr string, cert tls.Certificate) (at string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)), grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return ss.SendMsg(&wire.Frame{}) }))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	stop = func() {
		srv.Stop()
		<-done
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// TestRemoteTLSReload: a backend whose certificate has another authority now
// is called again once the file says so; before that, it is not trusted.
func TestRemoteTLSReload(t *testing.T) {
	first, firstPEM := selfSigned(t)
	second, secondPEM := selfSigned(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, firstPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	addr, stop := serveTLS(t, "127.0.0.1:0", first)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	target, err := upstream.Remote(upstream.RemoteOptions{Target: "dns:///localhost:" + port,
		TLS: &upstream.TLSOptions{CAFile: file, Refresh: 5 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	call := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return invoke(ctx, target, "/x.Y/Z", &wire.Frame{}, &wire.Frame{})
	}
	until := func(what string, ok func(error) bool) {
		t.Helper()
		var err error
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if err = call(); ok(err) {
				return
			}
		}
		t.Fatalf("never %s: %v", what, err)
	}
	until("an answer", func(err error) bool { return err == nil })
	stop()
	serveTLS(t, addr, second)
	until("distrust", func(err error) bool {
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "x509")
	})
	if err := os.WriteFile(file, secondPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	until("an answer of the second", func(err error) bool { return err == nil })
}

// TestRemoteTLSFiles: what is wrong with files stops the start.
func TestRemoteTLSFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		o    upstream.TLSOptions
		want string
	}{
		"no such file": {upstream.TLSOptions{CAFile: "nowhere.pem"}, "ca_file"},
		"half a pair":  {upstream.TLSOptions{CertFile: "nowhere.pem"}, "go together"},
	} {
		_, err := upstream.Remote(upstream.RemoteOptions{Target: "dns:///b.internal:443", TLS: &tc.o})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "b.internal") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
