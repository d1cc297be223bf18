package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// AssertionIssuer is the iss claim of the gateway's assertions.
const AssertionIssuer = "sluice"

// The most assertions that are remembered. One with many scopes counts for several.
const maxAssertions = 16384

// Signer makes the assertions by which services know the caller: JSON Web
// Tokens signed with the gateway's own key. It is safe for concurrent use.
//
// Its file may hold several keys. The first signs; the public halves of all are
// published, so that services know a key before it signs and after it has. See
// [KeyRotation] for how keys are rotated.
type Signer struct {
	file     string
	ttl      time.Duration
	now      func() time.Time
	with     atomic.Pointer[signing]
	reload   sync.Mutex
	watching watching
}

// signing is the keys of a moment, and what was signed with the first of them.
type signing struct {
	key    ed25519.PrivateKey
	kid    string
	public []ed25519.PublicKey // The signing key's first.
	cache  *otter.Cache[assertionKey, assertion]
}

// assertionKey holds every claim that an assertion is made from. expires, in
// seconds of Unix time, is 0 unless the caller's credential ends before the
// assertion would: such an assertion is not shared with another credential's.
type assertionKey struct {
	subject, tenant, scope, audience string
	expires                          int64
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
	Tenant   string   `json:"tenant,omitempty"`
	Scope    string   `json:"scope"`
	Audience []string `json:"aud"`
	IssuedAt int64    `json:"iat"`
	Expires  int64    `json:"exp"`
}

// OpenSigner reads a PEM file with Ed25519 private keys (PKCS#8). Where there is
// none it makes one with one key, for its owner alone. The public halves stand
// beside it: x.pub.pem for x.pem. Assertions live for ttl, a second at least.
func OpenSigner(keyFile string, ttl time.Duration) (*Signer, error) {
	if ttl < time.Second {
		return nil, fmt.Errorf("assertions of %v: want a second at least", ttl)
	}
	s := &Signer{file: keyFile, ttl: ttl, now: time.Now}
	keys, err := openKeys(keyFile)
	if err != nil {
		return nil, err
	}
	if err := s.use(keys); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload reads the key file again. Keys that have changed are published, then
// take the place of those from before, all at once, and what was signed before
// is forgotten. On an error those from before stay.
func (s *Signer) Reload() error {
	s.reload.Lock()
	defer s.reload.Unlock()
	keys, err := readKeys(s.file)
	if err != nil {
		return err
	}
	return s.use(keys)
}

// use must not run twice at once.
func (s *Signer) use(keys []ed25519.PrivateKey) error {
	public := publicHalves(keys)
	if err := publish(publicFile(s.file), public); err != nil {
		return err
	}
	if was := s.with.Load(); was != nil && sameKeys(was.public, public) {
		return nil
	}
	// A cache of its own: no call that still signs with the keys from before can
	// leave its assertion to those that come after.
	cache, err := otter.New(&otter.Options[assertionKey, assertion]{
		MaximumWeight: maxAssertions,
		Weigher:       func(_ assertionKey, a assertion) uint32 { return 1 + uint32(len(a.token)/1024) }, //nolint:gosec // Of 100 KiB at most.
	})
	if err != nil {
		return fmt.Errorf("cache of assertions: %w", err)
	}
	s.with.Store(&signing{key: keys[0], kid: thumbprint(public[0]), public: public, cache: cache})
	return nil
}

// Watch reloads when the key file has changed, which it looks for every
// interval; 0 means every five seconds. What goes wrong is logged, once while it
// stays the same. Close ends it.
func (s *Signer) Watch(interval time.Duration, log *slog.Logger) {
	log = orDefaultLog(log)
	failed := failures{what: "the keys of the assertions"}
	s.watching.start(s.file, interval, func() error {
		before := s.with.Load()
		err := s.Reload()
		failed.report(log, err)
		if after := s.with.Load(); after != before {
			log.Info("the keys of the assertions have changed", "keys", len(after.public), "signs", after.kid)
		}
		return err
	})
}

// Close ends watching. The signer may still be used.
func (s *Signer) Close() { s.watching.close() }

// Public is the key that verifies the assertions that are signed now.
func (s *Signer) Public() ed25519.PublicKey { return s.with.Load().public[0] }

// PublicKeys are all keys that verify assertions now, the signing one first. The
// slice is not to be changed; another one is returned when the keys have.
func (s *Signer) PublicKeys() []ed25519.PublicKey { return s.with.Load().public }

// Sign asserts to the service named audience who calls. The assertion never
// outlives the principal's credential; a credential that has ended is
// UNAUTHENTICATED. Equal assertions are signed once and shared until a third of
// their life is left.
func (s *Signer) Sign(p *policy.Principal, audience string) (string, error) {
	now, with := s.now(), s.with.Load()
	key := assertionKey{subject: p.Subject, tenant: p.Tenant, scope: p.Scope(), audience: audience}
	expires := now.Add(s.ttl)
	until := expires.Add(-s.ttl / 3)
	if !p.Expires.IsZero() && p.Expires.Before(expires) {
		// Signing again would win no time, so it lasts to its end.
		expires = p.Expires.Truncate(time.Second)
		until = expires
		key.expires = expires.Unix()
	}
	if hit, ok := with.cache.GetIfPresent(key); ok && now.UnixNano() < hit.until {
		return hit.token, nil
	}
	if !now.Before(expires) {
		return "", refuse(reasonExpired, "the token has expired")
	}
	token, err := sign(with.key, with.kid, signedClaims{
		Issuer:   AssertionIssuer,
		Subject:  p.Subject,
		Tenant:   p.Tenant,
		Scope:    p.Scope(),
		Audience: []string{audience},
		IssuedAt: now.Unix(),
		Expires:  expires.Unix(),
	})
	if err != nil {
		return "", err
	}
	with.cache.Set(key, assertion{token: token, until: until.UnixNano()})
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
	// Not escaped for HTML, which would make six bytes of one: what fits into a token must
	// fit into the assertion.
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString(h) + "." + b64.EncodeToString(bytes.TrimSuffix(body.Bytes(), []byte("\n")))
	return text + "." + b64.EncodeToString(ed25519.Sign(key, []byte(text))), nil
}

// thumbprint is the key's id: its JWK thumbprint (RFC 7638, RFC 8037).
func thumbprint(key ed25519.PublicKey) string {
	jwk := `{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`
	sum := sha256.Sum256([]byte(jwk))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
