package auth_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

const service = "shop.user.v1.UserService"

func newSigner(t testing.TB, c *clock) *auth.Signer {
	t.Helper()
	s, err := auth.OpenSigner(filepath.Join(t.TempDir(), "data", "assertion-key.pem"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s.SetNow(c.Now)
	return s
}

type asserted struct {
	jwt.RegisteredClaims
	Scope *string `json:"scope"`
}

// read verifies an assertion as a service does.
func read(t *testing.T, s *auth.Signer, c *clock, token string) asserted {
	t.Helper()
	var got asserted
	_, err := jwt.ParseWithClaims(token, &got, func(*jwt.Token) (any, error) { return s.Public(), nil },
		jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer("sluice"), jwt.WithAudience(service),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(c.Now))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func sign(t *testing.T, s *auth.Signer, p *policy.Principal) string {
	t.Helper()
	token, err := s.Sign(p, service)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSignSaysWhoCalls(t *testing.T) {
	c := newClock()
	s := newSigner(t, c)
	for name, p := range map[string]*policy.Principal{
		"known":     policy.NewPrincipal("ada", asymmetric, []string{"b", "a"}, time.Time{}),
		"anonymous": policy.Anonymous,
		"odd":       policy.NewPrincipal(`a"<é>`, asymmetric, nil, start.Add(time.Hour)),
	} {
		t.Run(name, func(t *testing.T) {
			token := sign(t, s, p)
			got := read(t, s, c, token)
			if got.Subject != p.Subject || got.Scope == nil || *got.Scope != p.Scope() || !got.ExpiresAt.Equal(start.Add(time.Minute)) || !got.IssuedAt.Equal(start) {
				t.Errorf("claims %+v", got)
			}
			var h, payload map[string]any
			for i, to := range []*map[string]any{&h, &payload} {
				raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
				if err != nil || json.Unmarshal(raw, to) != nil {
					t.Fatalf("part %d: %v", i, err)
				}
			}
			if h["kid"] == "" || h["kid"] == nil || h["alg"] != "EdDSA" {
				t.Errorf("header %v", h)
			}
			if _, ok := payload["sub"]; !ok {
				t.Error("sub is left out")
			}
		})
	}
}

func TestSignedOnceUntilAThirdIsLeft(t *testing.T) {
	c := newClock()
	s := newSigner(t, c)
	ada := policy.NewPrincipal("ada", asymmetric, []string{"a"}, time.Time{})
	first := sign(t, s, ada)
	c.Add(40*time.Second - 1)
	if sign(t, s, policy.NewPrincipal("ada", asymmetric, []string{"a"}, start.Add(time.Hour))) != first {
		t.Error("not shared")
	}
	c.Add(1)
	if sign(t, s, ada) == first {
		t.Error("used with a third of its life left")
	}
	for name, other := range map[string]*policy.Principal{
		"subject": policy.NewPrincipal("bob", asymmetric, []string{"a"}, time.Time{}),
		"scope":   policy.NewPrincipal("ada", asymmetric, []string{"b"}, time.Time{}),
	} {
		if got := read(t, s, c, sign(t, s, other)); got.Subject != other.Subject || *got.Scope != other.Scope() {
			t.Errorf("another %s shares the assertion: %+v", name, got)
		}
	}
	elsewhere, err := s.Sign(ada, "shop.order.v1.OrderService")
	if err != nil || elsewhere == sign(t, s, ada) {
		t.Errorf("another audience shares the assertion, err %v", err)
	}
}

func TestAnAssertionDoesNotOutliveTheCredential(t *testing.T) {
	c := newClock()
	s := newSigner(t, c)
	until := func(d time.Duration) *policy.Principal {
		return policy.NewPrincipal("ada", asymmetric, []string{"a"}, start.Add(d))
	}
	long := read(t, s, c, sign(t, s, until(time.Hour)))
	short := read(t, s, c, sign(t, s, until(10*time.Second+500*time.Millisecond)))
	if !long.ExpiresAt.Equal(start.Add(time.Minute)) || !short.ExpiresAt.Equal(start.Add(10*time.Second)) {
		t.Errorf("long %v, short %v", long.ExpiresAt, short.ExpiresAt)
	}
	if again := read(t, s, c, sign(t, s, until(time.Hour))); !again.ExpiresAt.Equal(start.Add(time.Minute)) {
		t.Errorf("the long one got the short one's: %v", again.ExpiresAt)
	}
	tail := sign(t, s, until(10*time.Second))
	c.Add(9 * time.Second)
	if sign(t, s, until(10*time.Second)) != tail {
		t.Error("signed again though it wins no time")
	}
	// A principal whose credential ends within the life of the shared assertion
	// gets one of its own.
	ends := until(50 * time.Second)
	if got := read(t, s, c, sign(t, s, ends)); got.ExpiresAt.After(ends.Expires) {
		t.Errorf("asserted until %v, credential until %v", got.ExpiresAt, ends.Expires)
	}
	c.Add(time.Second)
	_, err := s.Sign(until(10*time.Second), service)
	want(t, err, codes.Unauthenticated, "TOKEN_EXPIRED", "")
}

func TestSignConcurrently(t *testing.T) {
	c := newClock()
	s := newSigner(t, c)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 200 {
				p := policy.NewPrincipal("user"+string(rune('a'+n%20)), asymmetric, nil, start.Add(time.Duration(n)*time.Second+time.Second))
				token, err := s.Sign(p, service)
				var got asserted
				if err == nil {
					_, _, err = jwt.NewParser().ParseUnverified(token, &got)
				}
				if err != nil || got.Subject != p.Subject || got.ExpiresAt.After(p.Expires) {
					t.Errorf("%+v for %+v, err %v", got, p, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestSignDoesNotAllocateOnAHit(t *testing.T) {
	s := newSigner(t, newClock())
	p := policy.NewPrincipal("ada", asymmetric, []string{"a"}, start.Add(time.Hour))
	sign(t, s, p)
	var failed error
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := s.Sign(p, service); err != nil {
			failed = err
		}
	}); n > 0 || failed != nil {
		t.Errorf("%v allocations, err %v", n, failed)
	}
}

func BenchmarkSignHit(b *testing.B) {
	s := newSigner(b, newClock())
	p := policy.NewPrincipal("ada", asymmetric, []string{"users.read", "orders.read"}, start.Add(time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(p, service); err != nil {
			b.Fatal(err)
		}
	}
}

// openers are the two that make a key file.
func openers(path string) map[string]func() (string, error) {
	return map[string]func() (string, error){
		filepath.Join(path, "dev-signing-key.pem"): func() (string, error) {
			k, err := auth.OpenDevKey(path)
			if err != nil {
				return "", err
			}
			keys, err := k.Issuer().Keys.Keys(nil, "", "") //nolint:staticcheck // It is not looked at.
			return string(keys[0].(ed25519.PublicKey)), err
		},
		filepath.Join(path, "assertion-key.pem"): func() (string, error) {
			s, err := auth.OpenSigner(filepath.Join(path, "assertion-key.pem"), time.Minute)
			if err != nil {
				return "", err
			}
			return string(s.Public()), nil
		},
	}
}

func TestKeyFilesAreMadeOnceAndForTheirOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for path, open := range openers(dir) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			var wg sync.WaitGroup
			got := make([]string, 16)
			for i := range got {
				wg.Go(func() {
					var err error
					if got[i], err = open(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, k := range got {
				if k != got[0] || len(k) != ed25519.PublicKeySize {
					t.Fatal("two that started at once have different keys")
				}
			}
			if again, err := open(); err != nil || again != got[0] {
				t.Errorf("another key after a restart, err %v", err)
			}
			mode(t, path, 0o600)
			mode(t, dir, 0o700)
		})
	}
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, err %v", names, err)
	}
}

func mode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != want {
		t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode().Perm(), want)
	}
}

func TestBadKeyFilesStopTheStart(t *testing.T) {
	k := newKeys()
	for name, content := range map[string]string{
		"empty": "", "not PEM": "hello", "public key": string(publicPEM(k.ed.Public())),
		"bad DER": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		dir := t.TempDir()
		for path, open := range openers(dir) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := open(); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %s: %v", name, filepath.Base(path), err)
			}
		}
	}
	if _, err := auth.OpenSigner(filepath.Join(t.TempDir(), "k.pem"), 0); err == nil {
		t.Error("assertions that live for nothing were accepted")
	}
}

func TestPublicHalf(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "k.pem"), filepath.Join(dir, "k.pub.pem")
	open := func() (*auth.Signer, error) { return auth.OpenSigner(private, time.Minute) }
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		raw, err := os.ReadFile(public)
		if err != nil || string(raw) != string(publicPEM(s.Public())) {
			t.Errorf("public half %q, err %v", raw, err)
		}
		mode(t, public, 0o644)
	}
	check()
	if err := os.Remove(public); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err != nil {
		t.Fatal(err)
	}
	check() // Made again.
	if err := os.WriteFile(public, publicPEM(newKeys().strangerEd.Public()), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "is not the public half") {
		t.Errorf("a stranger's public half: %v", err)
	}
}

