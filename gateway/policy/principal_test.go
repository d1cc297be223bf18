package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

func principal(subject string, scopes ...string) *policy.Principal {
	return policy.NewPrincipal(subject, "https://issuer.example", scopes, time.Time{})
}

func TestPrincipal(t *testing.T) {
	given := []string{"b", "a", "b"}
	p := principal("ada", given...)
	if !slices.Equal(p.Scopes(), []string{"a", "b"}) || p.Scope() != "a b" {
		t.Errorf("scopes %v, scope %q", p.Scopes(), p.Scope())
	}
	if !slices.Equal(given, []string{"b", "a", "b"}) {
		t.Error("the caller's slice was changed")
	}
	if !p.Authenticated() || policy.Anonymous.Authenticated() || policy.Anonymous.Scope() != "" {
		t.Error("who is authenticated is wrong")
	}
	if !p.Has("a") || p.Has("c") || p.Has("") || !principal("root", "admin").Has("anything") {
		t.Error("Has is wrong")
	}
}

func TestOwns(t *testing.T) {
	for name, tc := range map[string]struct {
		who   *policy.Principal
		owner string
		want  bool
	}{
		"own":               {principal("ada"), "ada", true},
		"another's":         {principal("ada"), "bob", false},
		"other case":        {principal("ada"), "Ada", false},
		"nobody's":          {principal("ada"), "", false},
		"anonymous, none":   {policy.Anonymous, "", false},
		"admin":             {principal("root", "admin"), "ada", true},
		"admin, nobody's":   {principal("root", "admin"), "", true},
		"a subject 'admin'": {principal("admin"), "ada", false},
	} {
		if got := tc.who.Owns(tc.owner); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
