package kit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"
)

const (
	assertionIssuer = "sluice"
	assertionLeeway = 5 * time.Second
	// maxAssertionBytes bounds what is parsed and hashed for anyone. The gateway takes
	// tokens of up to 64 KiB, and asserts subject, tenant and scopes of one.
	maxAssertionBytes = 128 << 10
	// verifiedTokens is how many verified assertions are remembered: the callers
	// of a few seconds, at about 300 bytes each. One that says more counts for several.
	verifiedTokens = 16384
)

// Verifier checks assertions: the short-lived JWTs (RFC 7519, EdDSA only) by
// which the gateway says who calls. It is safe for concurrent use.
//
// A signature costs about 50 µs to verify, so tokens that were found good are
// remembered until they expire. Only good ones: a flood of forgeries cannot
// push them out.
type Verifier struct {
	keys func() []ed25519.PublicKey
	with atomic.Pointer[verifying]
	now  func() time.Time
}

// verifying is the keys of a moment and what they verified: with other keys,
// nothing is known to be good any more.
type verifying struct {
	keys     []ed25519.PublicKey // As the function returned them.
	set      jwt.VerificationKeySet
	verified *otter.Cache[verifiedKey, verifiedCaller]
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
	weight  uint32 // 1 for every KiB of the assertion.
}

// NewVerifier returns a verifier that accepts what any of keys signed. Without a
// key it fails. NewVerifierFunc is for keys that change.
func NewVerifier(keys ...ed25519.PublicKey) (*Verifier, error) {
	keys = slices.Clone(keys)
	return NewVerifierFunc(func() []ed25519.PublicKey { return keys })
}

// NewVerifierFunc returns a verifier that accepts what any of the keys signed
// that keys returns: a key of the gateway can be put in the place of another
// while both run. keys is called for each assertion, from many goroutines; a
// slice that it has returned does not change, and other keys come in another
// slice. Keys that are no good, or none, fail here, and later refuse every call.
func NewVerifierFunc(keys func() []ed25519.PublicKey) (*Verifier, error) {
	v := &Verifier{keys: keys, now: time.Now}
	if _, err := v.current(); err != nil {
		return nil, err
	}
	return v, nil
}

// current returns what the keys of now verify with.
func (v *Verifier) current() (*verifying, error) {
	keys := v.keys()
	was := v.with.Load()
	if was != nil && len(was.keys) == len(keys) && &was.keys[0] == &keys[0] {
		return was, nil
	}
	is, err := newVerifying(keys)
	if err != nil {
		return nil, err
	}
	v.with.CompareAndSwap(was, is) // Of several that noticed at once, one is kept.
	return is, nil
}

func newVerifying(keys []ed25519.PublicKey) (*verifying, error) {
	if len(keys) == 0 {
		return nil, errors.New("no assertion key: name at least one public key of the gateway")
	}
	v := &verifying{keys: keys}
	for i, k := range keys {
		if len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("assertion key %d has %d bytes, want %d", i, len(k), ed25519.PublicKeySize)
		}
		v.set.Keys = append(v.set.Keys, k)
	}
	// No expiry in the cache itself, which would cost it a goroutine that nobody
	// stops: entries carry theirs.
	cache, err := otter.New(&otter.Options[verifiedKey, verifiedCaller]{
		MaximumWeight: verifiedTokens,
		Weigher:       func(_ verifiedKey, v verifiedCaller) uint32 { return v.weight },
	})
	if err != nil {
		return nil, fmt.Errorf("assertion cache: %w", err)
	}
	v.verified = cache
	return v, nil
}

type assertionClaims struct {
	jwt.RegisteredClaims
	Scope  string `json:"scope"`
	Tenant string `json:"tenant"`
}

// Verify returns the caller that token asserts towards audience, a full gRPC
// service name. Its errors say what is wrong and never hold the token.
func (v *Verifier) Verify(token, audience string) (Caller, error) {
	if len(token) > maxAssertionBytes {
		return Caller{}, errors.New("assertion is too large")
	}
	with, err := v.current()
	if err != nil { // The reason is the service's own affair.
		return Caller{}, errors.New("assertion cannot be verified: the service has no keys")
	}
	var room [1 << 10]byte // Of the stack: the gateway's assertions fit.
	key := verifiedKey{token: sha256.Sum256(append(room[:0], token...)), audience: audience}
	if known, ok := with.verified.GetIfPresent(key); ok {
		if v.now().Before(known.expires.Add(assertionLeeway)) {
			return known.caller, nil
		}
		with.verified.Invalidate(key)
		return Caller{}, errors.New("assertion has expired")
	}
	var claims assertionClaims
	_, err = jwt.ParseWithClaims(token, &claims,
		func(*jwt.Token) (any, error) { return with.set, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(assertionIssuer),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(assertionLeeway),
		jwt.WithStrictDecoding(), // One spelling of a token: it is remembered by its text.
		jwt.WithTimeFunc(v.now),
	)
	if err != nil {
		return Caller{}, assertionError(err)
	}
	c := Caller{Subject: claims.Subject, Scopes: strings.Fields(claims.Scope), Tenant: claims.Tenant}
	with.verified.Set(key, verifiedCaller{caller: c, expires: claims.ExpiresAt.Time, weight: 1 + uint32(len(token)/1024)}) //nolint:gosec // Bounded above.
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
