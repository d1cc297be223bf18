package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

const (
	// Bytes of a token, by default and at most: what is more does not fit beside other
	// headers, nor as an assertion into a service's.
	defaultToken = 8 << 10
	MaxToken     = 64 << 10
	maxLeeway    = 60 * time.Second // Of an issuer.
	maxKeyID     = 256              // Bytes of a kid.
	// A key that an issuer withdraws stops working after this at the latest: a
	// cached token does not ask for its key.
	maxCached = 5 * time.Minute
)

var algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
	"ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
}

// Issuer is one whose tokens are accepted.
type Issuer struct {
	// Name is the exact value of the iss claim.
	Name string
	// Audiences: the aud claim, or the one that Claims names in its place, must contain
	// one of them.
	Audiences []string
	// Algorithms are the accepted values of the alg header. HS256, HS384 and
	// HS512 go with a secret, all others with public keys.
	Algorithms []string
	// Keys verify the tokens.
	Keys KeySource
	// Leeway is the clock skew granted to exp, nbf and iat; 60 s at most.
	Leeway time.Duration
	// Claims say where the tokens name their caller.
	Claims ClaimPaths
}

// Options make a Verifier.
type Options struct {
	// Issuers whose tokens are accepted; at least one.
	Issuers []Issuer
	// MaxTokenBytes is the longest token that is looked at; 0 means 8 KiB, [MaxToken] is
	// the most.
	MaxTokenBytes int
	// Changed is called after keys in files have changed; nil means nobody is told.
	Changed func()
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// CacheSize is the most verified tokens that are remembered; 0 means 16384.
	// One with many scopes counts for several.
	CacheSize int
}

// Verifier verifies JSON Web Tokens (RFC 7519, with the advice of RFC 8725). It
// is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	most    int // Bytes of a token.
	now     func() time.Time
	cache   *otter.Cache[[sha256.Size]byte, *verified]
	// changes counts those of key files. A token counts as verified as long as
	// there was none since before its keys were looked up.
	changes atomic.Uint64
}

type issuer struct {
	Issuer
	parser *jwt.Parser
	claims *mapping
}

// verified is a token that was good; until, in nanoseconds of Unix time, is when
// it must be verified again.
type verified struct {
	principal *policy.Principal
	until     int64
	changes   uint64 // Of the verifier, before.
}

// weight is 1 for every 256 bytes of whom the token names: what it may hold is
// thirty times what most do, and memory is what the cache is bounded for.
func (e *verified) weight() uint32 { return 1 + uint32(nameBytes(e.principal)/256) } //nolint:gosec // Of 64 KiB at most.

// nameBytes is how much text a principal has.
func nameBytes(p *policy.Principal) int { return len(p.Subject) + len(p.Tenant) + len(p.Scope()) }

