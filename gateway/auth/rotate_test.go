package auth_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// published reads a file with public halves as a service does.
func published(t *testing.T, path string) []any {
	t.Helper()
	source, err := auth.PublicKeyFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := source.Keys(context.Background(), "EdDSA", "")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// verifies says whether one of the keys does.
func verifies(keys []any, token string) bool {
	set := jwt.VerificationKeySet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, k)
	}
	_, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return set, nil }, jwt.WithValidMethods([]string{"EdDSA"}))
	return err == nil
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	file, public, copied := filepath.Join(dir, "assertion-key.pem"), filepath.Join(dir, "assertion-key.pub.pem"), filepath.Join(t.TempDir(), "copy.pem")
	s, err := auth.OpenSigner(file, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ada := policy.NewPrincipal("ada", asymmetric, nil, time.Time{})
	old, first := sign(t, s, ada), s.Public()
	r := &auth.KeyRotation{File: file, Copies: []string{copied}}
	check := func(step string, published_, kept int, signs bool) {
		t.Helper()
		if err := s.Reload(); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		for _, path := range []string{public, copied} {
			keys := published(t, path)
			if len(keys) != published_ || len(s.PublicKeys()) != published_ {
				t.Fatalf("%s: %d keys in %s, %d in the signer, want %d", step, len(keys), filepath.Base(path), len(s.PublicKeys()), published_)
			}
			if token := sign(t, s, ada); !verifies(keys, token) {
				t.Errorf("%s: what is signed does not verify", step)
			}
			if verifies(keys, old) != (kept == 1) {
				t.Errorf("%s: what was signed before verifies: %v", step, kept != 1)
			}
			mode(t, path, 0o644)
		}
		mode(t, file, 0o600)
		if s.Public().Equal(first) != signs {
			t.Errorf("%s: the old key signs: %v", step, !signs)
		}
		if (sign(t, s, ada) == old) != signs && !signs {
			t.Errorf("%s: a remembered assertion of the old key is used", step)
		}
		if n, _, err := r.Keys(); err != nil || n != published_ {
			t.Errorf("%s: %d keys, %v", step, n, err)
		}
	}
	for _, step := range []struct {
		name  string
		do    func() error
		n     int
		kept  int
		signs bool
	}{
		{"add", r.Add, 2, 1, true},
		{"promote", r.Promote, 2, 1, false},
		{"retire", r.Retire, 1, 0, false},
		{"retire again", r.Retire, 1, 0, false},
		{"add again", r.Add, 2, 0, false},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		check(step.name, step.n, step.kept, step.signs)
	}
	// A gateway that starts in between finds all as it should be.
	if _, err := auth.OpenSigner(file, time.Minute); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRotationRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "k.pem")
	r := &auth.KeyRotation{File: file}
	if err := r.Add(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := auth.OpenSigner(file, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(); err == nil {
		t.Error("promoted the only key")
	}
	if err := r.Add(); err != nil {
		t.Fatal(err)
	}
	if err := (&auth.KeyRotation{File: file}).Add(); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("another rotation at the same time: %v", err)
	}
	// What cannot be published does not come to sign.
	bad := &auth.KeyRotation{File: file, Copies: []string{filepath.Join(t.TempDir(), "nowhere", "x.pem")}}
	if err := bad.Add(); err == nil {
		t.Error("a copy that cannot be written")
	}
}

