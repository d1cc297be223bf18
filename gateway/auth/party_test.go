package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

var b64 = base64.RawURLEncoding

// party is an issuer with one algorithm, and an attacker with a key of the same
// kind.
type party struct {
	method        jwt.SigningMethod
	key, stranger any
	public        []byte // What an attacker knows of the key; nil for a secret.
}

func parties() []party {
	k := newKeys()
	strangerEC := mustEC(elliptic.P256())
	return []party{
		{jwt.SigningMethodRS256, k.rsa, k.strangerRSA, k.rsaPEM},
		{jwt.SigningMethodPS256, k.rsa, k.strangerRSA, k.rsaPEM},
		{jwt.SigningMethodES256, k.p256, strangerEC, publicPEM(k.p256.Public())},
		{jwt.SigningMethodEdDSA, k.ed, k.strangerEd, publicPEM(k.ed.Public())},
		{jwt.SigningMethodHS256, []byte(hmacSecret), []byte(strings.Repeat("x", 32)), nil},
	}
}

func (p party) alg() string  { return p.method.Alg() }
func (p party) name() string { return "https://" + strings.ToLower(p.alg()) + ".example" }

// verifier accepts the tokens of all parties, so that one may try another's.
func attackedVerifier(t testing.TB) *auth.Verifier {
	t.Helper()
	var issuers []auth.Issuer
	for _, p := range parties() {
		var keys auth.KeySource
		var err error
		if p.public == nil {
			keys, err = auth.SecretFile(write(t, p.key.([]byte)))
		} else {
			keys, err = auth.PublicKeyFiles(write(t, p.public))
		}
		if err != nil {
			t.Fatal(err)
		}
		issuers = append(issuers, auth.Issuer{
			Name: p.name(), Audiences: []string{"shop"}, Algorithms: []string{p.alg()}, Keys: keys, Leeway: 30 * time.Second,
		})
	}
	v, err := auth.NewVerifier(auth.Options{Issuers: issuers, Now: newClock().Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// head and body are the party's, with more members, as they stand.
func (p party) head(more string) string { return `{"alg":"` + p.alg() + `"` + more + `}` }

func (p party) body(more string) string {
	return fmt.Sprintf(`{"iss":%q,"aud":"shop","exp":%d%s}`, p.name(), start.Add(time.Hour).Unix(), more)
}

const ada = `,"sub":"ada"`

// claims is the body with some claims changed; nil takes one away.
func (p party) claims(changes ...any) string {
	raw, err := json.Marshal(with(append([]any{"iss", p.name()}, changes...)...))
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func text(head, body string) string {
	return b64.EncodeToString([]byte(head)) + "." + b64.EncodeToString([]byte(body))
}

func signText(method jwt.SigningMethod, key any, text string) string {
	sig, err := method.Sign(text, key)
	if err != nil {
		panic(err)
	}
	return text + "." + b64.EncodeToString(sig)
}

func (p party) sign(head, body string) string { return signText(p.method, p.key, text(head, body)) }
func (p party) forge(head, body string) string {
	return signText(p.method, p.stranger, text(head, body))
}
func (p party) good() string                  { return p.sign(p.head(""), p.body(ada)) }
func (p party) part(i int) string             { return strings.Split(p.good(), ".")[i] }
func (p party) bytes(head, sig string) string { return text(head, p.body(ada)) + "." + sig }
func (p party) hmac(key []byte) string        { return p.hmacAs(key, jwt.SigningMethodHS256) }
func (p party) signature(change func(sig []byte) []byte) string {
	parts := strings.Split(p.good(), ".")
	sig, err := b64.DecodeString(parts[2])
	if err != nil {
		panic(err)
	}
	return parts[0] + "." + parts[1] + "." + b64.EncodeToString(change(sig))
}

func (p party) hmacAs(key []byte, m *jwt.SigningMethodHMAC) string {
	return signText(m, key, text(`{"alg":"`+m.Alg()+`"}`, p.body(ada)))
}

func mustEC(c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}
