package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
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

func TestVerifyRefuses(t *testing.T) {
	k := newKeys()
	const (
		expired, invalid, malformed = "TOKEN_EXPIRED", "TOKEN_INVALID", "CREDENTIAL_MALFORMED"
		head                        = `{"alg":"EdDSA","typ":"JWT"}`
	)
	ed := func(c jwt.Claims, header ...any) string {
		return signed(t, jwt.SigningMethodEdDSA, k.ed, c, header...)
	}
	payload := func(extra string) string {
		return `{"iss":"https://issuer.example","aud":"shop","exp":1893560645` + extra + `}`
	}
	if _, err := verify(newVerifier(t, newClock().Now), raw(head, payload(`,"sub":"ada"`))); err != nil {
		t.Fatalf("the cases below would prove nothing: %v", err)
	}
	b64 := base64.RawURLEncoding
	sound := ed(good())
	parts := strings.Split(sound, ".")
	for name, tc := range map[string]struct{ token, reason string }{
		"alg none": {signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good()), invalid},
		"alg none with a signature": {
			b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "." + parts[2], invalid,
		},
		"alg NONE":                        {b64.EncodeToString([]byte(`{"alg":"NONE"}`)) + "." + parts[1] + ".", invalid},
		"no alg":                          {raw(`{"typ":"JWT"}`, payload(`,"sub":"ada"`)), invalid},
		"alg is a number":                 {raw(`{"alg":1}`, payload(`,"sub":"ada"`)), invalid},
		"HS256 with the public PEM":       {signed(t, jwt.SigningMethodHS256, k.rsaPEM, good()), invalid},
		"HS256 with the public DER":       {signed(t, jwt.SigningMethodHS256, derOf(k.rsaPEM), good()), invalid},
		"HS256 with the Ed25519 key":      {signed(t, jwt.SigningMethodHS256, []byte(k.ed[32:]), good()), invalid},
		"HS256 with nothing":              {hmacWith(nil, `{"alg":"HS256"}`, payload(`,"sub":"ada"`)), invalid},
		"HS256 with nothing, HMAC issuer": {hmacWith(nil, `{"alg":"HS256"}`, `{"iss":"https://hmac.example","aud":"shop","exp":1893560645,"sub":"ada"}`), invalid},
		"HS512 where HS256 is accepted":   {signed(t, jwt.SigningMethodHS512, []byte(hmacSecret), with("iss", symmetric)), invalid},
		"the alg of another key":          {tamperHeader(sound, `{"alg":"RS256","typ":"JWT"}`), invalid},
		"ES384 where ES256 is accepted":   {signed(t, jwt.SigningMethodES384, k.p384, good()), invalid},
		"a stranger's RSA key":            {signed(t, jwt.SigningMethodRS256, k.strangerRSA, good()), invalid},
		"a stranger's Ed25519 key":        {signed(t, jwt.SigningMethodEdDSA, k.strangerEd, good()), invalid},
		"another issuer's key":            {ed(with("iss", symmetric)), invalid},
		"another issuer's secret":         {signed(t, jwt.SigningMethodHS256, []byte(hmacSecret), good()), invalid},
		"a key of its own":                {signed(t, jwt.SigningMethodEdDSA, k.strangerEd, good(), "jwk", map[string]string{"kty": "OKP"}), invalid},
		"unknown issuer":                  {ed(with("iss", "https://evil.example")), invalid},
		"issuer with a slash":             {ed(with("iss", asymmetric+"/")), invalid},
		"no issuer":                       {ed(with("iss", nil)), invalid},
		"wrong audience":                  {ed(with("aud", "other")), invalid},
		"no audience":                     {ed(with("aud", nil)), invalid},
		"empty audience":                  {ed(with("aud", []string{})), invalid},
		"audience of numbers":             {ed(with("aud", []int{1})), invalid},
		"expired":                         {ed(with("exp", start.Add(-30*time.Second).Unix())), expired},
		"expired, and forged":             {signed(t, jwt.SigningMethodEdDSA, k.strangerEd, with("exp", 1)), invalid},
		"expired, another's audience":     {ed(with("exp", 1, "aud", "other")), invalid},
		"no exp":                          {ed(with("exp", nil)), invalid},
		"exp is null":                     {raw(head, `{"iss":"https://issuer.example","aud":"shop","sub":"ada","exp":null}`), invalid},
		"exp is a string":                 {ed(with("exp", "1893560645")), invalid},
		"exp past all time":               {ed(with("exp", 1e300)), invalid},
		"exp past the year 9999":          {ed(with("exp", 253402300800)), invalid},
		"exp before 1970":                 {ed(with("exp", -1)), invalid},
		"nbf to come":                     {ed(with("nbf", start.Add(31*time.Second).Unix())), invalid},
		"iat to come":                     {ed(with("iat", start.Add(31*time.Second).Unix())), invalid},
		"tampered payload":                {parts[0] + "." + b64.EncodeToString([]byte(payload(`,"sub":"root"`))) + "." + parts[2], invalid},
		"tampered signature":              {parts[0] + "." + parts[1] + "." + flip(parts[2]), invalid},
		"no signature":                    {parts[0] + "." + parts[1] + ".", invalid},
		"no subject":                      {ed(with("sub", nil)), invalid},
		"empty subject":                   {ed(with("sub", "")), invalid},
		"subject with a space":            {ed(with("sub", "ada admin")), invalid},
		"subject with a newline":          {ed(with("sub", "ada\n")), invalid},
		"subject with DEL":                {ed(with("sub", "ada\x7f")), invalid},
		"subject of 256":                  {ed(with("sub", strings.Repeat("a", 256))), invalid},
		"subject is a number":             {ed(with("sub", 7)), invalid},
		"subject of half a character":     {raw(head, payload(`,"sub":"ada\ud800"`)), invalid},
		"claims not UTF-8":                {raw(head, payload(",\"sub\":\"ada\xff\"")), invalid},
		"a claim twice":                   {raw(head, payload(`,"sub":"ada","sub":"root"`)), invalid},
		"a claim twice, escaped":          {raw(head, payload(`,"sub":"ada","s\u0075b":"root"`)), invalid},
		"a header twice":                  {raw(`{"alg":"EdDSA","alg":"EdDSA"}`, payload(`,"sub":"ada"`)), malformed},
		"scope is a list in a word":       {ed(with("scopes", []string{"a b"})), invalid},
		"scope with a quote":              {ed(with("scope", `a"b`)), invalid},
		"scope with a tab":                {ed(with("scope", "a\tb")), invalid},
		"an empty scope in a list":        {ed(with("scp", []string{""})), invalid},
		"scope is a number":               {ed(with("scope", 7)), invalid},
		"crit":                            {ed(good(), "crit", []string{"exp"}), invalid},
		"crit with b64":                   {ed(good(), "crit", []string{"b64"}, "b64", false), invalid},
		"crit is null":                    {ed(good(), "crit", nil), invalid},
		"kid is a number":                 {ed(good(), "kid", 7), malformed},
		"kid of 257":                      {ed(good(), "kid", strings.Repeat("k", 257)), malformed},
		"empty":                           {"", malformed},
		"two parts":                       {parts[0] + "." + parts[1], malformed},
		"four parts":                      {sound + ".x", malformed},
		"not base64":                      {parts[0] + "." + parts[1] + ".*", malformed},
		"padding":                         {sound + "==", malformed},
		"a line break within":             {parts[0] + ".\n" + parts[1] + "." + parts[2], malformed},
		"a list as payload":               {raw(head, `[]`), invalid},
		"null as payload":                 {raw(head, `null`), invalid},
		"a string as header":              {raw(`"x"`, payload(`,"sub":"ada"`)), malformed},
		"not JSON":                        {raw(`{`, payload(`,"sub":"ada"`)), malformed},
		"longer than 8 KiB":               {ed(with("pad", strings.Repeat("x", 8<<10))), malformed},
		"one MiB of dots":                 {strings.Repeat(".", 1<<20), malformed},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifier(t, newClock().Now)
			for range 2 { // Not even the second time.
				p, err := verify(v, tc.token)
				if p != nil {
					t.Errorf("a principal %+v", p)
				}
				want(t, err, codes.Unauthenticated, tc.reason, tc.token)
			}
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

func hmacWith(key []byte, header, payload string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return text + "." + b64.EncodeToString(m.Sum(nil))
}

func tamperHeader(token, header string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + token[strings.IndexByte(token, '.'):]
}

// flip changes the first character, all of whose bits count.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
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
	token := signed(t, jwt.SigningMethodEdDSA, newKeys().ed, good())
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

// FuzzVerify holds that nothing but the tokens that were signed is accepted,
// and that whatever is refused is refused with a status.
func FuzzVerify(f *testing.F) {
	k := newKeys()
	v := newVerifier(f, newClock().Now)
	signedByIssuer := map[string]bool{}
	for _, token := range []string{
		signed(f, jwt.SigningMethodEdDSA, k.ed, good()),
		signed(f, jwt.SigningMethodEdDSA, k.ed, with("scopes", []string{"a"}), "kid", "k"),
		signed(f, jwt.SigningMethodRS256, k.rsa, good()),
		signed(f, jwt.SigningMethodHS256, []byte(hmacSecret), with("iss", symmetric)),
	} {
		signedByIssuer[token] = true
		f.Add(token)
	}
	f.Add(signed(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good()))
	f.Add(signed(f, jwt.SigningMethodHS256, k.rsaPEM, good()))
	f.Add(raw(`{"alg":"EdDSA","crit":["x"]}`, `{"iss":"https://issuer.example"}`))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := verify(v, token)
		switch {
		case err == nil && !signedByIssuer[token]:
			t.Fatalf("accepted %q as %+v", token, p)
		case err == nil:
		case status.Code(err) != codes.Unauthenticated || p != nil:
			t.Fatalf("refused with %v, principal %v", err, p)
		}
	})
}

func BenchmarkVerifyHit(b *testing.B) {
	v := newVerifier(b, time.Now)
	token := signed(b, jwt.SigningMethodEdDSA, newKeys().ed, with("iat", nil, "exp", time.Now().Add(time.Hour).Unix()))
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(ctx, token); err != nil {
			b.Fatal(err)
		}
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
