package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// AssertionIssuer is the iss claim of the gateway's assertions.
const AssertionIssuer = "sluice"

// The most assertions that are remembered.
const maxAssertions = 16384

// Signer makes the assertions by which services know the caller: JSON Web
// Tokens signed with the gateway's own key. It is safe for concurrent use.
type Signer struct {
	key   ed25519.PrivateKey
	kid   string
	ttl   time.Duration
	now   func() time.Time
	cache *otter.Cache[assertionKey, assertion]
}

// assertionKey holds every claim that an assertion is made from. expires, in
// seconds of Unix time, is 0 unless the caller's credential ends before the
// assertion would: such an assertion is not shared with another credential's.
type assertionKey struct {
	subject, scope, audience string
	expires                  int64
}

// assertion is a signed token; until, in nanoseconds of Unix time, is when
// another is due.
type assertion struct {
	token string
	until int64
}

type signedClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Scope    string   `json:"scope"`
	Audience []string `json:"aud"`
	IssuedAt int64    `json:"iat"`
	Expires  int64    `json:"exp"`
}

// OpenSigner reads a PEM file with an Ed25519 private key (PKCS#8). Where there
// is none it makes one, for its owner alone. The public half stands beside it:
// x.pub.pem for x.pem. Assertions live for ttl, a second at least.
func OpenSigner(keyFile string, ttl time.Duration) (*Signer, error) {
	if ttl < time.Second {
		return nil, fmt.Errorf("assertions of %v: want a second at least", ttl)
	}
	key, err := openKey(keyFile)
	if err != nil {
		return nil, err
	}
	public := key.Public().(ed25519.PublicKey)
	if err := publish(strings.TrimSuffix(keyFile, ".pem")+".pub.pem", public); err != nil {
		return nil, err
	}
	cache, err := otter.New(&otter.Options[assertionKey, assertion]{MaximumSize: maxAssertions})
	if err != nil {
		return nil, fmt.Errorf("cache of assertions: %w", err)
	}
	return &Signer{key: key, kid: thumbprint(public), ttl: ttl, now: time.Now, cache: cache}, nil
}

// Public is the key that verifies the assertions.
func (s *Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// Sign asserts to the service named audience who calls. The assertion never
// outlives the principal's credential; a credential that has ended is
// UNAUTHENTICATED. Equal assertions are signed once and shared until a third of
// their life is left.
func (s *Signer) Sign(p *policy.Principal, audience string) (string, error) {
	now := s.now()
	key := assertionKey{subject: p.Subject, scope: p.Scope(), audience: audience}
	expires := now.Add(s.ttl)
	until := expires.Add(-s.ttl / 3)
	if !p.Expires.IsZero() && p.Expires.Before(expires) {
		// Signing again would win no time, so it lasts to its end.
		expires = p.Expires.Truncate(time.Second)
		until = expires
		key.expires = expires.Unix()
	}
	if hit, ok := s.cache.GetIfPresent(key); ok && now.UnixNano() < hit.until {
		return hit.token, nil
	}
	if !now.Before(expires) {
		return "", refuse(reasonExpired, "the token has expired")
	}
	token, err := sign(s.key, s.kid, signedClaims{
		Issuer:   AssertionIssuer,
		Subject:  p.Subject,
		Scope:    p.Scope(),
		Audience: []string{audience},
		IssuedAt: now.Unix(),
		Expires:  expires.Unix(),
	})
	if err != nil {
		return "", err
	}
	s.cache.Set(key, assertion{token: token, until: until.UnixNano()})
	return token, nil
}

func sign(key ed25519.PrivateKey, kid string, c signedClaims) (string, error) {
	head := map[string]string{"alg": jwt.SigningMethodEdDSA.Alg(), "typ": "JWT"}
	if kid != "" {
		head["kid"] = kid
	}
	h, err := json.Marshal(head)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString(h) + "." + b64.EncodeToString(body)
	return text + "." + b64.EncodeToString(ed25519.Sign(key, []byte(text))), nil
}

// thumbprint is the key's id: its JWK thumbprint (RFC 7638, RFC 8037).
func thumbprint(key ed25519.PublicKey) string {
	jwk := `{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`
	sum := sha256.Sum256([]byte(jwk))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
