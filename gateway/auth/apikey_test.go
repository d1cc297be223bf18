package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// makeKey makes a key for k.
func makeKey(t testing.TB, k auth.APIKey) (string, auth.APIKey) {
	t.Helper()
	key, stored, err := auth.NewAPIKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return key, stored
}

func newAPIKeys(t testing.TB, o auth.APIKeysOptions) *auth.APIKeys {
	t.Helper()
	k, err := auth.NewAPIKeys(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func TestAPIKeySaysWhoCalls(t *testing.T) {
	c := newClock()
	key, stored := makeKey(t, auth.APIKey{ID: "ci-1", Owner: "ada", Scopes: []string{"b", "a"}, Tenant: "acme", LimitClass: "batch", Expires: start.Add(time.Hour)})
	second, other := makeKey(t, auth.APIKey{ID: "ci-2", Owner: "ada"})
	if strings.Contains(stored.Hash, key[len("sluice_ci-1_"):]) || len(key) != len("sluice_ci-1_")+43 {
		t.Fatalf("key of %d bytes", len(key))
	}
	k := newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{stored, other}, Now: c.Now})
	p, _, err := k.Verify(key)
	if err != nil || p.Subject != "ada" || p.Scope() != "a b" || p.Tenant != "acme" || p.LimitClass != "batch" || p.APIKey != "ci-1" || p.Issuer != "api-key" || !p.Expires.Equal(start.Add(time.Hour)) {
		t.Fatalf("principal %+v, err %v", p, err)
	}
	if again, _, _ := k.Verify(key); again != p {
		t.Error("a principal for each request")
	}
	if p, _, err := k.Verify(second); err != nil || p.Subject != "ada" || p.APIKey != "ci-2" || !p.Expires.IsZero() {
		t.Errorf("the second key of the owner: %+v, %v", p, err)
	}
	c.Add(time.Hour - 1)
	if _, _, err := k.Verify(key); err != nil {
		t.Errorf("a moment before its end: %v", err)
	}
	c.Add(1)
	_, why, err := k.Verify(key)
	want(t, err, codes.Unauthenticated, "API_KEY_EXPIRED", key)
	if !strings.Contains(why, "ci-1") {
		t.Errorf("the operator reads %q", why)
	}
	// Only who has the secret learns that.
	_, _, err = k.Verify(key[:len(key)-1] + otherDigit(key[len(key)-1]))
	want(t, err, codes.Unauthenticated, "API_KEY_INVALID", key)
}

func otherDigit(b byte) string {
	if b == 'x' {
		return "y"
	}
	return "x"
}

// TestAPIKeyAttacks: all are answered alike, so that nothing is learned from them.
func TestAPIKeyAttacks(t *testing.T) {
	key, stored := makeKey(t, auth.APIKey{ID: "ci", Owner: "ada"})
	root, rootStored := makeKey(t, auth.APIKey{ID: "root", Owner: "root", Scopes: []string{"admin"}})
	k := newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{stored, rootStored}})
	secret, rootSecret := key[len("sluice_ci_"):], root[len("sluice_root_"):]
	hash := stored.Hash[len("sha256:"):]
	for name, shown := range map[string]string{
		"empty":                             "",
		"prefix alone":                      "sluice_",
		"id alone":                          "sluice_ci",
		"no secret":                         "sluice_ci_",
		"no id":                             "sluice__" + secret,
		"no prefix":                         "ci_" + secret,
		"prefix in upper case":              "SLUICE_ci_" + secret,
		"id in upper case":                  "sluice_CI_" + secret,
		"another's secret":                  "sluice_root_" + secret,
		"its secret under another's id":     "sluice_ci_" + rootSecret,
		"an unknown id":                     "sluice_nobody_" + secret,
		"a digit less":                      key[:len(key)-1],
		"a digit more":                      key + "0",
		"the last digit":                    key[:len(key)-1] + otherDigit(key[len(key)-1]),
		"the first digit":                   "sluice_ci_" + otherDigit(secret[0]) + secret[1:],
		"secret in other case":              "sluice_ci_" + strings.ToLower(secret) + ".",
		"the stored hash":                   stored.Hash,
		"the hash as the secret":            "sluice_ci_" + hash[:43],
		"a space first":                     " " + key,
		"a space last":                      key + " ",
		"a line feed last":                  key + "\n",
		"NUL last":                          key + "\x00",
		"two keys":                          key + "," + key,
		"two keys with a space":             key + ", " + root,
		"an underscore in the id":           "sluice_ci_x_" + secret,
		"the id ends early":                 "sluice_c" + "_i" + secret[1:],
		"a bearer token's form":             "Bearer " + key,
		"a letter that looks like another":  "sluice_\u0441i_" + secret, // Cyrillic es.
		"a percent sign":                    "sluice_ci%5f" + secret,
		"a path in the id":                  "sluice_../ci_" + secret,
		"257 bytes":                         key + strings.Repeat("0", 257-len(key)),
		"a megabyte":                        key + strings.Repeat("0", 1<<20),
		"the longest id, unknown":           "sluice_" + strings.Repeat("a", 63) + "_" + secret,
		"an id too long":                    "sluice_" + strings.Repeat("a", 64) + "_" + secret,
		"a secret of zeros":                 "sluice_ci_" + strings.Repeat("0", 43),
		"a secret of zeros, unknown id":     "sluice_x_" + strings.Repeat("0", 43),
		"a secret in base64url":             "sluice_ci_" + secret[:42] + "-",
		"a secret with an underscore in it": "sluice_ci_" + secret[:42] + "_",
	} {
		t.Run(name, func(t *testing.T) {
			p, why, err := k.Verify(shown)
			want(t, err, codes.Unauthenticated, "API_KEY_INVALID", shown)
			if p != nil || why == "" || strings.Contains(why, secret) {
				t.Errorf("principal %+v, why %q", p, why)
			}
			if !strings.Contains(err.Error(), "the API key is not valid") {
				t.Errorf("answered %v", err)
			}
		})
	}
	for _, good := range []string{key, root} {
		if _, _, err := k.Verify(good); err != nil {
			t.Errorf("a good key: %v", err)
		}
	}
}

