package jwks_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
)

// certificate is the DER of one that holds the key.
func certificate(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func armoured(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func with(key jwk, name string, value any) jwk {
	out := maps.Clone(key)
	out[name] = value
	return out
}

// odd are values that no optional member has, of every JSON type.
var odd = map[string]any{
	"null": nil, "true": true, "number": 7, "fraction": 1e300, "empty": "", "list": []any{}, "list of lists": []any{[]any{}},
	"list of numbers": []any{7, nil}, "object": map[string]any{"a": 1},
}

// An optional member that is odd decides nothing: neither over its key nor over the others.
func TestOddOptionalMembers(t *testing.T) {
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
	ed := edKey(t)
	for kind, k := range map[string]struct {
		method  jwt.SigningMethod
		private crypto.Signer
		public  jwk
	}{
		"RSA": {jwt.SigningMethodRS256, rsaKey, jwk{"kty": "RSA", "kid": "k", "n": b64(rsaKey.N.Bytes()), "e": "AQAB"}},
		"EC":  {jwt.SigningMethodES256, ec, jwk{"kty": "EC", "kid": "k", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}},
		"OKP": {jwt.SigningMethodEdDSA, ed, edJWK("k", ed)},
	} {
		der := certificate(t, k.private)
		std := base64.StdEncoding.EncodeToString(der)
		cases := map[string]jwk{
			"x5t in hexadecimal":      with(k.public, "x5t", hex.EncodeToString(der[:20])),
			"x5t of nothing":          with(with(k.public, "x5c", []string{std}), "x5t", "AAAA"),
			"x5t#S256 in hexadecimal": with(with(k.public, "x5c", []string{std}), "x5t#S256", hex.EncodeToString(der[:32])),
			"x5c":                     with(k.public, "x5c", []string{std}),
			"x5c as PEM":              with(k.public, "x5c", []string{armoured(der)}),
			"x5c as PEM on one line":  with(k.public, "x5c", []string{strings.ReplaceAll(armoured(der), "\n", "")}),
			"x5c as one text":         with(k.public, "x5c", std),
			"x5c in base64url":        with(k.public, "x5c", []string{b64(der)}),
			"x5c that is none":        with(k.public, "x5c", []string{"not a certificate"}),
			"x5c cut off":             with(k.public, "x5c", []string{std[:100]}),
			"x5u no URL":              with(k.public, "x5u", "::"),
			"x5u over http":           with(k.public, "x5u", "http://127.0.0.1:1/"),
			"new operations":          with(k.public, "key_ops", []string{"verify", "unheard of"}),
			"one operation as a text": with(k.public, "key_ops", "verify"),
			"an alg of RFC 9864":      with(edJWK("k", ed), "alg", "Ed25519"),
			"a member nobody knows":   with(k.public, "https://issuer.example/ext", map[string]any{"a": []int{1}}),
		}
		if kind != "OKP" {
			delete(cases, "an alg of RFC 9864")
		}
		for _, name := range []string{"x5u", "x5c", "x5t", "x5t#S256", "use", "key_ops", "alg", "ext", "exp", "iat", "oth", "d", "p"} {
			for what, v := range odd {
				cases[name+" is "+what] = with(k.public, name, v)
			}
		}
		for what, key := range cases {
			t.Run(kind+"/"+what, func(t *testing.T) {
				other := edKey(t)
				srv := newServer(t, set(key, edJWK("other", other)))
				v := newVerifier(t, newSource(t, jwks.Options{URL: srv.URL}))
				expect(t, v, token(t, k.method, k.private, "k"), codes.OK)
				expect(t, v, token(t, jwt.SigningMethodEdDSA, other, "other"), codes.OK)
			})
		}
	}
}

// A key that cannot be used is skipped, counted and named, and the others work, alone and
// in any place.
func TestKeysThatCannotBeUsed(t *testing.T) {
	key, leaked := edKey(t), edKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := jwk{"kty": "RSA", "kid": "bad", "n": b64(rsaKey.N.Bytes()), "e": "AQAB"}
	mine, others := edJWK("bad", leaked), certificate(t, key)
	for what, c := range map[string]struct {
		reason string
		key    any
	}{
		"null":                 {"malformed", nil},
		"a number":             {"malformed", 7},
		"a text":               {"malformed", "key"},
		"a list":               {"malformed", []any{mine}},
		"empty":                {"malformed", jwk{}},
		"no kty":               {"malformed", with(mine, "kty", nil)},
		"kty a number":         {"malformed", with(mine, "kty", 7)},
		"another kty":          {"unsupported", with(mine, "kty", "AKP")},
		"symmetric":            {"unsupported", jwk{"kty": "oct", "kid": "bad", "k": "c2VjcmV0LXNlY3JldA"}},
		"another curve":        {"unsupported", with(mine, "crv", "Ed448")},
		"no curve":             {"unsupported", jwk{"kty": "EC", "kid": "bad", "x": "AA", "y": "AA"}},
		"secp256k1":            {"unsupported", jwk{"kty": "EC", "kid": "bad", "crv": "secp256k1", "x": "AA", "y": "AA"}},
		"no x":                 {"malformed", with(mine, "x", nil)},
		"x no base64":          {"malformed", with(mine, "x", "!")},
		"x a number":           {"malformed", with(mine, "x", 7)},
		"short x":              {"weak", with(mine, "x", "AAAA")},
		"off the curve":        {"malformed", jwk{"kty": "EC", "kid": "bad", "crv": "P-256", "x": "AQ", "y": "AQ"}},
		"x too long":           {"malformed", jwk{"kty": "EC", "kid": "bad", "crv": "P-256", "x": b64(bytes.Repeat([]byte{1}, 33)), "y": "AQ"}},
		"small n":              {"weak", with(public, "n", "AQAB")},
		"no e":                 {"malformed", with(public, "e", nil)},
		"e of 33 bits":         {"weak", with(public, "e", b64([]byte{1, 0, 0, 0, 1}))},
		"for encryption":       {"other_use", with(public, "use", "enc")},
		"to sign only":         {"other_use", with(public, "key_ops", []string{"sign"})},
		"alg of encryption":    {"unsupported", with(public, "alg", "RSA-OAEP")},
		"alg of another kind":  {"unsupported", with(public, "alg", "ES256")},
		"x5c of another":       {"certificate", with(mine, "x5c", []string{base64.StdEncoding.EncodeToString(others)})},
		"x5c of another, PEM":  {"certificate", with(mine, "x5c", []string{armoured(others)})},
		"x5c of another, text": {"certificate", with(mine, "x5c", b64(others))},
		"x5c of another kind":  {"certificate", with(public, "x5c", []string{base64.StdEncoding.EncodeToString(others)})},
		"x5c, chain reversed":  {"certificate", with(mine, "x5c", []string{armoured(others), armoured(certificate(t, leaked))})},
	} {
		t.Run(what, func(t *testing.T) {
			raw, err := json.Marshal(map[string]any{"keys": []any{c.key, edJWK("good", key), c.key}})
			if err != nil {
				t.Fatal(err)
			}
			srv := newServer(t, text(string(raw)))
			var log bytes.Buffer
			reg := prometheus.NewRegistry()
			src := newSource(t, jwks.Options{URL: srv.URL, Issuer: "i", Metrics: reg, Log: slog.New(slog.NewTextHandler(&log, nil)), MinInterval: time.Hour})
			v := newVerifier(t, src)
			expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "good"), codes.OK)
			expect(t, v, token(t, jwt.SigningMethodEdDSA, leaked, "bad"), codes.Unauthenticated)
			expect(t, v, token(t, jwt.SigningMethodRS256, rsaKey, "bad"), codes.Unauthenticated)
			if got := skippedFor(t, reg, c.reason); got != 2 {
				t.Errorf("sluice_jwks_keys_skipped{reason=%q} is %v, want 2", c.reason, got)
			}
			src.Close() // Nobody writes the log any more.
			named, _ := c.key.(jwk)
			if !strings.Contains(log.String(), "reason="+c.reason) || (named["kid"] != nil && !strings.Contains(log.String(), "kid=bad")) {
				t.Errorf("the log does not name the key:\n%s", &log)
			}
			for _, secret := range []string{"c2VjcmV0LXNlY3JldA", b64(leaked.Public().(ed25519.PublicKey)), b64(others)} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("the log has a part of the key:\n%s", &log)
				}
			}
		})
	}
}

