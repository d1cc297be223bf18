package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// issuer is a login service as far as a gateway sees it: a name, and the file
// with its public key.
type issuer struct {
	key  ed25519.PrivateKey
	file string
}

const issuerName, audience = "https://login.test/", "shop"

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key, file: filepath.Join(t.TempDir(), "issuer.pub.pem")}
	if err := os.WriteFile(i.file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// config is the section `auth` of a gateway that trusts the issuer.
func (i *issuer) config() object {
	return object{"issuers": []object{{
		"issuer": issuerName, "audiences": []string{audience}, "public_keys": object{"files": []string{i.file}},
	}}}
}

func (i *issuer) mint(t *testing.T, subject, scope string) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuerName, "aud": audience, "sub": subject, "scope": scope,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
