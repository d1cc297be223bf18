package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	a := authority{file: filepath.Join(t.TempDir(), name+".pem")}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue returns the files of a certificate for the loopback address and its key.
func (a authority) issue(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func TestTLS(t *testing.T) {
	servers, clients, strangers := newAuthority(t, "servers"), newAuthority(t, "clients"), newAuthority(t, "strangers")
	g := newGateway(t)
	cert, key := servers.issue(t)
	run := func(args ...string) *command {
		return start(t, nil, append(args, "--service", "user", "--addr", "127.0.0.1:0", "--db", "sqlite:"+filepath.Join(t.TempDir(), "u.db"),
			"--assertion-keys", g.file, "--seed", "--tls-cert", cert, "--tls-key", key)...)
	}
	plain, mutual := run(), run("--tls-client-ca", clients.file)
	trusting := func(client *authority) credentials.TransportCredentials {
		conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		conf.RootCAs.AddCert(servers.cert)
		if client != nil {
			pair, err := tls.LoadX509KeyPair(client.issue(t))
			if err != nil {
				t.Fatal(err)
			}
			conf.Certificates = []tls.Certificate{pair}
		}
		return credentials.NewTLS(conf)
	}
	for _, tt := range []struct {
		name  string
		to    *command
		creds credentials.TransportCredentials
		want  codes.Code
	}{
		{"TLS", plain, trusting(nil), codes.OK},
		{"plain text to TLS", plain, insecure.NewCredentials(), codes.Unavailable},
		{"mTLS", mutual, trusting(&clients), codes.OK},
		{"no certificate to mTLS", mutual, trusting(nil), codes.Unavailable},
		{"a stranger's certificate to mTLS", mutual, trusting(&strangers), codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := tt.to.dial(grpc.WithTransportCredentials(tt.creds))
			_, err := userv1.NewUserServiceClient(conn).GetUser(g.as(t, userService, "ada"), &userv1.GetUserRequest{UserId: "ada"})
			kittest.WantCode(t, err, tt.want)
			_ = conn.Close()
		})
	}
}
