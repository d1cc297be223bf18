package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// createKey runs `sluice apikey create`: what is shown once, and the lines to store
// below `keys:`.
func createKey(t *testing.T, args ...string) (key, lines string) {
	t.Helper()
	out, err := exec.Command(filepath.Join(programs, "sluice"), append([]string{"apikey", "create"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	key, _, _ = strings.Cut(string(out), "\n")
	_, lines, found := strings.Cut(string(out), "\nkeys:\n")
	if !found || !strings.HasPrefix(key, "sluice_") || strings.Contains(lines, key) {
		t.Fatalf("sluice apikey create printed %q", out)
	}
	return key, lines
}

// keyFile is the file of API keys, which is changed as tools do it: whole.
type keyFile string

func (f keyFile) write(t *testing.T, content string) {
	t.Helper()
	next := string(f) + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, string(f)); err != nil {
		t.Fatal(err)
	}
}

func (f keyFile) holds(t *testing.T, lines ...string) {
	t.Helper()
	f.write(t, "keys:\n"+strings.Join(lines, ""))
}

// good says whether a key lets its holder in over both edges; an error means
// that they differ, or something else.
func good(t *testing.T, g *gateway, key string) (bool, error) {
	t.Helper()
	ok := map[bool]int{}
	for edge, ask := range withKey(g, key).both(getUser("ada")) {
		switch r := ask(bounded(t)); {
		case r.is(codes.OK, ""):
			ok[true]++
		case r.is(codes.Unauthenticated, "API_KEY_INVALID"):
			ok[false]++
		default:
			return false, fmt.Errorf("%s: %v", edge, r)
		}
	}
	if len(ok) != 1 {
		return false, errors.New("the edges differ")
	}
	return ok[true] == 2, nil
}

// turns waits until a key is good, or no longer.
func turns(t *testing.T, g *gateway, name, key string, want bool) {
	t.Helper()
	begin := time.Now()
	// Five seconds from look to look; edges may differ for the moment between two
	// calls.
	eventually(t, patience, func() error {
		is, err := good(t, g, key)
		if err == nil && is != want {
			err = fmt.Errorf("key %s: good: %v", name, is)
		}
		return err
	})
	t.Logf("key %s: good %v after %v", name, want, time.Since(begin).Round(100*time.Millisecond))
}

// TestFileOfAPIKeys: keys come and go with their file while the gateway runs. A
// broken file adds and changes no key, and is told of.
func TestFileOfAPIKeys(t *testing.T) {
	t.Parallel()
	scope := []string{"--owner", "ada", "--scope", "users.read"}
	one, first := createKey(t, scope...)
	two, second := createKey(t, scope...)
	three, third := createKey(t, scope...)
	file := keyFile(filepath.Join(t.TempDir(), "keys.yaml"))
	file.holds(t, first)
	g := startGateway(t, setup{config: object{"auth": object{"api_keys": object{"file": string(file)}}}})
	turns(t, g, "one", one, true)
	turns(t, g, "two", two, false)

	file.holds(t, first, second) // Both, for the time in which programs change over.
	turns(t, g, "two", two, true)
	turns(t, g, "one", one, true)
	file.holds(t, second)
	turns(t, g, "one", one, false)

	file.write(t, "keys:\n"+second+third+"    - id: broken\n      hash: md5:1\n")
	becomes(t, g, "sluice_apikeys_reload_failed", 1)
	turns(t, g, "two", two, true)
	turns(t, g, "three", three, false)
	if log := g.stderr.String(); strings.Count(log, "the file of API keys cannot be read; those from before stay in use") != 1 || strings.Contains(log, strings.TrimPrefix(two, "sluice_")) {
		t.Errorf("the log does not tell once of a file that is broken: %s", g.stderr.tail())
	}
	file.holds(t, third)
	turns(t, g, "three", three, true)
	turns(t, g, "two", two, false)
	if failed, known := sample(t, g, "sluice_apikeys_reload_failed"), sample(t, g, "sluice_apikeys"); failed != 0 || known != 1 {
		t.Errorf("reload failed: %v, keys: %v", failed, known)
	}
	if !strings.Contains(g.stderr.String(), "the file of API keys can be read again") {
		t.Error("the log does not tell that the file is whole again")
	}
}

// TestKeysHaveTheirOwnLimits: the class of a key stands in for those of the rules,
// costs stay, and each key has its budget; and a key reads what is its owner's.
func TestKeysHaveTheirOwnLimits(t *testing.T) {
	t.Parallel()
	batch := object{"rates": []object{{"per": "api_key", "requests": 1, "interval": "3600s", "burst": 7}}}
	one, first := newAPIKey(t, "one", "ada", "batch")
	two, second := newAPIKey(t, "two", "ada", "batch")
	free, third := newAPIKey(t, "free", "ada", "")
	g := startGateway(t, setup{config: keyed(object{"batch": batch}, first, second, third)})
	for _, key := range []string{one, two} {
		c := withKey(g, key)
		for edge, ask := range c.both(getOverview("ada")) { // 3 each.
			r := once(t, "overview over "+edge, ask, codes.OK, "")
			if !strings.HasPrefix(r.rules, `"batch-api_key";q=7;`) {
				t.Errorf("%s: RateLimit-Policy %s", edge, r.rules)
			}
		}
		for edge, ask := range c.both(getOverview("ada")) {
			if r := once(t, "no room for 3 over "+edge, ask, codes.ResourceExhausted, "RATE_LIMITED"); r.limit != "batch-api_key" {
				t.Errorf("%s: %v", edge, r)
			}
		}
		once(t, "room for 1", c.overGRPC(getUser("ada")), codes.OK, "")
		for edge, ask := range c.both(watchOrder("ada-0001")) { // Of a rule with another class.
			once(t, "the same budget for all classes, "+edge, ask, codes.ResourceExhausted, "RATE_LIMITED")
		}
	}
	for range 10 {
		for edge, ask := range withKey(g, free).both(getUser("ada")) {
			once(t, "a key without a class, "+edge, ask, codes.OK, "")
		}
	}
	for edge, ask := range withKey(g, free).both(getUser("grace")) {
		once(t, "another's data, "+edge, ask, codes.PermissionDenied, "NOT_OWNER")
	}
}
