package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is when the tests' clock starts.
var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// keys are an issuer's, and a stranger's.
type keys struct {
	rsa, strangerRSA *rsa.PrivateKey
	p256, p384       *ecdsa.PrivateKey
	ed, strangerEd   ed25519.PrivateKey
	rsaPEM           []byte
}

// newKeys is slow (RSA), so that tests share one set, which they only read.
var newKeys = sync.OnceValue(func() *keys {
	k := &keys{}
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.strangerRSA, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.p256, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, k.ed, _ = ed25519.GenerateKey(rand.Reader)
	_, k.strangerEd, _ = ed25519.GenerateKey(rand.Reader)
	k.rsaPEM = publicPEM(k.rsa.Public())
	return k
})

func publicPEM(key crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func write(t testing.TB, parts ...[]byte) string {
	t.Helper()
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	asymmetric = "https://issuer.example"
	symmetric  = "https://hmac.example"
	hmacSecret = "0123456789abcdef0123456789abcdef"
)

// newVerifier accepts two issuers: one with public keys, one with a secret.
func newVerifier(t testing.TB, now func() time.Time) *auth.Verifier {
	t.Helper()
	k := newKeys()
	public, err := auth.PublicKeyFiles(write(t, k.rsaPEM, publicPEM(k.p256.Public())), write(t, publicPEM(k.ed.Public())))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := auth.SecretFile(write(t, []byte(hmacSecret)))
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.Options{
		Issuers: []auth.Issuer{
			{Name: asymmetric, Audiences: []string{"shop", "shop2"}, Algorithms: []string{"RS256", "ES256", "EdDSA"}, Keys: public, Leeway: 30 * time.Second},
			{Name: symmetric, Audiences: []string{"shop"}, Algorithms: []string{"HS256"}, Keys: shared},
		},
		Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// good are claims that newVerifier accepts at start.
func good() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": asymmetric, "aud": "shop", "sub": "ada", "scope": "users.read orders.read",
		"iat": start.Unix(), "exp": start.Add(time.Hour).Unix(),
	}
}

// with is good with some claims changed; nil takes one away.
func with(changes ...any) jwt.MapClaims {
	c := good()
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(c, changes[i].(string))
		} else {
			c[changes[i].(string)] = changes[i+1]
		}
	}
	return c
}

func signed(t testing.TB, method jwt.SigningMethod, key any, c jwt.Claims, header ...any) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, c)
	for i := 0; i < len(header); i += 2 {
		tok.Header[header[i].(string)] = header[i+1]
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// raw signs the very bytes of a header and a payload with the issuer's Ed25519
// key.
func raw(header, payload string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return text + "." + b64.EncodeToString(ed25519.Sign(newKeys().ed, []byte(text)))
}

// want checks a refusal: its code, its reason, and that it tells nothing of the
// token or the library.
func want(t *testing.T, err error, code codes.Code, reason, token string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("got %v, want %v %s", err, code, reason)
	}
	found := ""
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == policy.ErrorDomain {
			found = info.GetReason()
		}
	}
	if found != reason {
		t.Errorf("%v: reason %q, want %q", err, found, reason)
	}
	for _, leak := range append(strings.Split(token, "."), "illegal base64", "invalid character", "keyfunc", "crypto/") {
		if len(leak) > 8 && strings.Contains(st.Message(), leak) {
			t.Errorf("message %q tells %q", st.Message(), leak)
		}
	}
}

func verify(v *auth.Verifier, token string) (*policy.Principal, error) {
	return v.Verify(context.Background(), token)
}
