package auth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// generic reads claims as a program would that takes encoding/json's maps for
// the truth.
type generic map[string]any

func (g generic) at(path ...string) any {
	var v any = map[string]any(g)
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (g generic) scopes(t *testing.T, v any) []string {
	t.Helper()
	var out []string
	switch v := v.(type) {
	case string:
		for _, s := range strings.Split(v, " ") {
			if validScope(s) {
				out = append(out, s)
			}
		}
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				t.Fatalf("took the scope %v", e)
			}
			if validScope(s) {
				out = append(out, s)
			}
		}
	case nil:
	default:
		t.Fatalf("took scopes of %T", v)
	}
	return out
}

// FuzzClaims holds that claims that are taken are those that encoding/json reads
// into a map: same values, or refusal.
func FuzzClaims(f *testing.F) {
	m, err := ClaimPaths{Subject: "sub", Scopes: []string{"scope", "realm_access.roles"}, Tenant: `org["i.d"]`}.compile()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		`{"iss":"i","aud":"a","sub":"ada","exp":1893560645,"scope":"a b"}`,
		`{"iss":"i","aud":["a","b"],"sub":"ada","exp":1.5e9,"nbf":0,"iat":1.25,"realm_access":{"roles":["a","b c"]},"org":{"i.d":"acme"}}`,
		`{"sub":"ada","sub":"root"}`, `{"sub":"ada","s\u0075b":"root"}`, `{"sub":"a\ud800"}`, `{"exp":1e400}`,
		`{"sub":"ada","x":[[[[]]]]}`, `{"realm_access":{"roles":[1]}}`, `{} {}`, `null`, `[]`, `{"":1e700}`, "{\"sub\":\"\xff\"}", ` { "sub" : "ada" } `,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c claims
		if err := c.UnmarshalJSON(raw); err != nil {
			return
		}
		var g generic
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber() // A number past all floats is no fault in a claim that nobody reads.
		if err := dec.Decode(&g); err != nil || dec.More() {
			t.Fatalf("took what is no JSON object: %v", err)
		}
		if iss, _ := g["iss"].(string); iss != c.issuer {
			t.Errorf("iss %q, want %q", c.issuer, iss)
		}
		var aud []string
		switch v := g["aud"].(type) {
		case string:
			aud = []string{v}
		case []any:
			for _, e := range v {
				aud = append(aud, fmt.Sprint(e))
			}
		}
		if !slices.Equal(aud, c.audience) {
			t.Errorf("aud %q, want %q", c.audience, aud)
		}
		for name, got := range map[string]any{"exp": c.exp, "nbf": c.nbf, "iat": c.iat} {
			n, ok := g[name].(json.Number)
			want, err := n.Float64()
			if ok && err != nil {
				t.Errorf("%s %v was taken: %v", name, got, err)
			}
			if reflect.ValueOf(got).IsNil() == ok {
				t.Errorf("%s %v, want %v", name, got, g[name])
			}
			if d := dateOf(c, name); ok && (float64(d.Unix()) > want || float64(d.Unix()) < want-1) {
				t.Errorf("%s %v, want %v", name, d, want)
			}
		}
		checkIdentity(t, m, &c, g)
	})
}

func dateOf(c claims, name string) interface{ Unix() int64 } {
	switch {
	case name == "exp" && c.exp != nil:
		return c.exp
	case name == "nbf" && c.nbf != nil:
		return c.nbf
	case name == "iat" && c.iat != nil:
		return c.iat
	}
	return nil
}

func checkIdentity(t *testing.T, m *mapping, c *claims, g generic) {
	t.Helper()
	id, err := m.identity(c)
	if err != nil {
		return
	}
	if id.subject != g.at("sub") {
		t.Errorf("subject %q, want %v", id.subject, g.at("sub"))
	}
	if tenant, _ := g.at("org", "i.d").(string); id.tenant != tenant {
		t.Errorf("tenant %q, want %v", id.tenant, g.at("org", "i.d"))
	}
	want := append(g.scopes(t, g.at("scope")), g.scopes(t, g.at("realm_access", "roles"))...)
	if !slices.Equal(id.scopes, want) {
		t.Errorf("scopes %q, want %q", id.scopes, want)
	}
}

func TestNesting(t *testing.T) {
	for in, want := range map[string]int{
		`1`: 0, `{}`: 1, `[[]]`: 2, `{"a":[{"b":1}],"c":[]}`: 3, `"[[["`: 0, `["\"[",[]]`: 2, `["\\",[[]]]`: 3,
	} {
		if got := nesting([]byte(in)); got != want {
			t.Errorf("%s: %d, want %d", in, got, want)
		}
	}
}

// The cache is bounded by what it holds, not only by how many: tokens of one
// caller with long lists of scopes do not fill the memory.
func TestCacheIsBoundedByScopes(t *testing.T) {
	key, err := OpenDevKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(Options{Issuers: []Issuer{key.Issuer()}, CacheSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		token, err := key.Mint(fmt.Sprint("user", i), []string{strings.Repeat("s", 2560)}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	v.cache.CleanUp()
	if n := v.cache.EstimatedSize(); n > 9 || v.cache.WeightedSize() > 100 {
		t.Errorf("%d tokens, of the weight %d", n, v.cache.WeightedSize())
	}
}
