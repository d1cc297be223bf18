package jwks_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
	notThis := edJWK("restricted", restricted)
	notThis["alg"] = "RS256"
	srv := newServer(t, set(
		jwk{"kty": "RSA", "kid": "rsa", "alg": "RS256", "n": b64(rsaKey.N.Bytes()), "e": b64(big.NewInt(int64(rsaKey.E)).Bytes())},
		jwk{"kty": "EC", "kid": "ec", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		edJWK("ed", ed), private, forEncryption, notThis,
		jwk{"kty": "oct", "kid": "oct", "k": b64([]byte(strings.Repeat("s", 32)))},
		jwk{"kty": "RSA", "kid": "weak", "n": b64(bytes.Repeat([]byte{0xff}, 128)), "e": "AQAB"},
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
	for _, kid := range []string{"oct", "weak", "new", "enc"} {
		if keys, err := src.Keys(t.Context(), "HS256", kid); len(keys) != 0 || err != nil {
			t.Errorf("%s: %v, %v", kid, keys, err)
		}
	}
	if keys, _ := src.Keys(t.Context(), "EdDSA", "private"); len(keys) != 1 || !leaked.Public().(ed25519.PublicKey).Equal(keys[0].(ed25519.PublicKey)) {
		t.Errorf("a private key came in: %T", keys[0])
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

func TestBadAnswers(t *testing.T) {
	key := edKey(t)
	good := set(edJWK("k", key))
	many := make([]jwk, 65)
	for i := range many {
		many[i] = edJWK(fmt.Sprint(i), key)
	}
	for name, h := range map[string]http.HandlerFunc{
		"500":             func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"404":             http.NotFound,
		"204":             func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"nothing":         text(""),
		"HTML":            text("<html>"),
		"half":            text(`{"keys":[{"kty":`),
		"no keys member":  text(`{}`),
		"keys are null":   text(`{"keys":null}`),
		"keys are a word": text(`{"keys":"x"}`),
		"oversized":       text(`{"keys":[],"pad":"` + strings.Repeat("x", 512<<10) + `"}`),
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
					return
				}
			}
		},
		"a gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(bytes.Repeat([]byte(" "), 64<<20))
			_ = z.Close()
		},
		"too many keys": set(many...),
		"no key":        set(),
		"no usable key": set(jwk{"kty": "oct", "kid": "k", "k": b64([]byte(strings.Repeat("s", 32)))}),
		"a zeroed key":  set(jwk{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64(make([]byte, 32))}),
		"a list":        text(`[]`),
		"Keys":          text(`{"Keys":[{"kty":"OKP"}]}`),
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/there" {
				good(w, r)
				return
			}
			http.Redirect(w, r, "/there", http.StatusFound)
		},
		"a broken connection": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"keys":[`))
		},
		"silence": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, h)
			v := newVerifier(t, newSource(t, jwks.Options{URL: srv.URL, MinInterval: time.Millisecond, Timeout: 300 * time.Millisecond}))
			started := time.Now()
			expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.Unavailable)
			if took := time.Since(started); took > 3*time.Second {
				t.Errorf("the caller waited %v", took)
			}
			srv.answer(good)
			time.Sleep(2 * time.Millisecond)
			eventually(t, func() bool {
				_, err := v.Verify(t.Context(), token(t, jwt.SigningMethodEdDSA, key, "k"))
				return err == nil
			})
		})
	}
}

func TestDeadServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	src := newSource(t, jwks.Options{URL: "http://" + addr, MinInterval: time.Hour})
	v := newVerifier(t, src)
	key := edKey(t)
	for range 100 {
		expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.Unavailable)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	// The issuer comes up: found in the background, within the back-off.
	l, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: set(edJWK("k", key)), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	eventually(t, func() bool {
		_, err := v.Verify(t.Context(), token(t, jwt.SigningMethodEdDSA, key, "k"))
		return err == nil
	})
}

func TestUnknownKeyFlood(t *testing.T) {
	key := edKey(t)
	srv := newServer(t, set(edJWK("k", key)))
	src := newSource(t, jwks.Options{URL: srv.URL, MinInterval: time.Hour, Timeout: 10 * time.Second})
	v := newVerifier(t, src)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
	if n := srv.fetches.Load(); n != 1 {
		t.Fatalf("%d fetches at the start", n)
	}
	release := make(chan struct{})
	good := set(edJWK("k", key))
	srv.answer(func(w http.ResponseWriter, r *http.Request) { <-release; good(w, r) })
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			expect(t, v, token(t, jwt.SigningMethodEdDSA, key, fmt.Sprint("made-up-", i)), codes.Unauthenticated)
		})
	}
	eventually(t, func() bool { return srv.fetches.Load() == 2 })
	// While the flood waits for its one fetch, a known key does not.
	started := time.Now()
	for range 20 {
		expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
	}
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("callers with a known key waited %v", took)
	}
	// A caller that leaves does not wait either.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := v.Verify(ctx, token(t, jwt.SigningMethodEdDSA, key, "made-up")); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a caller that left: %v", err)
	}
	close(release)
	wg.Wait()
	for i := range 200 {
		expect(t, v, token(t, jwt.SigningMethodEdDSA, key, fmt.Sprint("again-", i)), codes.Unauthenticated)
	}
	if n := srv.fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want the first and one for the flood", n)
	}
}

func TestUnknownKeyWhileTheIssuerIsDown(t *testing.T) {
	key := edKey(t)
	srv := newServer(t, set(edJWK("k", key)))
	v := newVerifier(t, newSource(t, jwks.Options{URL: srv.URL, MinInterval: time.Hour}))
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
	srv.answer(http.NotFound)
	for range 3 { // It may be the issuer's newest key: nobody can tell.
		expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "next"), codes.Unavailable)
	}
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
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
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	})
	src, err := jwks.New(jwks.Options{URL: srv.URL, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	src.Close()
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
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