func TestBadAPIKeysStopTheStart(t *testing.T) {
	_, good := makeKey(t, auth.APIKey{ID: "good-one", Owner: "ada"})
	with := func(change func(*auth.APIKey)) auth.APIKey { k := good; change(&k); return k }
	for name, tc := range map[string]struct {
		keys []auth.APIKey
		want string
	}{
		"twice":                 {[]auth.APIKey{good, good}, "API key good-one: two keys"},
		"no id":                 {[]auth.APIKey{with(func(k *auth.APIKey) { k.ID = "" })}, `API key ""`},
		"underscore in the id":  {[]auth.APIKey{with(func(k *auth.APIKey) { k.ID = "a_b" })}, `API key "a_b"`},
		"upper case in the id":  {[]auth.APIKey{with(func(k *auth.APIKey) { k.ID = "A" })}, `API key "A"`},
		"id begins with -":      {[]auth.APIKey{with(func(k *auth.APIKey) { k.ID = "-a" })}, `API key "-a"`},
		"long id":               {[]auth.APIKey{with(func(k *auth.APIKey) { k.ID = strings.Repeat("a", 64) })}, `API key "aaa`},
		"no hash":               {[]auth.APIKey{with(func(k *auth.APIKey) { k.Hash = "" })}, "good-one: the hash"},
		"hash without its kind": {[]auth.APIKey{with(func(k *auth.APIKey) { k.Hash = k.Hash[7:] })}, "good-one: the hash"},
		"short hash":            {[]auth.APIKey{with(func(k *auth.APIKey) { k.Hash = k.Hash[:len(k.Hash)-2] })}, "good-one: the hash"},
		"hash in upper case":    {[]auth.APIKey{with(func(k *auth.APIKey) { k.Hash = "sha256:" + strings.Repeat("A", 64) })}, "good-one: the hash"},
		"hash that is no hex":   {[]auth.APIKey{with(func(k *auth.APIKey) { k.Hash = "sha256:" + strings.Repeat("g", 64) })}, "good-one: the hash"},
		"no owner":              {[]auth.APIKey{with(func(k *auth.APIKey) { k.Owner = "" })}, "good-one: the owner"},
		"owner ends in a space": {[]auth.APIKey{with(func(k *auth.APIKey) { k.Owner = "a " })}, "good-one: the owner"},
		"owner of two lines":    {[]auth.APIKey{with(func(k *auth.APIKey) { k.Owner = "a\nb" })}, "good-one: the owner"},
		"owner of 1,025 bytes":  {[]auth.APIKey{with(func(k *auth.APIKey) { k.Owner = strings.Repeat("a", 1025) })}, "good-one: the owner"},
		"owner with a NUL":      {[]auth.APIKey{with(func(k *auth.APIKey) { k.Owner = "a\x00" })}, "good-one: the owner"},
		"tenant with a tab":     {[]auth.APIKey{with(func(k *auth.APIKey) { k.Tenant = "a\t" })}, "good-one: a tenant"},
		"two scopes in one":     {[]auth.APIKey{with(func(k *auth.APIKey) { k.Scopes = []string{"a b"} })}, "good-one: a scope"},
		"an empty scope":        {[]auth.APIKey{with(func(k *auth.APIKey) { k.Scopes = []string{""} })}, "good-one: a scope"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := auth.NewAPIKeys(auth.APIKeysOptions{Keys: tc.keys})
			if err == nil || k != nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err %v, want %q in it", err, tc.want)
			}
		})
	}
	for _, header := range []string{"X Key", "Authorization", "authorization", "1", "X-Key:", "X_Key", strings.Repeat("a", 65)} {
		if _, err := auth.NewAPIKeys(auth.APIKeysOptions{Header: header}); err == nil {
			t.Errorf("header %q was accepted", header)
		}
	}
	if _, _, err := auth.NewAPIKey(auth.APIKey{ID: "a_b", Owner: "ada"}); err == nil {
		t.Error("made a key that cannot be loaded")
	}
}

