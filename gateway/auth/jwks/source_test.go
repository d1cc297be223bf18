package jwks_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer   = "https://issuer.example"
	audience = "shop"
)

// server is an issuer's HTTP server on loopback.
type server struct {
	*httptest.Server
	fetches atomic.Int64
	handler atomic.Value // http.HandlerFunc
}

func newServer(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.handler.Store(h)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fetches.Add(1)
		s.handler.Load().(http.HandlerFunc)(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) answer(h http.HandlerFunc) { s.handler.Store(h) }

type jwk map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edJWK(kid string, key ed25519.PrivateKey) jwk {
	return jwk{"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": b64(key.Public().(ed25519.PublicKey))}
}

func set(keys ...jwk) http.HandlerFunc {
	if keys == nil {
		keys = []jwk{}
	}
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return text(string(raw))
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
}

func newSource(t *testing.T, o jwks.Options) *jwks.Source {
	t.Helper()
	s, err := jwks.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newVerifier(t *testing.T, keys auth.KeySource) *auth.Verifier {
	t.Helper()
	v, err := auth.NewVerifier(auth.Options{Issuers: []auth.Issuer{
		{Name: issuer, Audiences: []string{audience}, Algorithms: []string{"RS256", "ES256", "EdDSA"}, Keys: keys},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var serial atomic.Int64

// token is one that no cache has seen.
func token(t testing.TB, method jwt.SigningMethod, key any, kid string) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": "ada", "exp": time.Now().Add(time.Hour).Unix(), "jti": serial.Add(1),
	})
	if kid != "" {
		tok.Header["kid"] = kid
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expect(t *testing.T, v *auth.Verifier, token string, want codes.Code) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); status.Code(err) != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestKeysOfEveryKind(t *testing.T) {
	ed := edKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	leaked, encryption, restricted := edKey(t), edKey(t), edKey(t)
	private := edJWK("private", leaked)
	private["d"] = b64(leaked.Seed())
	forEncryption := edJWK("enc", encryption)
	forEncryption["use"] = "enc"
	toSign := edJWK("sign", encryption)
	toSign["key_ops"] = []string{"sign"}
	notThis := edJWK("restricted", restricted)
	notThis["alg"] = "RS256"
	srv := newServer(t, set(
		jwk{"kty": "RSA", "kid": "rsa", "alg": "RS256", "n": b64(rsaKey.N.Bytes()), "e": b64(big.NewInt(int64(rsaKey.E)).Bytes())},
		jwk{"kty": "EC", "kid": "ec", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		edJWK("ed", ed), private, forEncryption, toSign, notThis,
		jwk{"kty": "oct", "kid": "oct", "k": b64([]byte(strings.Repeat("s", 32)))},
		jwk{"kty": "RSA", "kid": "weak", "n": b64(bytes.Repeat([]byte{0xff}, 128)), "e": "AQAB"},
		jwk{"kty": "RSA", "kid": "e of 1", "n": b64(rsaKey.N.Bytes()), "e": "AQ"},
		jwk{"kty": "RSA", "kid": "even e", "n": b64(rsaKey.N.Bytes()), "e": "AQAA"},
		jwk{"kty": "RSA", "kid": "huge e", "n": b64(rsaKey.N.Bytes()), "e": b64(bytes.Repeat([]byte{1}, 256))},
		jwk{"kty": "RSA", "kid": "e that wraps", "n": b64(rsaKey.N.Bytes()), "e": b64([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1})},
		jwk{"kty": "RSA", "kid": "huge n", "n": b64(bytes.Repeat([]byte{0xff}, 1025)), "e": "AQAB"},
		jwk{"kty": "EC", "kid": "off the curve", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[1:33])},
		jwk{"kty": "OKP", "kid": "zeroed", "crv": "Ed25519", "x": b64(make([]byte, 32))},
		jwk{"kty": "OKP", "kid": "X25519", "crv": "X25519", "x": b64(point[1:33])},
		jwk{"kty": "unheard of", "kid": "new"},
		jwk{"kty": 7},
	))
	src := newSource(t, jwks.Options{URL: srv.URL, MinInterval: time.Hour})
	v := newVerifier(t, src)
	expect(t, v, token(t, jwt.SigningMethodRS256, rsaKey, "rsa"), codes.OK)
	expect(t, v, token(t, jwt.SigningMethodES256, ec, "ec"), codes.OK)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, ed, "ed"), codes.OK)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, ed, ""), codes.OK) // Tried with each.
	expect(t, v, token(t, jwt.SigningMethodEdDSA, leaked, "private"), codes.OK)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, ed, "private"), codes.Unauthenticated)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, ed, "rsa"), codes.Unauthenticated)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, encryption, "enc"), codes.Unauthenticated)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, restricted, "restricted"), codes.Unauthenticated)
	expect(t, v, token(t, jwt.SigningMethodHS256, []byte(strings.Repeat("s", 32)), "oct"), codes.Unauthenticated)
	for _, kid := range []string{"oct", "weak", "new", "enc", "sign", "e of 1", "even e", "huge e", "e that wraps", "huge n", "off the curve", "zeroed", "X25519"} {
		for _, alg := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
			if keys, err := src.Keys(t.Context(), alg, kid); len(keys) != 0 || err != nil {
				t.Errorf("%s: %v, %v", kid, keys, err)
			}
		}
	}
	if keys, _ := src.Keys(t.Context(), "EdDSA", "private"); len(keys) != 1 || !leaked.Public().(ed25519.PublicKey).Equal(keys[0].(ed25519.PublicKey)) {
		t.Errorf("a private key came in: %T", keys[0])
	}
}

