package gateway_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// TestOddKeysOfAnIssuer: an issuer with an x5t in hexadecimal and a key that cannot be used
// locks nobody out, over any edge, and the skipped key is counted and named.
func TestOddKeysOfAnIssuer(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"keys": [{"kty": "AKP", "kid": "new"},
			{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": %q, "x5t": "00112233445566778899aabbccddeeff00112233", "x5c": ["-----BEGIN CERTIFICATE-----"], "use": null}]}`,
			base64.RawURLEncoding.EncodeToString(public))
	}))
	t.Cleanup(issuer.Close)
	g := startWithIssuers(t, func(c *configv1.Config) {
		c.Auth.Issuers = []*configv1.Issuer{{Issuer: issuer.URL, Audiences: []string{"sluice"}, Algorithms: []string{"EdDSA"}, Keys: &configv1.Issuer_JwksUrl{JwksUrl: issuer.URL}}}
	}, nil)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iss": issuer.URL, "aud": "sluice", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()})
	token.Header["kid"] = "k"
	text, err := token.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	for edge, got := range asked(t, g, text) {
		if got != "ada" {
			t.Errorf("over %s: %q", edge, got)
		}
	}
	if want := fmt.Sprintf("sluice_jwks_keys_skipped{issuer=%q,reason=\"unsupported\"} 1", issuer.URL); !strings.Contains(metrics(t, g), want) {
		t.Errorf("no %s", want)
	}
	if log := strings.Join(g.Log.Lines(), "\n"); !strings.Contains(log, `"kid":"new"`) {
		t.Error("the log does not name the key")
	}
}
