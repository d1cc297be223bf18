package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestVerifyAccepts(t *testing.T) {
	k, v := newKeys(), newVerifier(t, newClock().Now)
	ed := func(c jwt.Claims, header ...any) string {
		return signed(t, jwt.SigningMethodEdDSA, k.ed, c, header...)
	}
	for name, tc := range map[string]struct{ token, scope string }{
		"RS256":                    {signed(t, jwt.SigningMethodRS256, k.rsa, good()), "orders.read users.read"},
		"ES256":                    {signed(t, jwt.SigningMethodES256, k.p256, good()), "orders.read users.read"},
		"EdDSA":                    {ed(good()), "orders.read users.read"},
		"HS256":                    {signed(t, jwt.SigningMethodHS256, []byte(hmacSecret), with("iss", symmetric)), "orders.read users.read"},
		"a kid is not looked at":   {ed(good(), "kid", "anything"), "orders.read users.read"},
		"one of several audiences": {ed(with("aud", []string{"else", "shop2"})), "orders.read users.read"},
		"scp list":                 {ed(with("scope", nil, "scp", []string{"b", "a"})), "a b"},
		"scp string":               {ed(with("scope", nil, "scp", "b a")), "a b"},
		"scopes list":              {ed(with("scope", nil, "scopes", []string{"a"})), "a"},
		"both":                     {ed(with("scope", "a", "scopes", []string{"b"})), "a b"},
		"no scopes":                {ed(with("scope", nil)), ""},
		"spaces between scopes":    {ed(with("scope", "  b   a ")), "a b"},
		"expired within leeway":    {ed(with("exp", start.Add(-29*time.Second).Unix())), "orders.read users.read"},
		"nbf within leeway":        {ed(with("nbf", start.Add(29*time.Second).Unix())), "orders.read users.read"},
		"iat within leeway":        {ed(with("iat", start.Add(29*time.Second).Unix())), "orders.read users.read"},
		"no iat":                   {ed(with("iat", nil)), "orders.read users.read"},
		"fraction of a second":     {ed(with("exp", float64(start.Unix())+0.5)), "orders.read users.read"},
		"claims of other names":    {ed(with("SUB", "root", "Scope", "admin")), "orders.read users.read"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // The second comes from the cache.
				p, err := verify(v, tc.token)
				if err != nil {
					t.Fatal(err)
				}
				if p.Subject != "ada" || p.Scope() != tc.scope || p.Expires.IsZero() {
					t.Errorf("principal %+v", p)
				}
			}
		})
	}
}

func TestPrincipalExpiresWithTheLeeway(t *testing.T) {
	p, err := verify(newVerifier(t, newClock().Now), signed(t, jwt.SigningMethodEdDSA, newKeys().ed, good()))
	if err != nil || !p.Expires.Equal(start.Add(time.Hour+30*time.Second)) || p.Issuer != asymmetric {
		t.Errorf("principal %+v, err %v", p, err)
	}
}

// The attack table has one algorithm an issuer; this is what several add.
func TestSeveralAlgorithms(t *testing.T) {
	k := newKeys()
	sound := signed(t, jwt.SigningMethodEdDSA, k.ed, good())
	for name, token := range map[string]string{
		"the alg of another key":      tamperHeader(sound, `{"alg":"RS256","typ":"JWT"}`),
		"the alg of no key":           tamperHeader(sound, `{"alg":"ES384","typ":"JWT"}`),
		"HS256 with the public PEM":   signed(t, jwt.SigningMethodHS256, k.rsaPEM, good()),
		"another issuer's key":        signed(t, jwt.SigningMethodEdDSA, k.ed, with("iss", symmetric)),
		"another issuer's secret":     signed(t, jwt.SigningMethodHS256, []byte(hmacSecret), good()),
		"expired, another's audience": signed(t, jwt.SigningMethodEdDSA, k.ed, with("exp", 1, "aud", "other")),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := verify(newVerifier(t, newClock().Now), token)
			if p != nil {
				t.Errorf("a principal %+v", p)
			}
			want(t, err, codes.Unauthenticated, "TOKEN_INVALID", token)
		})
	}
}

func derOf(pem []byte) []byte {
	lines := strings.Split(strings.TrimSpace(string(pem)), "\n")
	der, err := base64.StdEncoding.DecodeString(strings.Join(lines[1:len(lines)-1], ""))
	if err != nil {
		panic(err)
	}
	return der
}

func tamperHeader(token, header string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + token[strings.IndexByte(token, '.'):]
}

// source counts how often it is asked.
type source struct {
	mu    sync.Mutex
	keys  []any
	err   error
	asked atomic.Int64
}

func (s *source) Keys(context.Context, string, string) ([]any, error) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, s.err
}

func (s *source) set(keys []any, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.err = keys, err
}

