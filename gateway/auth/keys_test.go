package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

func TestPublicKeyFiles(t *testing.T) {
	k := newKeys()
	weak := weakRSA(t)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k.ed)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	for name, tc := range map[string]struct {
		parts [][]byte
		keys  int
		want  string
	}{
		"one":                {parts: [][]byte{publicPEM(k.ed.Public())}, keys: 1},
		"three":              {parts: [][]byte{k.rsaPEM, publicPEM(k.p256.Public()), []byte("\n\n"), publicPEM(k.ed.Public())}, keys: 3},
		"PKCS#1":             {parts: [][]byte{block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey))}, keys: 1},
		"empty":              {parts: [][]byte{[]byte(" \n")}, want: "holds no PEM block"},
		"not PEM":            {parts: [][]byte{[]byte("hello")}, want: "no PEM block where key 1"},
		"rubbish at the end": {parts: [][]byte{k.rsaPEM, []byte("hello")}, want: "no PEM block where key 2"},
		"private key":        {parts: [][]byte{block("PRIVATE KEY", private)}, want: "holds a private key"},
		"certificate":        {parts: [][]byte{block("CERTIFICATE", []byte("x"))}, want: `holds a PEM block "CERTIFICATE"`},
		"bad DER":            {parts: [][]byte{block("PUBLIC KEY", []byte("x"))}, want: "key 1: "},
		"RSA of 1024 bits":   {parts: [][]byte{publicPEM(weak)}, want: "RSA key of 1024 bits"},
		"P-224":              {parts: [][]byte{publicPEM(k.ed.Public()), publicPEM(p224.Public())}, want: "key 2: ECDSA key on a curve"},
		"too large":          {parts: [][]byte{[]byte(strings.Repeat("x", 1<<20+1))}, want: "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, tc.parts...)
			src, err := auth.PublicKeyFiles(path)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), path) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := src.Keys(t.Context(), "", ""); len(got) != tc.keys {
				t.Errorf("%d keys, want %d", len(got), tc.keys)
			}
		})
	}
	if _, err := auth.PublicKeyFiles(); err == nil {
		t.Error("no file at all was accepted")
	}
	if _, err := auth.PublicKeyFiles(filepath.Join(t.TempDir(), "nope")); err == nil {
		t.Error("a file that is not there was accepted")
	}
}

// weakRSA is a public key whose modulus has 1024 bits; crypto/rsa makes none.
func weakRSA(t *testing.T) *rsa.PublicKey {
	t.Helper()
	n, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return &rsa.PublicKey{N: n, E: 65537}
}

func TestSecretFile(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		ok      bool
	}{
		"32 bytes":                        {strings.Repeat("s", 32), true},
		"a last newline is a byte":        {strings.Repeat("s", 31) + "\n", true},
		"31 bytes":                        {strings.Repeat("s", 31), false},
		"empty, which verifies forgeries": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := auth.SecretFile(write(t, []byte(tc.content)))
			if (err == nil) != tc.ok {
				t.Fatal(err)
			}
			if !tc.ok {
				if strings.Contains(err.Error(), "ss") {
					t.Error("the error tells the secret")
				}
				return
			}
			got, _ := src.Keys(t.Context(), "HS256", "")
			if b, _ := got[0].([]byte); string(b) != tc.content {
				t.Errorf("key %v", got)
			}
		})
	}
}
