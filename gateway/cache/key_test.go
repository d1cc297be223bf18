package cache_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func principal(subject, issuer, tenant string, scopes ...string) *policy.Principal {
	p := policy.NewPrincipal(subject, issuer, scopes, time.Time{})
	p.Tenant = tenant
	return p
}

// TestNoTwoPrincipals: whoever is told apart is told apart in keys, however their names
// are cut.
func TestNoTwoPrincipals(t *testing.T) {
	c, _ := newCache(t, cache.Options{})
	r := c.Route("/a.B/C", &policy.Cache{TTL: time.Minute})
	seen := map[string]int{}
	for i, p := range []*policy.Principal{
		policy.Anonymous,
		principal("ada", "i", ""),
		principal("ad", "ia", ""),
		principal("ada", "j", ""),
		principal("ada", "", "i"),
		principal("ada", "i", "t"),
		principal("adat", "i", ""),
		principal("ada", "i", "u"),
		principal("ada", "i", "", "read"),
		principal("ada", "i", "", "read", "write"),
		principal("ada", "i", "", "read write"),
		principal("ada", "i", "", "admin"),
		principal("ada", "i", "read"),
		principal("ada\x00", "i", ""),
		principal("ada", "i", "\x00"),
		principal("Ada", "i", ""),
		principal("i", "ada", ""),
	} {
		k := string(r.AppendKey(nil, p))
		if j, ok := seen[k]; ok {
			t.Errorf("principals %d and %d have one key", i, j)
		}
		seen[k] = i
	}
	same := func(a, b *policy.Principal) bool { return string(r.AppendKey(nil, a)) == string(r.AppendKey(nil, b)) }
	if !same(principal("ada", "i", "t", "b", "a", "a"), principal("ada", "i", "t", "a", "b")) {
		t.Error("the order of scopes makes two principals")
	}
	public := c.Route("/a.B/C", &policy.Cache{Public: true, TTL: time.Minute})
	if string(public.AppendKey(nil, policy.Anonymous)) != string(public.AppendKey(nil, principal("ada", "i", "t", "admin"))) {
		t.Error("a public answer is kept for one")
	}
	for i, other := range []*cache.Route{public, c.Route("/a.B/D", r.Rule()), c.Route("/a.B/C", &policy.Cache{TTL: time.Minute, Vary: []string{"x"}}),
		c.Route("/a.B/C", &policy.Cache{TTL: time.Minute, Vary: []string{"x", "y"}}), c.Route("/a.B/C", &policy.Cache{TTL: time.Minute, Vary: []string{"xy"}})} {
		k := string(other.AppendKey(nil, policy.Anonymous))
		if j, ok := seen[k]; ok {
			t.Errorf("route %d shares a key with principal %d", i, j)
		}
		seen[k] = 1000 + i
	}
}

// FuzzKey: two keys are equal only when every part is.
func FuzzKey(f *testing.F) {
	f.Add("ada", "i", "", "a b", "x", "ad", "ai", "", "a", "b")
	f.Add("", "", "", "", "", "\x00", "", "", "", "")
	f.Add("a", strings.Repeat("b", 200), "", "", "", "a", "", "", strings.Repeat("b", 200), "")
	c, err := cache.New(cache.Options{})
	if err != nil {
		f.Fatal(err)
	}
	r := c.Route("/a.B/C", &policy.Cache{TTL: time.Minute})
	f.Fuzz(func(t *testing.T, s1, i1, t1, scopes1, req1, s2, i2, t2, scopes2, req2 string) {
		one := func(subject, issuer, tenant, scopes, req string) (string, []string) {
			p := principal(subject, issuer, tenant, strings.Split(scopes, ",")...)
			parts := append([]string{subject, issuer, tenant, req}, p.Scopes()...)
			return string(cache.AppendPart(r.AppendKey(nil, p), req)), parts
		}
		a, pa := one(s1, i1, t1, scopes1, req1)
		b, pb := one(s2, i2, t2, scopes2, req2)
		if (a == b) != slices.Equal(pa, pb) {
			t.Errorf("%q and %q: keys %q and %q", pa, pb, a, b)
		}
	})
}
