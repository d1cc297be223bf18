package auth

import (
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What the development key's tokens say.
const (
	DevIssuer   = "sluice-dev"
	DevAudience = "sluice"
)

// DevKey is an issuer for development: whoever reads its file can be anyone.
// The gateway has one with --demo only. It is safe for concurrent use.
type DevKey struct {
	key ed25519.PrivateKey
	now func() time.Time
}

// OpenDevKey reads dir/dev-signing-key.pem, and makes directory and file, for
// their owner alone, where there is none.
func OpenDevKey(dir string) (*DevKey, error) {
	key, err := openKey(filepath.Join(dir, "dev-signing-key.pem"))
	if err != nil {
		return nil, err
	}
	return &DevKey{key: key, now: time.Now}, nil
}

// Issuer is what a Verifier needs to accept the key's tokens.
func (d *DevKey) Issuer() Issuer {
	return Issuer{
		Name:       DevIssuer,
		Audiences:  []string{DevAudience},
		Algorithms: []string{jwt.SigningMethodEdDSA.Alg()},
		Keys:       publicKeys{d.key.Public()},
	}
}

// Mint makes a token for subject that lives for ttl, to the second.
func (d *DevKey) Mint(subject string, scopes []string, ttl time.Duration) (string, error) {
	if !validSubject(subject) {
		return "", errors.New("a subject has 1 to 255 characters, and no spaces")
	}
	for _, s := range scopes {
		if !validScope(s) {
			return "", errors.New("a scope is a word without spaces and quotes (RFC 6749)")
		}
	}
	if ttl < time.Second {
		return "", errors.New("a token lives for a second at least")
	}
	now := d.now()
	return sign(d.key, "", signedClaims{
		Issuer:   DevIssuer,
		Subject:  subject,
		Scope:    strings.Join(scopes, " "),
		Audience: []string{DevAudience},
		IssuedAt: now.Unix(),
		Expires:  now.Add(ttl).Unix(),
	})
}
