package kit_test

import (
	"crypto/ed25519"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

// waitFor waits until f says yes.
func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func sameKeys(k *kit.KeyFiles, want ...ed25519.PublicKey) func() bool {
	return func() bool {
		return slices.EqualFunc(k.Keys(), want, func(a, b ed25519.PublicKey) bool { return a.Equal(b) })
	}
}

func TestWatchKeys(t *testing.T) {
	one, two := kittest.NewSigner(t).Public, kittest.NewSigner(t).Public
	stamp := time.Now().Add(-time.Hour)
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, path string, keys ...ed25519.PublicKey) {
		t.Helper()
		var raw []byte
		for _, k := range keys {
			raw = append(raw, publicPEM(t, k)...)
		}
		must(t, os.WriteFile(path, raw, 0o600))
		must(t, os.Chtimes(path, stamp, stamp)) // The time alone does not tell.
	}
	for name, change := range map[string]func(t *testing.T, dir, path string){
		"renamed over, same size and time": func(t *testing.T, dir, path string) {
			write(t, filepath.Join(dir, "new"), two)
			must(t, os.Rename(filepath.Join(dir, "new"), path))
		},
		"written in place": func(t *testing.T, _, path string) { must(t, os.WriteFile(path, publicPEM(t, two), 0o600)) },
		"a link turned, as Kubernetes does": func(t *testing.T, dir, _ string) {
			must(t, os.Mkdir(filepath.Join(dir, "2"), 0o700))
			write(t, filepath.Join(dir, "2", "key"), two)
			must(t, os.Symlink("2", filepath.Join(dir, "next")))
			must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "data")))
		},
		"bad in between": func(t *testing.T, _, path string) {
			must(t, os.WriteFile(path, publicPEM(t, two)[:50], 0o600))
			time.Sleep(20 * time.Millisecond)
			must(t, os.WriteFile(path, publicPEM(t, two), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "1"), 0o700))
			must(t, os.Symlink("1", filepath.Join(dir, "data")))
			path := filepath.Join(dir, "data", "key")
			write(t, path, one)
			k, err := kit.WatchKeys(kit.KeyFilesOptions{Files: []string{path}, Interval: 2 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
			must(t, err)
			defer k.Close()
			if !sameKeys(k, one)() {
				t.Fatal("not the keys of the file")
			}
			slice := k.Keys()
			time.Sleep(20 * time.Millisecond)
			if &slice[0] != &k.Keys()[0] {
				t.Error("another slice of the same keys: every reading forgets what was verified")
			}
			change(t, dir, path)
			waitFor(t, "the other key", sameKeys(k, two))
			if !slice[0].Equal(one) {
				t.Error("a slice that was handed out has changed")
			}
			k.Close()
			k.Close()
		})
	}
}

func TestWatchKeysKeepsTheKeysWhenAFileIsBad(t *testing.T) {
	one, two := kittest.NewSigner(t).Public, kittest.NewSigner(t).Public
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	put := func(path string, raw []byte) {
		t.Helper()
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(a, publicPEM(t, one))
	put(b, publicPEM(t, two))
	log := &logBuffer{}
	k, err := kit.WatchKeys(kit.KeyFilesOptions{Files: []string{a, b}, Interval: 2 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	// A file is seen half written at times, so that more may be logged than here.
	said := func(part string) int { return strings.Count(log.String(), part) }
	const bad, good = "cannot be read; ", "can be read again"
	for name, content := range map[string][]byte{
		"empty": {}, "no PEM": []byte("x"), "cut off": publicPEM(t, two)[:60], "one, and one cut off": append(publicPEM(t, one), publicPEM(t, two)[:60]...),
	} {
		were, ended := said(bad), said(good)
		put(b, content)
		waitFor(t, "the operator learns of it: "+name, func() bool { return said(bad) > were })
		if !sameKeys(k, one, two)() {
			t.Errorf("%s: %d keys", name, len(k.Keys()))
		}
		put(b, publicPEM(t, two))
		waitFor(t, "the end of it", func() bool { return said(good) > ended })
	}
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the operator learns that it is gone", func() bool { return strings.Contains(log.String(), "no such file") })
	if !sameKeys(k, one, two)() {
		t.Error("a file that is gone took its keys with it")
	}
	put(b, publicPEM(t, one)) // On purpose: the one is there twice, the other no more.
	waitFor(t, "the keys of the file", sameKeys(k, one, one))
}

func TestWatchKeysRefuses(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for name, files := range map[string][]string{"no file": nil, "a missing file": {missing}} {
		if k, err := kit.WatchKeys(kit.KeyFilesOptions{Files: files}); err == nil {
			k.Close()
			t.Errorf("%s was accepted", name)
		}
	}
	huge := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(huge, []byte(strings.Repeat("x", 2<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kit.LoadKeys(huge); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge file: %v", err)
	}
}