func skippedFor(t *testing.T, reg *prometheus.Registry, reason string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "sluice_jwks_keys_skipped" && l.GetName() == "reason" && l.GetValue() == reason {
					return m.GetGauge().GetValue()
				}
			}
		}
	}
	return -1
}

// A key that stays unusable is named once, not with each fetch.
func TestSkippedKeysAreNamedOnce(t *testing.T) {
	key := edKey(t)
	srv := newServer(t, set(edJWK("good", key), jwk{"kty": "AKP", "kid": "bad"}))
	var log bytes.Buffer
	src := newSource(t, jwks.Options{URL: srv.URL, Refresh: time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	eventually(t, func() bool { return srv.fetches.Load() > 3 })
	src.Close()
	if n := strings.Count(log.String(), "kid=bad"); n != 1 {
		t.Errorf("named %d times:\n%s", n, &log)
	}
}

// However many keys are skipped, those that can be used are, and the log stays short.
func TestManyUnusableKeys(t *testing.T) {
	key := edKey(t)
	keys := make([]jwk, 1000)
	for i := range keys {
		keys[i] = jwk{"kty": "AKP", "kid": strings.Repeat("k", 1+i%200)}
	}
	srv := newServer(t, set(append(keys, edJWK("good", key))...))
	var log bytes.Buffer
	src := newSource(t, jwks.Options{URL: srv.URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
	expect(t, newVerifier(t, src), token(t, jwt.SigningMethodEdDSA, key, "good"), codes.OK)
	src.Close()
	if n := strings.Count(log.String(), "\n"); n > 64 {
		t.Errorf("%d lines", n)
	}
}

// A set of which nothing is left is no good answer: the one before stays, and the error
// says of a key what is wrong.
func TestSetOfUnusableKeys(t *testing.T) {
	key := edKey(t)
	srv := newServer(t, set(edJWK("good", key)))
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	src := newSource(t, jwks.Options{URL: srv.URL, Issuer: "i", Refresh: time.Millisecond, Metrics: reg, Log: slog.New(slog.NewTextHandler(&log, nil))})
	v := newVerifier(t, src)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "good"), codes.OK)
	srv.answer(set(jwk{"kty": "AKP", "kid": "bad"}))
	eventually(t, func() bool { return sample(t, reg, "sluice_jwks_fetches_total", "i", "no_usable_key") >= 1 })
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "good"), codes.OK)
	src.Close()
	if !strings.Contains(log.String(), "bad") || !strings.Contains(log.String(), "AKP") {
		t.Errorf("the log does not say what is wrong:\n%s", &log)
	}
}

// Optional members of an issuer's configuration decide as little.
func TestOddConfiguration(t *testing.T) {
	for what, v := range odd {
		for _, name := range []string{"authorization_endpoint", "userinfo_endpoint", "response_types_supported", "id_token_signing_alg_values_supported", "scopes_supported", "claims_supported", "Issuer"} {
			raw, err := json.Marshal(map[string]any{"issuer": issuer, "jwks_uri": "https://issuer.example/keys", name: v})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := jwks.ReadConfiguration(raw, issuer); got != "https://issuer.example/keys" || err != nil {
				t.Errorf("%s is %s: %q, %v", name, what, got, err)
			}
		}
	}
}
