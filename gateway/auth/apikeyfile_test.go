package auth_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), part)
}

// eventually waits until f says yes.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// lines is a file of keys for tests: an id, a space, a hash.
func lines(path string) func() ([]auth.APIKey, error) {
	return func() ([]auth.APIKey, error) {
		raw, err := os.ReadFile(path)
		var keys []auth.APIKey
		for line := range strings.Lines(string(raw)) {
			id, hash, _ := strings.Cut(strings.TrimSpace(line), " ")
			if id == "" {
				return nil, errors.New("an empty line")
			}
			keys = append(keys, auth.APIKey{ID: id, Owner: "ada", Hash: hash})
		}
		return keys, err
	}
}

func line(k auth.APIKey) string { return k.ID + " " + k.Hash + "\n" }

func TestReloadSwapsTheKeysOfTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	put := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fixed, fixedStored := makeKey(t, auth.APIKey{ID: "fixed", Owner: "root"})
	one, oneStored := makeKey(t, auth.APIKey{ID: "one", Owner: "ada"})
	two, twoStored := makeKey(t, auth.APIKey{ID: "two", Owner: "ada"})
	newOne, newOneStored := makeKey(t, auth.APIKey{ID: "one", Owner: "ada"})
	put(line(oneStored))
	reg, log := prometheus.NewRegistry(), &logBuffer{}
	k := newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{fixedStored}, Load: lines(path), Metrics: reg, Log: slog.New(slog.NewTextHandler(log, nil))})
	good := func(keys ...string) {
		t.Helper()
		for _, key := range keys {
			if _, _, err := k.Verify(key); err != nil {
				t.Errorf("%s: %v", key[:12], err)
			}
		}
	}
	bad := func(keys ...string) {
		t.Helper()
		for _, key := range keys {
			_, _, err := k.Verify(key)
			want(t, err, codes.Unauthenticated, "API_KEY_INVALID", key)
		}
	}
	good(fixed, one)
	bad(two, newOne)
	put(line(oneStored) + line(twoStored))
	bad(two) // Until the file is read again.
	if err := k.Reload(); err != nil {
		t.Fatal(err)
	}
	good(fixed, one, two)
	put(line(twoStored) + line(newOneStored)) // The first is replaced under its id.
	if err := k.Reload(); err != nil {
		t.Fatal(err)
	}
	good(fixed, two, newOne)
	bad(one)

	// A file with errors adds no key and changes none, but takes away.
	both := line(twoStored) + line(newOneStored)
	added, addedStored := makeKey(t, auth.APIKey{ID: "added", Owner: "ada"})
	badTwo := "two sha256:00\n"
	for name, tc := range map[string]struct {
		content         string
		hasTwo, hasOne2 bool
	}{
		"a bad entry":                {both + "x sha256:00\n", true, true},
		"a bad entry of a known key": {badTwo + line(newOneStored), true, true},
		"twice":                      {both + line(twoStored), true, true},
		"one gone":                   {line(twoStored) + "x sha256:00\n" + line(addedStored), true, false},
		"another hash":               {both[:len(line(twoStored))] + line(oneStored) + "x sha256:00\n", true, false},
		"an id of the configuration": {line(fixedStored) + line(newOneStored), false, true},
		"half a line":                {line(twoStored)[:20], true, false},
		"nothing that can be read":   {"\n", true, true},
	} {
		put(both)
		if err := k.Reload(); err != nil {
			t.Fatal(err)
		}
		put(tc.content)
		if err := k.Reload(); err == nil {
			t.Errorf("%s was read", name)
		}
		good(fixed)
		bad(added, one)
		for key, stays := range map[string]bool{two: tc.hasTwo, newOne: tc.hasOne2} {
			if _, _, err := k.Verify(key); (err == nil) != stays {
				t.Errorf("%s: %s: %v", name, key[:12], err)
			}
		}
	}
	put(both)
	if err := k.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := k.Reload(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is gone: %v", err)
		}
	}
	good(fixed, two, newOne)
	if n := log.count("no such file"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if got := metrics(t, reg); !strings.Contains(got, "sluice_apikeys_reload_failed 1\n") || !strings.Contains(got, "sluice_apikeys 3\n") {
		t.Errorf("metrics:\n%s", got)
	}
	put(line(oneStored))
	if err := k.Reload(); err != nil {
		t.Fatal(err)
	}
	good(fixed, one)
	bad(two, newOne)
	// The labels are those of the keys that there are.
	if got := metrics(t, reg); strings.Contains(got, "{two}") || !strings.Contains(got, "{one} ") || !strings.HasSuffix(got, "sluice_apikeys 2\nsluice_apikeys_age_seconds 0\nsluice_apikeys_reload_failed 0\n") {
		t.Errorf("metrics:\n%s", got)
	}
	if n := log.count("can be read again"); n != 9 { // Eight times above.
		t.Errorf("the end of the failure was logged %d times", n)
	}
}

