package rpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/tlsfile"
)

// selfSigned writes a certificate of localhost that is its own authority.
func selfSigned(t *testing.T, name string) (certFile, keyFile string, pair tls.Certificate, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "c.pem"), filepath.Join(t.TempDir(), "k.pem")
	certPEM, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pair, pool
}

// TestTLS: calls over TLS, with and without a client's certificate, which
// checks see only when it was verified.
func TestTLS(t *testing.T) {
	certFile, keyFile, _, roots := selfSigned(t, "server")
	clients, _, ada, _ := selfSigned(t, "ada")
	_, _, stranger, _ := selfSigned(t, "ada")
	files, err := tlsfile.Server(tlsfile.ServerOptions{CertFile: certFile, KeyFile: keyFile, ClientCAFile: clients, Name: "grpc"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	seen := make(chan string, 10)
	e := start(t, func(o *rpc.Options) {
		o.TLS, o.HandshakeTimeout = files.Config("h2"), 300*time.Millisecond
		o.Arrival = step("look", func(c *policy.Call) error {
			if c.PeerCertificate == nil {
				seen <- "nobody"
			} else {
				seen <- c.PeerCertificate.Subject.CommonName
			}
			return nil
		})
	})
	for _, tc := range []struct {
		name string
		cert []tls.Certificate
		want string // empty: refused
	}{{"no certificate", nil, "nobody"}, {"a certificate", []tls.Certificate{ada}, "ada"}, {"of another authority", []tls.Certificate{stranger}, ""}} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := &tls.Config{RootCAs: roots, ServerName: "localhost", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if tc.cert == nil {
					return &tls.Certificate{}, nil
				}
				return &tc.cert[0], nil
			}}
			_, err := invoke(soon(t), e.dial(credentials.NewTLS(cfg)), echo, 10)
			if tc.want == "" {
				if status.Code(err) != codes.Unavailable {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := <-seen; got != tc.want {
				t.Errorf("checks see %s", got)
			}
		})
	}
	t.Run("raw", func(t *testing.T) {
		c := rawhttp2.Dial(t, e.addr, &tls.Config{RootCAs: roots, ServerName: "localhost"})
		if got := answered(t, c, 1, rawhttp2.GRPC(echo)); got.grpc != "0" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("plaintext", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := invoke(ctx, e.dial(nil), echo, 10); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no ALPN", func(t *testing.T) {
		conn, err := tls.Dial("tcp", e.addr, &tls.Config{RootCAs: roots, ServerName: "localhost"})
		if err != nil {
			return // As good.
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("served: %d, %v", n, err)
		}
	})
	t.Run("half a handshake", func(t *testing.T) {
		conn, err := net.Dial("tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("\x16\x03\x01\x02\x00\x01")); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
	})
}
