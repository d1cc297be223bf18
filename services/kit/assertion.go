package kit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"
)

const (
	assertionIssuer = "sluice"
	assertionLeeway = 5 * time.Second
	// maxAssertionBytes bounds what is parsed and hashed for a stranger.
	maxAssertionBytes = 8 << 10
	// verifiedTokens is how many verified assertions are remembered: the callers
	// of a few seconds, at about 300 bytes each.
	verifiedTokens = 16384
)

// Verifier checks assertions: the short-lived JWTs (RFC 7519, EdDSA only) by
// which the gateway says who calls. It is safe for concurrent use.
//
// A signature costs about 50 µs to verify, so tokens that were found good are
// remembered until they expire. Only good ones: a flood of forgeries cannot
// push them out.
type Verifier struct {
	keys     jwt.VerificationKeySet
	verified *otter.Cache[verifiedKey, verifiedCaller]
	now      func() time.Time
}

// verifiedKey holds the audience too: a token that is good for one service must
// not be found good for another.
type verifiedKey struct {
	token    [sha256.Size]byte
	audience string
}

type verifiedCaller struct {
	caller  Caller
	expires time.Time
}

// NewVerifier returns a verifier that accepts what any of keys signed; more than
// one lets the gateway's key be rotated. Without a key it fails.
func NewVerifier(keys ...ed25519.PublicKey) (*Verifier, error) {
	if len(keys) == 0 {
		return nil, errors.New("no assertion key: name at least one public key of the gateway")
	}
	v := &Verifier{now: time.Now}
	for i, k := range keys {
		if len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("assertion key %d has %d bytes, want %d", i, len(k), ed25519.PublicKeySize)
		}
		v.keys.Keys = append(v.keys.Keys, k)
	}
	// No expiry in the cache itself, which would cost it a goroutine that nobody
	// stops: entries carry theirs.
	cache, err := otter.New(&otter.Options[verifiedKey, verifiedCaller]{MaximumSize: verifiedTokens})
	if err != nil {
		return nil, fmt.Errorf("assertion cache: %w", err)
	}
	v.verified = cache
	return v, nil
}

type assertionClaims struct {
	jwt.RegisteredClaims
	Scope string `json:"scope"`
}

// Verify returns the caller that token asserts towards audience, a full gRPC
// service name. Its errors say what is wrong and never hold the token.
func (v *Verifier) Verify(token, audience string) (Caller, error) {
	if len(token) > maxAssertionBytes {
		return Caller{}, errors.New("assertion is too large")
	}
	key := verifiedKey{token: sha256.Sum256([]byte(token)), audience: audience}
	if known, ok := v.verified.GetIfPresent(key); ok {
		if v.now().Before(known.expires.Add(assertionLeeway)) {
			return known.caller, nil
		}
		v.verified.Invalidate(key)
		return Caller{}, errors.New("assertion has expired")
	}
	var claims assertionClaims
	_, err := jwt.ParseWithClaims(token, &claims,
		func(*jwt.Token) (any, error) { return v.keys, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(assertionIssuer),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(assertionLeeway),
		jwt.WithTimeFunc(v.now),
	)
	if err != nil {
		return Caller{}, assertionError(err)
	}
	c := Caller{Subject: claims.Subject, Scopes: strings.Fields(claims.Scope)}
	v.verified.Set(key, verifiedCaller{caller: c, expires: claims.ExpiresAt.Time})
	return c, nil
}

// assertionError puts the library's error into plain words, for it goes to the
// peer.
func assertionError(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return errors.New("assertion is not a JWT")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return errors.New("assertion is not signed by a known key")
	case errors.Is(err, jwt.ErrTokenExpired):
		return errors.New("assertion has expired")
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued), errors.Is(err, jwt.ErrTokenNotValidYet):
		return errors.New("assertion is not valid yet")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return errors.New("assertion is for another service")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return errors.New("assertion has another issuer")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return errors.New("assertion lacks a claim: it needs iss, aud and exp")
	}
	return errors.New("assertion is not valid")
}

// LoadKeys reads Ed25519 public keys (PEM, PKIX: "PUBLIC KEY") from files, each
// of which may hold several. A file without one is an error, and so is a private
// key: a service has no business with it.
func LoadKeys(files ...string) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for _, file := range files {
		raw, err := os.ReadFile(file) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("assertion key: %w", err)
		}
		more, err := parseKeys(raw)
		if err != nil {
			return nil, fmt.Errorf("assertion key %s: %w", file, err)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}

func parseKeys(raw []byte) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("holds a %q, want PUBLIC KEY", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("not a PKIX public key: %w", err)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("holds a %T, want an Ed25519 key", parsed)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no PEM public key")
	}
	return keys, nil
}