func TestAPIKeysAreCounted(t *testing.T) {
	key, stored := makeKey(t, auth.APIKey{ID: "ci", Owner: "ada"})
	reg := prometheus.NewRegistry()
	k := newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{stored}, Metrics: reg})
	for range 3 {
		if _, _, err := k.Verify(key); err != nil {
			t.Fatal(err)
		}
	}
	_, _, _ = k.Verify("sluice_other_" + strings.Repeat("0", 43)) // No label of a caller's choice.
	if got := metrics(t, reg); got != "sluice_apikey_used_total{ci} 3\nsluice_apikeys 1\nsluice_apikeys_age_seconds 0\nsluice_apikeys_reload_failed 0\n" {
		t.Errorf("metrics:\n%s", got)
	}
	if _, err := auth.NewAPIKeys(auth.APIKeysOptions{Metrics: reg}); err == nil {
		t.Error("metrics registered twice")
	}
}

// TestSecretsAreEvenlyMade: each of the digits appears, at each of the places
// where it can.
func TestSecretsAreEvenlyMade(t *testing.T) {
	seen := map[byte]int{}
	all := map[string]bool{}
	for range 500 {
		key, _ := makeKey(t, auth.APIKey{ID: "a", Owner: "ada"})
		all[key] = true
		for i := len("sluice_a_") + 1; i < len(key); i++ {
			seen[key[i]]++
		}
	}
	if len(seen) != 62 || len(all) != 500 {
		t.Errorf("%d digits, %d keys", len(seen), len(all))
	}
}

func TestAPIKeyHitDoesNotAllocate(t *testing.T) {
	key, stored := makeKey(t, auth.APIKey{ID: "ci", Owner: "ada", Scopes: []string{"a"}, Expires: time.Now().Add(time.Hour)})
	k := newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{stored}})
	var failed error
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, err := k.Verify(key); err != nil {
			failed = err
		}
	}); n > 0 || failed != nil {
		t.Errorf("%v allocations, err %v", n, failed)
	}
}

// FuzzAPIKey: what is accepted is a key whose hash is stored, and nothing else.
func FuzzAPIKey(f *testing.F) {
	key, stored := makeKey(f, auth.APIKey{ID: "ci", Owner: "ada"})
	k := newAPIKeys(f, auth.APIKeysOptions{Keys: []auth.APIKey{stored}})
	for _, seed := range []string{key, "", "sluice_", "sluice_ci_", "sluice_x_" + strings.Repeat("0", 43), key + "0", "sluice__" + strings.Repeat("a", 43)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, shown string) {
		p, why, err := k.Verify(shown)
		sum := sha256.Sum256([]byte(shown))
		if stored.Hash == "sha256:"+hex.EncodeToString(sum[:]) {
			if err != nil || p.Subject != "ada" {
				t.Fatalf("a good key: %+v, %v", p, err)
			}
			return
		}
		if err == nil || p != nil || why == "" {
			t.Fatalf("%q is %+v", shown, p)
		}
		for _, r := range why {
			if r < ' ' || r > '~' {
				t.Fatalf("%q reaches the log", why)
			}
		}
	})
}

func BenchmarkAPIKeyHit(b *testing.B) {
	key, stored := makeKey(b, auth.APIKey{ID: "ci", Owner: "ada", Scopes: []string{"a"}, Expires: time.Now().Add(time.Hour)})
	k := newAPIKeys(b, auth.APIKeysOptions{Keys: []auth.APIKey{stored}, Metrics: prometheus.NewRegistry()})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := k.Verify(key); err != nil {
			b.Fatal(err)
		}
	}
}
