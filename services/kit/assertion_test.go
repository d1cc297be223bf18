package kit_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

const audience = "shop.user.v1.UserService"

// claims returns good claims with some of them changed; nil takes one away.
func claims(changes jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": "sluice", "sub": "ada", "scope": "users.read users.write", "aud": []string{audience},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	for k, v := range changes {
		if v == nil {
			delete(c, k)
			continue
		}
		c[k] = v
	}
	return c
}

func TestVerify(t *testing.T) {
	signer, other, stranger := kittest.NewSigner(t), kittest.NewSigner(t), kittest.NewSigner(t)
	verifier, err := kit.NewVerifier(signer.Public, other.Public)
	if err != nil {
		t.Fatal(err)
	}
	hs256, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims(nil)).SignedString([]byte(signer.Public))
	if err != nil {
		t.Fatal(err)
	}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims(nil)).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	good := signer.Sign(t, claims(nil))
	head, _, _ := strings.Cut(good, ".")
	now := time.Now()
	for _, tt := range []struct {
		name, token, wantErr string
	}{
		{"good", good, ""},
		{"of the other key", other.Sign(t, claims(nil)), ""},
		{"with the audience as a string", signer.Sign(t, claims(jwt.MapClaims{"aud": audience})), ""},
		{"expired within the leeway", signer.Sign(t, claims(jwt.MapClaims{"exp": now.Add(-2 * time.Second).Unix()})), ""},
		{"expired", signer.Sign(t, claims(jwt.MapClaims{"exp": now.Add(-7 * time.Second).Unix()})), "expired"},
		{"without exp", signer.Sign(t, claims(jwt.MapClaims{"exp": nil})), "lacks a claim"},
		{"without aud", signer.Sign(t, claims(jwt.MapClaims{"aud": nil})), "lacks a claim"},
		{"without iss", signer.Sign(t, claims(jwt.MapClaims{"iss": nil})), "lacks a claim"},
		{"of another issuer", signer.Sign(t, claims(jwt.MapClaims{"iss": "somebody"})), "another issuer"},
		{"for another service", signer.Sign(t, claims(jwt.MapClaims{"aud": "shop.order.v1.OrderService"})), "another service"},
		{"issued in the future", signer.Sign(t, claims(jwt.MapClaims{"iat": now.Add(time.Minute).Unix()})), "not valid yet"},
		{"of a stranger", stranger.Sign(t, claims(nil)), "not signed by a known key"},
		{"HS256 with the public key", hs256, "not signed by a known key"},
		{"unsigned", none, "not signed by a known key"},
		{"with its signature cut off", good[:strings.LastIndex(good, ".")+1], "not signed by a known key"},
		{"with other claims put in", head + "." + strings.Split(stranger.Sign(t, claims(jwt.MapClaims{"sub": "eve"})), ".")[1] + "." + strings.Split(good, ".")[2], "not signed by a known key"},
		{"garbage", "garbage", "not a JWT"},
		{"empty", "", "not a JWT"},
		{"huge", strings.Repeat("a", 129<<10), "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // The second time the verified ones are remembered.
				c, err := verifier.Verify(tt.token, audience)
				if tt.wantErr != "" {
					if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
						t.Fatalf("Verify = %v, %v, want an error with %q", c, err, tt.wantErr)
					}
					if c.Subject != "" || c.Scopes != nil {
						t.Fatalf("a refused assertion names %v", c)
					}
					continue
				}
				if err != nil || c.Subject != "ada" || !slices.Equal(c.Scopes, []string{"users.read", "users.write"}) {
					t.Fatalf("Verify = %v, %v", c, err)
				}
			}
		})
	}
}

func TestVerifyRemembersByAudience(t *testing.T) {
	signer := kittest.NewSigner(t)
	verifier, err := kit.NewVerifier(signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	token := signer.Sign(t, claims(nil))
	if _, err := verifier.Verify(token, audience); err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(token, "shop.order.v1.OrderService"); err == nil {
		t.Fatal("an assertion that was verified for one service passed for another")
	}
}

func TestVerifyForgetsWhatExpired(t *testing.T) {
	signer := kittest.NewSigner(t)
	verifier, err := kit.NewVerifier(signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	token := signer.Sign(t, claims(nil))
	now := time.Now()
	kit.SetClock(verifier, func() time.Time { return now })
	if _, err := verifier.Verify(token, audience); err != nil {
		t.Fatal(err)
	}
	now = now.Add(66 * time.Second)
	for range 2 { // From memory, then parsed again.
		if _, err := verifier.Verify(token, audience); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Fatalf("Verify = %v, want expired", err)
		}
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	if _, err := kit.NewVerifier(); err == nil {
		t.Error("a verifier without a key")
	}
	if _, err := kit.NewVerifier(nil); err == nil {
		t.Error("a verifier with an empty key")
	}
	if _, err := kit.NewVerifier(make(ed25519.PublicKey, 31)); err == nil {
		t.Error("a verifier with a short key")
	}
}

func TestLoadKeys(t *testing.T) {
	signer, other := kittest.NewSigner(t), kittest.NewSigner(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, blocks ...[]byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, slices.Concat(blocks...), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	one := write("one", publicPEM(t, signer.Public))
	two := write("two", publicPEM(t, other.Public), publicPEM(t, signer.Public))
	keys, err := kit.LoadKeys(one, two)
	if err != nil || len(keys) != 3 || !keys[0].Equal(signer.Public) || !keys[1].Equal(other.Public) || !keys[2].Equal(signer.Public) {
		t.Fatalf("LoadKeys = %d keys, %v", len(keys), err)
	}
	for name, file := range map[string]string{
		"an RSA key":     write("rsa", publicPEM(t, &rsaKey.PublicKey)),
		"a private key":  write("private", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
		"no key":         write("none", []byte("hello")),
		"a broken key":   write("broken", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})),
		"a missing file": filepath.Join(dir, "missing"),
	} {
		if keys, err := kit.LoadKeys(one, file); err == nil {
			t.Errorf("LoadKeys took %s: %d keys", name, len(keys))
		}
	}
}

func publicPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestCaller(t *testing.T) {
	admin := kit.Caller{Subject: "root", Scopes: []string{"admin"}}
	ada := kit.Caller{Subject: "ada", Scopes: []string{"users.read"}}
	for _, tt := range []struct {
		name      string
		got, want bool
	}{
		{"ada has her scope", ada.HasScope("users.read"), true},
		{"ada has no other scope", ada.HasScope("users.write"), false},
		{"ada owns what is hers", ada.Owns("ada"), true},
		{"ada owns nothing else", ada.Owns("grace"), false},
		{"admin has every scope", admin.HasScope("users.write"), true},
		{"admin owns everything", admin.Owns("ada"), true},
		{"anonymous owns nothing", kit.Caller{}.Owns("ada"), false},
		{"anonymous does not own what nobody owns", kit.Caller{}.Owns(""), false},
		{"a context without a caller is anonymous", kit.CallerFrom(t.Context()).Subject == "", true},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v", tt.name, tt.got)
		}
	}
}

func BenchmarkVerifyRemembered(b *testing.B) {
	signer := kittest.NewSigner(b)
	verifier, err := kit.NewVerifier(signer.Public)
	if err != nil {
		b.Fatal(err)
	}
	token := signer.Sign(b, claims(nil))
	for b.Loop() {
		if _, err := verifier.Verify(token, audience); err != nil {
			b.Fatal(err)
		}
	}
}