// A token without a kid costs a signature's check for each key that it may be
// of, so that with many keys it is of none. It causes no fetch either.
func TestTokensWithoutAKeyID(t *testing.T) {
	for n, want := range map[int]codes.Code{1: codes.OK, 8: codes.OK, 9: codes.Unauthenticated} {
		var keys []jwk
		for i := range n {
			keys = append(keys, edJWK(fmt.Sprint(i), edKey(t)))
		}
		last := edKey(t)
		keys[n-1] = edJWK("last", last)
		// Keys of other algorithms do not count.
		for i := range 9 {
			other := edJWK(fmt.Sprint("other", i), edKey(t))
			other["alg"] = "RS256"
			keys = append(keys, other)
		}
		srv := newServer(t, set(keys...))
		v := newVerifier(t, newSource(t, jwks.Options{URL: srv.URL}))
		expect(t, v, token(t, jwt.SigningMethodEdDSA, last, ""), want)
		expect(t, v, token(t, jwt.SigningMethodEdDSA, last, "last"), codes.OK)
		if got := srv.fetches.Load(); got != 1 {
			t.Errorf("%d keys: %d fetches", n, got)
		}
	}
}

func TestRotation(t *testing.T) {
	old, next := edKey(t), edKey(t)
	srv := newServer(t, set(edJWK("old", old)))
	v := newVerifier(t, newSource(t, jwks.Options{URL: srv.URL, MinInterval: 20 * time.Millisecond}))
	expect(t, v, token(t, jwt.SigningMethodEdDSA, old, "old"), codes.OK)
	srv.answer(set(edJWK("old", old), edJWK("next", next)))
	expect(t, v, token(t, jwt.SigningMethodEdDSA, next, "next"), codes.OK)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, old, "old"), codes.OK)
	srv.answer(set(edJWK("next", next)))
	time.Sleep(30 * time.Millisecond)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, next, "unknown"), codes.Unauthenticated) // Fetches.
	expect(t, v, token(t, jwt.SigningMethodEdDSA, old, "old"), codes.Unauthenticated)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, next, "next"), codes.OK)
}

func TestRefreshInTheBackground(t *testing.T) {
	old, next := edKey(t), edKey(t)
	srv := newServer(t, set(edJWK("old", old)))
	src := newSource(t, jwks.Options{URL: srv.URL, Refresh: 10 * time.Millisecond, MinInterval: time.Hour})
	if keys, err := src.Keys(t.Context(), "EdDSA", "old"); len(keys) != 1 || err != nil {
		t.Fatalf("%v, %v", keys, err)
	}
	if _, err := src.Keys(t.Context(), "EdDSA", "unknown"); err != nil { // The one fetch that is allowed.
		t.Fatal(err)
	}
	srv.answer(set(edJWK("next", next)))
	eventually(t, func() bool {
		keys, err := src.Keys(t.Context(), "EdDSA", "next")
		return len(keys) == 1 && err == nil
	})
	// No good answer takes the keys away, and the next good one is noticed.
	srv.answer(http.NotFound)
	before := srv.fetches.Load()
	eventually(t, func() bool { return srv.fetches.Load() > before+2 })
	if keys, err := src.Keys(t.Context(), "EdDSA", "next"); len(keys) != 1 || err != nil {
		t.Errorf("keys are lost: %v, %v", keys, err)
	}
	srv.answer(set(edJWK("other", old)))
	eventually(t, func() bool {
		keys, err := src.Keys(t.Context(), "EdDSA", "next")
		return len(keys) == 0 && err == nil
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 10 s")
		}
	}
}

func TestClose(t *testing.T) {
	key := edKey(t)
	srv := newServer(t, set(edJWK("k", key)))
	src, err := jwks.New(jwks.Options{URL: srv.URL, MinInterval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Keys(t.Context(), "EdDSA", "k"); err != nil {
		t.Fatal(err)
	}
	src.Close()
	src.Close()
	before := srv.fetches.Load()
	time.Sleep(5 * time.Millisecond)
	keys, err := src.Keys(t.Context(), "EdDSA", "k")
	if len(keys) != 1 || err != nil {
		t.Errorf("known key after Close: %v, %v", keys, err)
	}
	_, _ = src.Keys(t.Context(), "EdDSA", "unknown")
	if srv.fetches.Load() != before {
		t.Error("fetched after Close")
	}
}

func TestCloseEndsAFetch(t *testing.T) {
	srv := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	src, err := jwks.New(jwks.Options{URL: srv.URL, Timeout: time.Hour}) // Only Close ends the fetch.
	if err != nil {
		t.Fatal(err)
	}
	src.Close()
}

func TestURLs(t *testing.T) {
	for raw, ok := range map[string]bool{
		"https://127.0.0.1:1/jwks.json":    true,
		"http://127.0.0.1:1/jwks.json":     true,
		"http://[::1]:1/jwks.json":         true,
		"http://localhost:1/jwks.json":     true,
		"http://issuer.example/jwks.json":  false,
		"http://127.0.0.1.issuer.example/": false,
		"http://localhost@issuer.example/": false,
		"ftp://127.0.0.1/":                 false,
		"file:///etc/passwd":               false,
		"https://":                         false,
		"issuer.example":                   false,
		"":                                 false,
		"http://[::1":                      false,
	} {
		src, err := jwks.New(jwks.Options{URL: raw})
		if (err == nil) != ok {
			t.Errorf("%q: %v", raw, err)
		}
		if err == nil {
			src.Close()
		}
	}
}