func TestDevKey(t *testing.T) {
	c := newClock()
	dev, err := auth.OpenDevKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dev.SetNow(c.Now)
	v, err := auth.NewVerifier(auth.Options{Issuers: []auth.Issuer{dev.Issuer()}, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	token, err := dev.Mint("ada", []string{"users.read", "admin"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	p, err := verify(v, token)
	if err != nil || p.Subject != "ada" || p.Scope() != "admin users.read" || !p.Expires.Equal(start.Add(time.Minute)) {
		t.Fatalf("principal %+v, err %v", p, err)
	}
	if p.Issuer != "sluice-dev" {
		t.Errorf("issuer %q", p.Issuer)
	}
	c.Add(time.Minute)
	_, err = verify(v, token)
	want(t, err, codes.Unauthenticated, "TOKEN_EXPIRED", token)
	stranger, err := auth.OpenDevKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stranger.SetNow(c.Now)
	forged, err := stranger.Mint("ada", nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_, err = verify(v, forged)
	want(t, err, codes.Unauthenticated, "TOKEN_INVALID", forged)
	for name, mint := range map[string]func() (string, error){
		"no subject":  func() (string, error) { return dev.Mint("", nil, time.Minute) },
		"bad subject": func() (string, error) { return dev.Mint("a b", nil, time.Minute) },
		"bad scope":   func() (string, error) { return dev.Mint("a", []string{"b c"}, time.Minute) },
		"no life":     func() (string, error) { return dev.Mint("a", nil, 0) },
	} {
		if token, err := mint(); err == nil {
			t.Errorf("%s: minted %s", name, token)
		}
	}
}