// NewVerifier checks the issuers and makes a verifier for them.
func NewVerifier(o Options) (*Verifier, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.CacheSize <= 0 {
		o.CacheSize = 16384
	}
	switch {
	case len(o.Issuers) == 0:
		return nil, errors.New("no issuer of tokens")
	case o.MaxTokenBytes < 0 || o.MaxTokenBytes > MaxToken:
		return nil, fmt.Errorf("tokens of up to %d bytes; want %d at most", o.MaxTokenBytes, MaxToken)
	}
	v := &Verifier{issuers: map[string]*issuer{}, most: cmp.Or(o.MaxTokenBytes, defaultToken), now: o.Now}
	var errs []error
	for _, i := range o.Issuers {
		paths, err := i.Claims.compile()
		if err = errors.Join(i.check(), err); err != nil {
			errs = append(errs, fmt.Errorf("issuer %q: %w", i.Name, err))
		} else if v.issuers[i.Name] != nil {
			errs = append(errs, fmt.Errorf("issuer %q: named twice", i.Name))
		}
		v.issuers[i.Name] = &issuer{Issuer: i, parser: i.newParser(o.Now), claims: paths}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, i := range v.issuers { // Last, for files hold on to who uses them.
		files, ok := i.Keys.(*KeyFiles)
		if !ok {
			continue
		}
		if err := files.use(keyUser{check: i.checkKeys, changed: func() { v.changes.Add(1); o.Changed() }}); err != nil {
			errs = append(errs, fmt.Errorf("issuer %q: %w", i.Name, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	var err error
	v.cache, err = otter.New(&otter.Options[[sha256.Size]byte, *verified]{
		MaximumWeight: uint64(o.CacheSize), //nolint:gosec // Positive, as made so above.
		Weigher:       func(_ [sha256.Size]byte, e *verified) uint32 { return e.weight() },
	})
	if err != nil {
		return nil, fmt.Errorf("cache of verified tokens: %w", err)
	}
	return v, nil
}

func (i *Issuer) newParser(now func() time.Time) *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods(i.Algorithms),
		jwt.WithIssuer(i.Name),
		jwt.WithAudience(i.Audiences...),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(i.Leeway),
		jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(now),
	)
}

func (i *Issuer) check() error {
	switch {
	case i.Name == "":
		return errors.New("has no name")
	case len(i.Audiences) == 0 || slices.Contains(i.Audiences, ""):
		return errors.New("needs audiences, none of them empty")
	case len(i.Algorithms) == 0:
		return errors.New("needs algorithms")
	case i.Leeway < 0 || i.Leeway > maxLeeway:
		return fmt.Errorf("leeway %v is not within 0s and %v", i.Leeway, maxLeeway)
	case i.Keys == nil:
		return errors.New("has no keys")
	}
	files, _ := i.Keys.(*KeyFiles)
	symmetric := files != nil && files.symmetric
	for _, alg := range i.Algorithms {
		if !slices.Contains(algorithms, alg) {
			return fmt.Errorf("algorithm %q is not supported", alg)
		}
		if strings.HasPrefix(alg, "HS") != symmetric {
			return fmt.Errorf("algorithm %s does not go with the keys: HS256, HS384 and HS512 need an HMAC secret, the others public keys", alg)
		}
	}
	if static, ok := i.Keys.(publicKeys); ok {
		return i.checkKeys(static)
	}
	return nil
}

// checkKeys refuses keys that no accepted algorithm uses, or that are too short
// for one.
func (i *Issuer) checkKeys(keys []any) error {
	for n, key := range keys {
		if !slices.ContainsFunc(i.Algorithms, func(alg string) bool { return Suits(alg, key) }) {
			return fmt.Errorf("public key %d (%T) is of no use to any of the algorithms %s", n+1, key, strings.Join(i.Algorithms, ", "))
		}
		secret, symmetric := key.([]byte)
		for _, alg := range i.Algorithms {
			if n := minSecret(alg); symmetric && len(secret) < n {
				return fmt.Errorf("an HMAC secret of %d bytes; %s wants %d at least", len(secret), alg, n)
			}
		}
	}
	return nil
}

// Verify returns whom a token stands for, or a status error to answer with:
// UNAUTHENTICATED for a token that is no good, UNAVAILABLE where that cannot be
// told now. The principal's Expires is when the gateway stops taking the token:
// its exp and the issuer's leeway. A token that was good is not verified again
// for 5 minutes, or until it expires or a key file changes if that is sooner.
func (v *Verifier) Verify(ctx context.Context, token string) (*policy.Principal, error) {
	if len(token) > v.most {
		return nil, answer(fmt.Errorf("%w: %d bytes, of %d", errTooLong, len(token), v.most))
	}
	// Sum256 only reads, so the token is not copied for it.
	key := sha256.Sum256(unsafe.Slice(unsafe.StringData(token), len(token))) //nolint:gosec // As said.
	now, changes := v.now(), v.changes.Load()
	if hit, ok := v.cache.GetIfPresent(key); ok {
		if now.UnixNano() < hit.until && hit.changes == changes {
			return hit.principal, nil
		}
		v.cache.Invalidate(key)
	}
	p, err := v.verify(ctx, token)
	if err != nil {
		return nil, answer(err)
	}
	until := now.Add(maxCached)
	if p.Expires.Before(until) {
		until = p.Expires
	}
	v.cache.Set(key, &verified{principal: p, until: until.UnixNano(), changes: changes})
	return p, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (*policy.Principal, error) {
	h, claimed, err := peek(token)
	if err != nil {
		return nil, err
	}
	iss := v.issuers[claimed.issuer]
	if iss == nil {
		return nil, jwt.ErrTokenInvalidIssuer
	}
	keys, err := iss.keys(ctx, h)
	if err != nil {
		return nil, err
	}
	c := claims{audienceAt: iss.claims.audience}
	if _, err := iss.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return keys, nil }); err != nil {
		return nil, err
	}
	if !c.audienceHolds(iss.Audiences) {
		return nil, jwt.ErrTokenInvalidAudience
	}
	id, err := iss.claims.identity(&c)
	if err != nil {
		return nil, err
	}
	p := policy.NewPrincipal(id.subject, iss.Name, id.scopes, c.exp.Add(iss.Leeway))
	p.Tenant = id.tenant
	return p, nil
}

// keys are the issuer's that may have signed a token with such a header.
func (i *issuer) keys(ctx context.Context, h header) (set jwt.VerificationKeySet, err error) {
	// Whoever claims an algorithm that is not accepted causes no fetch.
	if !slices.Contains(i.Algorithms, h.alg) {
		return set, jwt.ErrTokenSignatureInvalid
	}
	keys, err := i.Keys.Keys(ctx, h.alg, h.kid)
	if err != nil {
		return set, err
	}
	for _, k := range keys {
		if Suits(h.alg, k) {
			set.Keys = append(set.Keys, k)
		}
	}
	if len(set.Keys) == 0 {
		return set, jwt.ErrTokenSignatureInvalid
	}
	return set, nil
}