func verifierOf(t testing.TB, keys auth.KeySource, now func() time.Time) *auth.Verifier {
	t.Helper()
	v, err := auth.NewVerifier(auth.Options{Now: now, Issuers: []auth.Issuer{
		{Name: asymmetric, Audiences: []string{"shop"}, Algorithms: []string{"EdDSA"}, Keys: keys, Leeway: 30 * time.Second},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCache(t *testing.T) {
	k := newKeys()
	public := []any{k.ed.Public()}
	t.Run("verified once, shared, until it expires", func(t *testing.T) {
		src, c := &source{keys: public}, newClock()
		v := verifierOf(t, src, c.Now)
		token := signed(t, jwt.SigningMethodEdDSA, k.ed, with("exp", start.Add(time.Minute).Unix()))
		first, err := verify(v, token)
		if err != nil {
			t.Fatal(err)
		}
		c.Add(89 * time.Second)
		again, err := verify(v, token)
		if err != nil || again != first || src.asked.Load() != 1 {
			t.Errorf("again %v, err %v, asked %d", again, err, src.asked.Load())
		}
		c.Add(time.Second)
		_, err = verify(v, token)
		want(t, err, codes.Unauthenticated, "TOKEN_EXPIRED", token)
	})
	t.Run("a withdrawn key stops working after five minutes", func(t *testing.T) {
		src, c := &source{keys: public}, newClock()
		v := verifierOf(t, src, c.Now)
		token := signed(t, jwt.SigningMethodEdDSA, k.ed, good())
		if _, err := verify(v, token); err != nil {
			t.Fatal(err)
		}
		src.set(nil, nil)
		c.Add(5*time.Minute - 1)
		if _, err := verify(v, token); err != nil {
			t.Errorf("before: %v", err)
		}
		c.Add(1)
		_, err := verify(v, token)
		want(t, err, codes.Unauthenticated, "TOKEN_INVALID", token)
	})
	t.Run("failures are not remembered", func(t *testing.T) {
		src := &source{err: auth.ErrKeysUnavailable}
		v := verifierOf(t, src, newClock().Now)
		token := signed(t, jwt.SigningMethodEdDSA, k.ed, good())
		_, err := verify(v, token)
		want(t, err, codes.Unavailable, "KEYS_UNAVAILABLE", token)
		src.set(public, nil)
		if _, err := verify(v, token); err != nil {
			t.Error(err)
		}
	})
	t.Run("a caller that leaves is told so", func(t *testing.T) {
		v := verifierOf(t, &source{err: context.DeadlineExceeded}, newClock().Now)
		if _, err := verify(v, signed(t, jwt.SigningMethodEdDSA, k.ed, good())); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	})
	t.Run("keys of an alg that is not accepted are not asked for", func(t *testing.T) {
		src := &source{keys: public}
		v := verifierOf(t, src, newClock().Now)
		if _, err := verify(v, signed(t, jwt.SigningMethodRS256, k.rsa, good(), "kid", "x")); err == nil || src.asked.Load() != 0 {
			t.Errorf("err %v, asked %d", err, src.asked.Load())
		}
	})
}

func TestVerifyConcurrently(t *testing.T) {
	v := newVerifier(t, newClock().Now)
	k := newKeys()
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = signed(t, jwt.SigningMethodEdDSA, k.ed, with("sub", "user"+string(rune('a'+i))))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 200 {
				i := n % len(tokens)
				p, err := verify(v, tokens[i])
				if err != nil || p.Subject != "user"+string(rune('a'+i)) {
					t.Errorf("token %d: %v, %v", i, p, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNewVerifierRefuses(t *testing.T) {
	k := newKeys()
	public, err := auth.PublicKeyFiles(write(t, publicPEM(k.ed.Public())))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := auth.SecretFile(write(t, []byte(hmacSecret)))
	if err != nil {
		t.Fatal(err)
	}
	issuer := func(change func(*auth.Issuer)) []auth.Issuer {
		i := auth.Issuer{Name: "i", Audiences: []string{"a"}, Algorithms: []string{"EdDSA"}, Keys: public}
		change(&i)
		return []auth.Issuer{i}
	}
	for name, tc := range map[string]struct {
		issuers []auth.Issuer
		want    string
	}{
		"no issuer":             {nil, "no issuer"},
		"no name":               {issuer(func(i *auth.Issuer) { i.Name = "" }), "has no name"},
		"no audience":           {issuer(func(i *auth.Issuer) { i.Audiences = nil }), "needs audiences"},
		"an empty audience":     {issuer(func(i *auth.Issuer) { i.Audiences = []string{"a", ""} }), "needs audiences"},
		"no algorithm":          {issuer(func(i *auth.Issuer) { i.Algorithms = nil }), "needs algorithms"},
		"none":                  {issuer(func(i *auth.Issuer) { i.Algorithms = []string{"none"} }), `"none" is not supported`},
		"no keys":               {issuer(func(i *auth.Issuer) { i.Keys = nil }), "has no keys"},
		"leeway of an hour":     {issuer(func(i *auth.Issuer) { i.Leeway = time.Hour }), "leeway"},
		"negative leeway":       {issuer(func(i *auth.Issuer) { i.Leeway = -1 }), "leeway"},
		"HS256 and public keys": {issuer(func(i *auth.Issuer) { i.Algorithms = []string{"EdDSA", "HS256"} }), "HS256 does not go with the keys"},
		"EdDSA and a secret":    {issuer(func(i *auth.Issuer) { i.Keys = shared }), "EdDSA does not go with the keys"},
		"a key of no use":       {issuer(func(i *auth.Issuer) { i.Algorithms = []string{"RS256"} }), "of no use"},
		"HS512, a short secret": {issuer(func(i *auth.Issuer) { i.Keys, i.Algorithms = shared, []string{"HS512"} }), "HS512 wants 64"},
		"a bad claim path":      {issuer(func(i *auth.Issuer) { i.Claims.Tenant = "a..b" }), "tenant: claim path"},
		"a prefix with a space": {issuer(func(i *auth.Issuer) { i.Claims.SubjectPrefix = "a b" }), "the prefix of subjects"},
		"a prefix of 65":        {issuer(func(i *auth.Issuer) { i.Claims.SubjectPrefix = strings.Repeat("a", 65) }), "the prefix of subjects"},
		"twice":                 {append(issuer(func(*auth.Issuer) {}), issuer(func(*auth.Issuer) {})...), "named twice"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := auth.NewVerifier(auth.Options{Issuers: tc.issuers}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestCacheHitDoesNotAllocate(t *testing.T) {
	v := newVerifier(t, newClock().Now)
	token := signed(t, jwt.SigningMethodRS256, newKeys().rsa, good())
	ctx := context.Background()
	if _, err := v.Verify(ctx, token); err != nil {
		t.Fatal(err)
	}
	var failed error
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := v.Verify(ctx, token); err != nil {
			failed = err
		}
	}); n > 0 || failed != nil {
		t.Errorf("%v allocations, err %v", n, failed)
	}
}

// FuzzVerify holds that no text is accepted but what an issuer signed, and that
// whatever is refused is refused with a status. It looks at mutations, too: one
// byte of a good token is another.
func FuzzVerify(f *testing.F) {
	v := attackedVerifier(f)
	goodTokens, signedText := []string{}, map[string]bool{}
	for _, p := range parties() {
		token := p.good()
		goodTokens = append(goodTokens, token)
		signedText[token[:strings.LastIndexByte(token, '.')]] = true
		f.Add(token, 0, byte(0))
		f.Add(p.forge(p.head(""), p.body(ada)), 40, byte('A'))
		f.Add(p.sign(p.head(`,"crit":["x"]`), p.body(ada)), 100, byte('='))
		f.Add(p.bytes(`{"alg":"none"}`, ""), 200, byte('.'))
	}
	f.Add("..", 3, byte('\n'))
	f.Fuzz(func(t *testing.T, token string, at int, b byte) {
		mutated := []byte(goodTokens[int(b)%len(goodTokens)])
		mutated[int(uint(at)%uint(len(mutated)))] = b
		for _, token := range []string{token, string(mutated)} {
			p, err := verify(v, token)
			switch {
			// Signatures on curves have a twin; what they sign has not.
			case err == nil && !signedText[token[:strings.LastIndexByte(token, '.')]]:
				t.Fatalf("accepted %q as %+v", token, p)
			case err == nil && p.Subject != "ada":
				t.Fatalf("%q is %+v", token, p)
			case err == nil:
			case status.Code(err) != codes.Unauthenticated || p != nil:
				t.Fatalf("refused with %v, principal %v", err, p)
			}
		}
	})
}

func BenchmarkVerifyHit(b *testing.B) {
	k, v := newKeys(), newVerifier(b, time.Now)
	claims := with("iat", nil, "exp", time.Now().Add(time.Hour).Unix())
	for name, token := range map[string]string{
		"RS256": signed(b, jwt.SigningMethodRS256, k.rsa, claims),
		"EdDSA": signed(b, jwt.SigningMethodEdDSA, k.ed, claims),
	} {
		b.Run(name, func(b *testing.B) {
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(ctx, token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAuthenticateHit(b *testing.B) {
	v := newVerifier(b, time.Now)
	values := []string{"Bearer " + signed(b, jwt.SigningMethodEdDSA, newKeys().ed, with("iat", nil, "exp", time.Now().Add(time.Hour).Unix()))}
	c := &policy.Call{Headers: func(string) []string { return values }}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Authenticate(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyMiss(b *testing.B) {
	src := &source{err: errors.New("never remembered")}
	v := verifierOf(b, src, time.Now)
	token := signed(b, jwt.SigningMethodEdDSA, newKeys().strangerEd, with("iat", nil, "exp", time.Now().Add(time.Hour).Unix()))
	src.set([]any{newKeys().ed.Public()}, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verify(v, token); err == nil {
			b.Fatal("a forgery was accepted")
		}
	}
}
