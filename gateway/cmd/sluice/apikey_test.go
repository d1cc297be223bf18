package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/config"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)

// stored reads what the command printed as the configuration does, and
// authenticates with the key that it printed.
func stored(t *testing.T, args ...string) auth.APIKey {
	t.Helper()
	var out strings.Builder
	if err := createAPIKey(args, &out, now); err != nil {
		t.Fatal(err)
	}
	key, yaml, _ := strings.Cut(out.String(), "\n")
	if strings.Contains(yaml, key[strings.LastIndex(key, "_")+1:]) {
		t.Fatalf("the secret is in what is stored:\n%s", out.String())
	}
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	content := "auth:\n  api_keys:\n    " + strings.ReplaceAll(strings.TrimSpace(yaml), "\n", "\n    ") + "\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, func(string) string { return "" })
	if err != nil {
		t.Fatalf("%v\n%s", err, content)
	}
	if n := len(cfg.GetAuth().GetApiKeys().GetKeys()); n != 1 {
		t.Fatalf("%d keys in\n%s", n, content)
	}
	c := cfg.GetAuth().GetApiKeys().GetKeys()[0]
	k := auth.APIKey{ID: c.GetId(), Hash: c.GetHash(), Owner: c.GetOwner(), Scopes: c.GetScopes(), Tenant: c.GetTenant(), LimitClass: c.GetLimitClass()}
	if c.GetExpires() != nil {
		k.Expires = c.GetExpires().AsTime()
	}
	keys, err := auth.NewAPIKeys(auth.APIKeysOptions{Keys: []auth.APIKey{k}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := keys.Verify(key)
	if err != nil || p.Subject != k.Owner || p.APIKey != k.ID {
		t.Fatalf("the key that was printed: %+v, %v", p, err)
	}
	return k
}

func TestAPIKeyCreate(t *testing.T) {
	k := stored(t, "--owner", "ada", "--scope", "orders.read  orders.write", "--id", "ada-ci", "--tenant", "acme", "--limit-class", "write", "--expires", "90d")
	if k.ID != "ada-ci" || k.Owner != "ada" || strings.Join(k.Scopes, " ") != "orders.read orders.write" || k.Tenant != "acme" || k.LimitClass != "write" ||
		!k.Expires.Equal(now.AddDate(0, 0, 90).Truncate(time.Second)) {
		t.Errorf("stored %+v", k)
	}
	k = stored(t, "--owner", "ada")
	if !regexp.MustCompile(`^ada-[a-z2-7]{8}$`).MatchString(k.ID) || k.Scopes != nil || !k.Expires.IsZero() {
		t.Errorf("stored %+v", k)
	}
	if again := stored(t, "--owner", "ada"); again.ID == k.ID || again.Hash == k.Hash {
		t.Error("the same key twice")
	}
	k = stored(t, "--owner", "ada", "--expires", "2031-01-01")
	if !k.Expires.Equal(time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("ends %v", k.Expires)
	}
	// Owners that YAML would take for something else, and that no id can hold.
	for _, owner := range []string{"true", "null", "1e3", "0x10", "~", "-", "a:b", "#x", `"`, "'", "user@example.com", "*a", "&a", "é", strings.Repeat("ä", 255), "2030-01-01", "Ada/../x"} {
		if k := stored(t, "--owner", owner); k.Owner != owner || !auth.ValidAPIKeyID(k.ID) {
			t.Errorf("owner %q is stored as %q under %q", owner, k.Owner, k.ID)
		}
	}
}

func TestAPIKeyCreateRefuses(t *testing.T) {
	for what, args := range map[string][]string{
		"no owner":              {},
		"an owner in two lines": {"--owner", "a\nb"},
		"a bad id":              {"--owner", "ada", "--id", "a_b"},
		"an id in upper case":   {"--owner", "ada", "--id", "Ada"},
		"a bad scope":           {"--owner", "ada", "--scope", `a"b`},
		"a bad tenant":          {"--owner", "ada", "--tenant", "a b"},
		"the past":              {"--owner", "ada", "--expires", "2030-01-02"},
		"no time at all":        {"--owner", "ada", "--expires", "0d"},
		"a negative time":       {"--owner", "ada", "--expires", "-1d"},
		"no unit":               {"--owner", "ada", "--expires", "90"},
		"another unit":          {"--owner", "ada", "--expires", "3w"},
		"no such day":           {"--owner", "ada", "--expires", "2031-02-30"},
		"an argument":           {"--owner", "ada", "x"},
		"an unknown flag":       {"--owner", "ada", "--x"},
	} {
		var out strings.Builder
		if err := createAPIKey(args, &out, now); err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, printed %q", what, err, out.String())
		}
	}
}

func TestCommandsAreFoundByTheirLongestName(t *testing.T) {
	for i, c := range commands() {
		for _, before := range commands()[:i] {
			if strings.HasPrefix(c.name+" ", before.name+" ") {
				t.Errorf("%q is never reached: %q comes first", c.name, before.name)
			}
		}
	}
}