// TestPublicHalvesHeal: a crash, or a gateway that starts between two writes,
// leaves public halves that are not those of the file.
func TestPublicHalvesHeal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "k.pem")
	public := strings.TrimSuffix(file, ".pem") + ".pub.pem"
	s, err := auth.OpenSigner(file, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	one := publicPEM(s.Public())
	if err := (&auth.KeyRotation{File: file}).Add(); err != nil {
		t.Fatal(err)
	}
	both, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	stranger := publicPEM(newKeys().strangerEd.Public())
	for name, content := range map[string][]byte{"one is missing": one, "one is too many": append(both[:len(both):len(both)], stranger...), "both are gone": nil} {
		if content == nil {
			err = os.Remove(public)
		} else {
			err = os.WriteFile(public, content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if healed, err := os.ReadFile(public); err != nil || string(healed) != string(both) {
			t.Errorf("%s: %v, published:\n%s", name, err, healed)
		}
	}
	if err := os.WriteFile(public, stranger, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Error("a stranger's public half was written over")
	}
}

func TestReloadKeepsTheKeysWhenTheFileIsBad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "k.pem")
	s, err := auth.OpenSigner(file, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, ada := s.Public(), policy.NewPrincipal("ada", asymmetric, nil, time.Time{})
	for name, content := range map[string]string{
		"empty": "", "cut off": string(raw[:len(raw)/2]), "the key twice": string(raw) + string(raw),
		"something after it": string(raw) + "x", "a public key": string(publicPEM(key)),
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(); err == nil {
			t.Errorf("%s was read", name)
		}
		if !s.Public().Equal(key) || sign(t, s, ada) == "" {
			t.Errorf("%s: the key is gone", name)
		}
	}
}

// TestWatchedSigner rotates under callers: what they get always verifies with
// the keys of that moment.
func TestWatchedSigner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "k.pem")
	s, err := auth.OpenSigner(file, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	s.Watch(2*time.Millisecond, slog.New(slog.NewTextHandler(log, nil)))
	defer s.Close()
	done := make(chan struct{})
	var wg sync.WaitGroup
	var signed [4]atomic.Int64
	for n := range signed {
		wg.Go(func() {
			for i := 0; ; i++ {
				signed[n].Add(1)
				select {
				case <-done:
					return
				default:
				}
				token, err := s.Sign(policy.NewPrincipal("user"+string(rune('a'+(n+i)%7)), asymmetric, nil, time.Time{}), service)
				var keys []any
				for _, k := range s.PublicKeys() {
					keys = append(keys, k)
				}
				if err != nil || !verifies(keys, token) {
					t.Errorf("an assertion that does not verify, err %v", err)
					return
				}
			}
		})
	}
	has := func(n int, first ed25519.PublicKey) func() bool {
		return func() bool { k := s.PublicKeys(); return len(k) == n && (first == nil || !k[0].Equal(first)) }
	}
	// used waits as a rotation does: until nobody holds on to what was before.
	used := func() {
		t.Helper()
		for n := range signed {
			was := signed[n].Load()
			eventually(t, "everybody signs", func() bool { return signed[n].Load() > was+1 || t.Failed() })
		}
	}
	r := &auth.KeyRotation{File: file}
	for range 3 {
		old := s.Public()
		if err := r.Add(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "both are published", has(2, nil))
		used()
		if err := r.Promote(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the new one signs", has(2, old))
		used()
		if err := r.Retire(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the old one is gone", has(1, old))
		used()
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the operator learns of a bad file", func() bool { return log.count("cannot be read") == 1 })
	close(done)
	wg.Wait()
	if n := log.count("have changed"); n != 9 {
		t.Errorf("%d changes were logged, want 9", n)
	}
}

func TestAssertionNamesTheTenant(t *testing.T) {
	s := newSigner(t, newClock())
	of := func(tenant string) string {
		p := policy.NewPrincipal("ada", asymmetric, []string{"a"}, time.Time{})
		p.Tenant = tenant
		return sign(t, s, p)
	}
	for _, tenant := range []string{"acme", "", "other", "acme"} {
		var got struct {
			jwt.RegisteredClaims
			Tenant *string `json:"tenant"`
		}
		if _, _, err := jwt.NewParser().ParseUnverified(of(tenant), &got); err != nil {
			t.Fatal(err)
		}
		if (got.Tenant != nil) != (tenant != "") || got.Tenant != nil && *got.Tenant != tenant {
			t.Errorf("tenant %v, want %q", got.Tenant, tenant)
		}
	}
}