// TestKeysOfALostFileEnd: a file that cannot be read keeps its keys alive for
// MaxAge, and not a moment longer; those of the configuration stay.
func TestKeysOfALostFileEnd(t *testing.T) {
	for _, maxAge := range []time.Duration{0, time.Hour} {
		path := filepath.Join(t.TempDir(), "keys")
		put := func(content string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		fixed, fixedStored := makeKey(t, auth.APIKey{ID: "fixed", Owner: "root"})
		one, oneStored := makeKey(t, auth.APIKey{ID: "one", Owner: "ada"})
		put(line(oneStored))
		c, reg, log := newClock(), prometheus.NewRegistry(), &logBuffer{}
		k := newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{fixedStored}, Load: lines(path), MaxAge: maxAge, Now: c.Now, Metrics: reg, Log: slog.New(slog.NewTextHandler(log, nil))})
		lost := maxAge
		if lost == 0 {
			lost = 24 * time.Hour
		}
		good := func(key string, is bool) {
			t.Helper()
			_, why, err := k.Verify(key)
			switch {
			case is && err != nil:
				t.Errorf("%v (%s)", err, why)
			case !is:
				want(t, err, codes.Unauthenticated, "API_KEY_INVALID", key)
				if !strings.Contains(why, "cannot be read for "+lost.String()) {
					t.Errorf("why: %s", why)
				}
			}
		}
		c.Add(10 * lost) // A file that stays as it is needs no reload.
		good(one, true)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := k.Reload(); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			c.Add(lost/2 - time.Nanosecond)
			good(one, true)
		}
		c.Add(2 * time.Nanosecond)
		good(one, false) // Before the next reload, too.
		good(fixed, true)
		for range 2 {
			if err := k.Reload(); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		good(one, false)
		if n := log.count("its keys stop working"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if got := metrics(t, reg); !strings.Contains(got, fmt.Sprintf("sluice_apikeys_age_seconds %v\nsluice_apikeys_reload_failed 1\n", lost.Seconds())) {
			t.Errorf("metrics:\n%s", got)
		}
		put(line(oneStored))
		if err := k.Reload(); err != nil {
			t.Fatal(err)
		}
		good(one, true)
		if got := metrics(t, reg); !strings.Contains(got, "sluice_apikeys_age_seconds 0\nsluice_apikeys_reload_failed 0\n") {
			t.Errorf("metrics:\n%s", got)
		}
	}
}

// metrics is what a registry holds, a line each.
func metrics(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			b.WriteString(f.GetName())
			for _, l := range m.GetLabel() {
				b.WriteString("{" + l.GetValue() + "}")
			}
			fmt.Fprintf(&b, " %v\n", m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
	}
	return b.String()
}

// TestWatchFile changes a file in the ways in which files change.
func TestWatchFile(t *testing.T) {
	stamp := time.Now().Add(-time.Hour) // Old, so that the time alone would not tell.
	write := func(t *testing.T, path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	old, oldStored := makeKey(t, auth.APIKey{ID: "aaa", Owner: "ada"})
	fresh, freshStored := makeKey(t, auth.APIKey{ID: "bbb", Owner: "ada"}) // A line of the same length.
	for name, change := range map[string]func(t *testing.T, dir, path string){
		"renamed over, same size and time": func(t *testing.T, dir, path string) {
			write(t, filepath.Join(dir, "new"), line(freshStored))
			must(t, os.Rename(filepath.Join(dir, "new"), path))
		},
		"written in place": func(t *testing.T, _, path string) {
			must(t, os.WriteFile(path, []byte(line(freshStored)), 0o600))
		},
		"a link turned, as Kubernetes does": func(t *testing.T, dir, _ string) {
			must(t, os.Mkdir(filepath.Join(dir, "2"), 0o700))
			write(t, filepath.Join(dir, "2", "keys"), line(freshStored))
			must(t, os.Symlink("2", filepath.Join(dir, "next")))
			must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "data")))
		},
		"removed, and made again": func(t *testing.T, _, path string) {
			real, err := filepath.EvalSymlinks(path)
			must(t, err)
			must(t, os.Remove(real))
			time.Sleep(20 * time.Millisecond)
			write(t, real, line(freshStored))
		},
		"bad at first": func(t *testing.T, _, path string) {
			must(t, os.WriteFile(path, []byte("x"), 0o600))
			time.Sleep(20 * time.Millisecond)
			must(t, os.WriteFile(path, []byte(line(freshStored)), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "1"), 0o700))
			must(t, os.Symlink("1", filepath.Join(dir, "data")))
			path := filepath.Join(dir, "data", "keys")
			write(t, path, line(oldStored))
			k := newAPIKeys(t, auth.APIKeysOptions{Load: lines(path), Log: slog.New(slog.DiscardHandler)})
			if _, _, err := k.Verify(old); err != nil {
				t.Fatal(err)
			}
			k.WatchFile(path, 2*time.Millisecond)
			time.Sleep(20 * time.Millisecond) // It has looked at the first version.
			change(t, dir, path)
			eventually(t, "the fresh key is good", func() bool { _, _, err := k.Verify(fresh); return err == nil })
			eventually(t, "the old key is not", func() bool { _, _, err := k.Verify(old); return err != nil })
			k.Close()
			k.Close()
			k.WatchFile(path, 0) // Too late: nobody would end it.
		})
	}
}

// TestAPIKeysWhileTheyChange: a key that is in both versions is always good.
func TestAPIKeysWhileTheyChange(t *testing.T) {
	stays, staysStored := makeKey(t, auth.APIKey{ID: "stays", Owner: "ada"})
	_, goesStored := makeKey(t, auth.APIKey{ID: "goes", Owner: "ada"})
	var mu sync.Mutex
	both := false
	k := newAPIKeys(t, auth.APIKeysOptions{Metrics: prometheus.NewRegistry(), Load: func() ([]auth.APIKey, error) {
		mu.Lock()
		defer mu.Unlock()
		if both = !both; both {
			return []auth.APIKey{goesStored, staysStored}, nil
		}
		return []auth.APIKey{staysStored}, nil
	}})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, _, err := k.Verify(stays); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 200 {
				if err := k.Reload(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	time.AfterFunc(100*time.Millisecond, func() { close(done) })
	wg.Wait()
}
