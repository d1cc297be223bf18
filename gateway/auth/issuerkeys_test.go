package auth_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// TestKeyFilesAreFollowed replaces the file of an issuer's keys: who signs with
// the new key is accepted, and who does with the old one is not, also with a
// token that was verified before.
func TestKeyFilesAreFollowed(t *testing.T) {
	k := newKeys()
	old, fresh := []byte(hmacSecret), []byte("fedcba9876543210fedcba9876543210-")
	for name, tc := range map[string]struct {
		open       func(path string) (*auth.KeyFiles, error)
		alg        jwt.SigningMethod
		old, fresh []byte // The file's content.
		oldKey     any
		freshKey   any
		bad        map[string][]byte
	}{
		"PEM": {
			func(path string) (*auth.KeyFiles, error) { return auth.PublicKeyFiles(path) }, jwt.SigningMethodEdDSA,
			publicPEM(k.ed.Public()), publicPEM(k.strangerEd.Public()), k.ed, k.strangerEd,
			map[string][]byte{"empty": nil, "half a file": publicPEM(k.strangerEd.Public())[:40], "of no use to the algorithms": k.rsaPEM},
		},
		"HMAC": {
			auth.SecretFile, jwt.SigningMethodHS256, old, fresh, old, fresh,
			map[string][]byte{"empty": nil, "too short": fresh[:31], "PEM": k.rsaPEM},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			put := func(content []byte) {
				t.Helper()
				if err := os.WriteFile(path+".new", content, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
			}
			put(tc.old)
			files, err := tc.open(path)
			if err != nil {
				t.Fatal(err)
			}
			v, err := auth.NewVerifier(auth.Options{
				Issuers: []auth.Issuer{{Name: asymmetric, Audiences: []string{"shop"}, Algorithms: []string{tc.alg.Alg()}, Keys: files}},
				Now:     newClock().Now, // Which stands still: nothing expires.
			})
			if err != nil {
				t.Fatal(err)
			}
			ofOld, ofFresh := signed(t, tc.alg, tc.oldKey, good()), signed(t, tc.alg, tc.freshKey, good())
			accepts := func(token string) bool { _, err := verify(v, token); return err == nil }
			if !accepts(ofOld) || accepts(ofFresh) {
				t.Fatal("not even the first key is followed")
			}
			for what, content := range tc.bad {
				put(content)
				if err := files.Reload(); err == nil {
					t.Errorf("%s: was read", what)
				}
				if !accepts(ofOld) || accepts(ofFresh) {
					t.Errorf("%s: the keys from before do not stay", what)
				}
			}
			log := &logBuffer{}
			files.Watch(2*time.Millisecond, slog.New(slog.NewTextHandler(log, nil)))
			defer files.Close()
			eventually(t, "the bad file is logged", func() bool { return log.count("cannot be read; those from before stay") == 1 })
			put(tc.fresh)
			eventually(t, "the fresh key is good", func() bool { return accepts(ofFresh) })
			_, err = verify(v, ofOld)
			want(t, err, codes.Unauthenticated, "TOKEN_INVALID", "")
			eventually(t, "the end of it is logged", func() bool { return log.count("can be read again") == 1 })
			if log.count(string(tc.fresh)) > 0 {
				t.Error("the log tells a secret")
			}
			files.Close()
			put(tc.old) // Nobody looks any more.
			time.Sleep(20 * time.Millisecond)
			if !accepts(ofFresh) || accepts(ofOld) {
				t.Error("the file is followed after Close")
			}
		})
	}
}

// Of several files all are watched, and one that is bad keeps all keys.
func TestSeveralKeyFilesAreFollowed(t *testing.T) {
	k := newKeys()
	one, two := write(t, publicPEM(k.ed.Public())), write(t, publicPEM(k.p256.Public()))
	files, err := auth.PublicKeyFiles(one, two)
	if err != nil {
		t.Fatal(err)
	}
	count := func() int { keys, _ := files.Keys(t.Context(), "", ""); return len(keys) }
	if err := os.WriteFile(two, append(publicPEM(k.p256.Public()), publicPEM(k.p384.Public())...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	if err := files.Reload(); err == nil || count() != 2 {
		t.Errorf("%d keys, err %v", count(), err)
	}
	files.Watch(2*time.Millisecond, slog.New(slog.DiscardHandler))
	defer files.Close()
	if err := os.WriteFile(one, publicPEM(k.ed.Public()), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three keys", func() bool { return count() == 3 })
	if err := os.WriteFile(two, []byte(strings.Repeat(string(publicPEM(k.p256.Public())), 3)), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "four keys", func() bool { return count() == 4 })
}
