package config

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func nothing(string) string { return "" }

// changes counts what Watch tells, and loads as a gateway does.
type changes struct {
	mu  sync.Mutex
	all []string // the log level of each, or the error
}

func follow(t *testing.T, s Source) *changes {
	t.Helper()
	c := &changes{}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, slog.New(slog.NewTextHandler(io.Discard, nil)), func() {
			cfg, err := s.Load(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			if err != nil {
				c.all = append(c.all, "error")
			} else {
				c.all = append(c.all, cfg.GetLog().GetLevel())
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return c
}

func (c *changes) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 0 {
		return ""
	}
	return c.all[len(c.all)-1]
}

func (c *changes) becomes(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); c.last() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.mu.Lock()
			defer c.mu.Unlock()
			t.Fatalf("not in time: %s; told were %q", want, c.all)
		}
	}
}

func level(s string) []byte { return []byte("log: {level: " + s + "}\n") }

func put(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFileIsFollowed: however a file is replaced, what it says in the end is told.
func TestFileIsFollowed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	put(t, file, level("info"))
	s, err := Open(file, nothing)
	must(t, err)
	_, err = s.Load(t.Context())
	must(t, err)
	c := follow(t, s)
	put(t, file+".new", level("debug"))
	must(t, os.Rename(file+".new", file))
	c.becomes(t, "debug")
	put(t, file, level("warn")) // In its place.
	c.becomes(t, "warn")
	put(t, file, []byte("log: {level: loud}\n"))
	c.becomes(t, "error")
	put(t, file, level("warn"))
	c.becomes(t, "warn")
	must(t, os.Remove(file))
	c.becomes(t, "error")
	put(t, file, level("error"))
	c.becomes(t, "error")
	put(t, file, level("info"))
	c.becomes(t, "info")
}

// TestMountedConfigMapIsFollowed: the file is a link to ..data/sluice.yaml, and
// ..data a link to a directory. Kubernetes makes a new directory and moves the
// second link.
func TestMountedConfigMapIsFollowed(t *testing.T) {
	mount := t.TempDir()
	swap := func(name, text string) {
		t.Helper()
		dir := filepath.Join(mount, name)
		must(t, os.Mkdir(dir, 0o700))
		put(t, filepath.Join(dir, "sluice.yaml"), level(text))
		must(t, os.Symlink(name, filepath.Join(mount, "..data_tmp")))
		must(t, os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")))
	}
	swap("..one", "info")
	file := filepath.Join(mount, "sluice.yaml")
	must(t, os.Symlink(filepath.Join("..data", "sluice.yaml"), file))
	s, err := Open(file, nothing)
	must(t, err)
	_, err = s.Load(t.Context())
	must(t, err)
	c := follow(t, s)
	for i, text := range []string{"debug", "warn", "error", "info"} {
		swap("..next"+text, text)
		c.becomes(t, text)
		must(t, os.RemoveAll(filepath.Join(mount, []string{"..one", "..nextdebug", "..nextwarn", "..nexterror"}[i])))
	}
}

// TestWhatChangedBeforeTheWatch is told at once; what did not is not told.
func TestWhatChangedBeforeTheWatch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	put(t, file, level("info"))
	s, err := Open(file, nothing)
	must(t, err)
	_, err = s.Load(t.Context())
	must(t, err)
	put(t, file, level("debug"))
	follow(t, s).becomes(t, "debug")
}
