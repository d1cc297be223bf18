package auth_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

func TestCompileClaimPath(t *testing.T) {
	for in, want := range map[string]string{
		"sub":                                  "sub",
		"realm_access.roles":                   "realm_access.roles",
		"cognito:groups":                       "cognito:groups",
		`["https://example.com/roles"]`:        `["https://example.com/roles"]`,
		`resource_access["my-app"].roles`:      "resource_access.my-app.roles",
		`resource_access["my.app"]["a b"]`:     `resource_access["my.app"]["a b"]`,
		`["a"]["b"].c`:                         "a.b.c",
		`["\u0061\"\\]"]`:                      `["a\"\\]"]`,
		`["ключ"].x`:                           `["ключ"].x`,
		strings.Repeat("a.", 7) + "a":          strings.Repeat("a.", 7) + "a",
		`["` + strings.Repeat("a", 508) + `"]`: strings.Repeat("a", 508),
	} {
		p, err := auth.CompileClaimPath(in)
		if err != nil || p.String() != want {
			t.Errorf("%s: %s, %v", in, p, err)
		}
	}
	for _, in := range []string{
		"", ".", "a.", ".a", "a..b", "a b", "a.b ", "a[0]", "a[]", `a["b`, `a["b"`, `a["b"]c`, `a.["b"]`, `[""]`, `["\ud800"]`, `["\x"]`,
		"[\"a\nb\"]", `["a\"]`, "a[b]", `a]`, `"a"`, "https://example.com/roles", "a/b", "a\\b", "ä", "a\x00", "$.a[*]", "a.*",
		strings.Repeat("a.", 8) + "a", strings.Repeat("a", 513),
	} {
		if p, err := auth.CompileClaimPath(in); err == nil {
			t.Errorf("%q was read as %s", in, p)
		}
	}
}

func TestClaimMapping(t *testing.T) {
	type caller struct{ subject, tenant, scope string }
	const refused = ""
	keycloak := auth.ClaimPaths{
		Subject: "preferred_username", Scopes: []string{"realm_access.roles", `resource_access["my.app"].roles`},
		Tenant: `["https://example.com/tenant"]`, SubjectPrefix: "partner/",
	}
	standard := auth.ClaimPaths{}
	tenant := auth.ClaimPaths{Tenant: "org.id"}
	roles := auth.ClaimPaths{Scopes: []string{"roles"}}
	for name, tc := range map[string]struct {
		paths auth.ClaimPaths
		body  string
		want  caller
	}{
		"all mapped": {keycloak, `"sub":"x","preferred_username":"ada","scope":"openid","realm_access":{"roles":["b","a"]},
			"resource_access":{"my.app":{"roles":["c"]},"other":{"roles":["admin"]}},"https://example.com/tenant":"acme"`, caller{"partner/ada", "acme", "a b c"}},
		"names are not split at dots":     {keycloak, `"preferred_username":"ada","resource_access":{"my":{"app":{"roles":["c"]}}}`, caller{"partner/ada", "", ""}},
		"no sub is needed then":           {keycloak, `"preferred_username":"ada"`, caller{"partner/ada", "", ""}},
		"sub does not stand in":           {keycloak, `"sub":"ada"`, caller{refused, "", ""}},
		"a mapped subject of null":        {keycloak, `"sub":"ada","preferred_username":null`, caller{refused, "", ""}},
		"a mapped subject of a number":    {keycloak, `"preferred_username":7`, caller{refused, "", ""}},
		"an empty mapped subject":         {keycloak, `"preferred_username":""`, caller{refused, "", ""}},
		"a subject of 247 and the prefix": {keycloak, `"preferred_username":"` + strings.Repeat("a", 247) + `"`, caller{"partner/" + strings.Repeat("a", 247), "", ""}},
		"a subject of 248 and the prefix": {keycloak, `"preferred_username":"` + strings.Repeat("a", 248) + `"`, caller{refused, "", ""}},
		"roles within no object":          {keycloak, `"preferred_username":"ada","realm_access":["a"]`, caller{refused, "", ""}},
		"roles within null":               {keycloak, `"preferred_username":"ada","realm_access":null`, caller{"partner/ada", "", ""}},
		"roles are null":                  {keycloak, `"preferred_username":"ada","realm_access":{"roles":null}`, caller{"partner/ada", "", ""}},
		"roles twice":                     {keycloak, `"preferred_username":"ada","realm_access":{"roles":["a"],"roles":["admin"]}`, caller{refused, "", ""}},
		"roles twice, escaped":            {keycloak, `"preferred_username":"ada","realm_access":{"roles":["a"],"r\u006fles":["admin"]}`, caller{refused, "", ""}},
		"another member twice beside":     {keycloak, `"preferred_username":"ada","realm_access":{"x":1,"x":2,"roles":["a"]}`, caller{refused, "", ""}},
		"twice where no path leads":       {keycloak, `"preferred_username":"ada","elsewhere":{"x":1,"x":2}`, caller{"partner/ada", "", ""}},
		"roles of other case":             {keycloak, `"preferred_username":"ada","Realm_Access":{"Roles":["admin"]},"realm_access":{"ROLES":["admin"]}`, caller{"partner/ada", "", ""}},
		"tenant":                          {tenant, `"sub":"ada","org":{"id":"acme"}`, caller{"ada", "acme", ""}},
		"no tenant":                       {tenant, `"sub":"ada","org":{}`, caller{"ada", "", ""}},
		"tenant of null":                  {tenant, `"sub":"ada","org":{"id":null}`, caller{"ada", "", ""}},
		"an empty tenant":                 {tenant, `"sub":"ada","org":{"id":""}`, caller{refused, "", ""}},
		"tenant of a number":              {tenant, `"sub":"ada","org":{"id":7}`, caller{refused, "", ""}},
		"tenants in a list":               {tenant, `"sub":"ada","org":{"id":["acme"]}`, caller{refused, "", ""}},
		"tenant with a space":             {tenant, `"sub":"ada","org":{"id":"ac me"}`, caller{refused, "", ""}},
		"tenant of 255":                   {tenant, `"sub":"ada","org":{"id":"` + strings.Repeat("ä", 255) + `"}`, caller{"ada", strings.Repeat("ä", 255), ""}},
		"tenant of 256":                   {tenant, `"sub":"ada","org":{"id":"` + strings.Repeat("a", 256) + `"}`, caller{refused, "", ""}},
		"a tenant where none is mapped":   {standard, `"sub":"ada","tenant":"acme"`, caller{"ada", "", ""}},
		"the three names together":        {standard, `"sub":"ada","scope":"a b","scp":["c"],"scopes":["d"]`, caller{"ada", "", "a b c d"}},
		"scope of null":                   {standard, `"sub":"ada","scope":null`, caller{"ada", "", ""}},
		"a role in a standard claim":      {standard, `"sub":"ada","scopes":["Store Manager"]`, caller{refused, "", ""}},
		"roles that are no scopes":        {roles, `"sub":"ada","roles":["Store admin","a","Verkäufer","","b"]`, caller{"ada", "", "a b"}},
		"roles in a string":               {roles, `"sub":"ada","roles":" b  a\tc \"d a"`, caller{"ada", "", "a b"}},
		"a number among roles":            {roles, `"sub":"ada","roles":["a",7]`, caller{refused, "", ""}},
		"roles are a number":              {roles, `"sub":"ada","roles":7`, caller{refused, "", ""}},
		"roles are objects":               {roles, `"sub":"ada","roles":{"a":true}`, caller{refused, "", ""}},
		"scope where roles are mapped":    {roles, `"sub":"ada","scope":"admin","roles":["a"]`, caller{"ada", "", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := mappingVerifier(t, auth.Issuer{Claims: tc.paths})
			token := raw(`{"alg":"EdDSA"}`, `{"iss":"https://issuer.example","aud":"shop","exp":1893560645,`+tc.body+`}`)
			p, err := verify(v, token)
			if tc.want.subject == refused {
				want(t, err, codes.Unauthenticated, "TOKEN_INVALID", token)
				return
			}
			if err != nil {
				t.Fatalf("%v (%s)", err, auth.Why(err))
			}
			if got := (caller{p.Subject, p.Tenant, p.Scope()}); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// mappingVerifier completes issuers, each with the same key.
func mappingVerifier(t testing.TB, issuers ...auth.Issuer) *auth.Verifier {
	t.Helper()
	for i := range issuers {
		is := &issuers[i]
		if is.Name == "" {
			is.Name = asymmetric
		}
		is.Audiences, is.Algorithms = []string{"shop"}, []string{"EdDSA"}
		is.Keys = &source{keys: []any{newKeys().ed.Public()}}
	}
	v, err := auth.NewVerifier(auth.Options{Issuers: issuers, Now: newClock().Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Each issuer's mapping is its own, from the cache as well.
func TestIssuersDoNotMix(t *testing.T) {
	v := mappingVerifier(t,
		auth.Issuer{Name: "https://a.example", Claims: auth.ClaimPaths{SubjectPrefix: "a/", Tenant: "tenant", Scopes: []string{"roles"}}},
		auth.Issuer{Name: "https://b.example", Claims: auth.ClaimPaths{Subject: "mail"}},
	)
	token := func(issuer string) string {
		return signed(t, jwt.SigningMethodEdDSA, newKeys().ed, with("iss", issuer, "mail", "grace", "tenant", "acme", "roles", []string{"admin"}))
	}
	for range 2 {
		a, err := verify(v, token("https://a.example"))
		if err != nil || a.Subject != "a/ada" || a.Tenant != "acme" || !slices.Equal(a.Scopes(), []string{"admin"}) || a.Issuer != "https://a.example" {
			t.Errorf("a: %+v, %v", a, err)
		}
		b, err := verify(v, token("https://b.example"))
		if err != nil || b.Subject != "grace" || b.Tenant != "" || b.Scope() != "orders.read users.read" || b.Issuer != "https://b.example" {
			t.Errorf("b: %+v, %v", b, err)
		}
	}
}

// FuzzClaimPath holds that a path that was read is written as one that reads the
// same.
func FuzzClaimPath(f *testing.F) {
	for _, s := range []string{"realm_access.roles", `["https://example.com/roles"]`, `resource_access["my-app"].roles`, `["a\u0000\"]"]`, "a[0]", `["`, "a..b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := auth.CompileClaimPath(s)
		if err != nil {
			return
		}
		text := p.String()
		again, err := auth.CompileClaimPath(text)
		if len(text) > 512 { // Escapes may take more room than they took.
			return
		}
		if err != nil || again.String() != text {
			t.Errorf("%q is written as %q, which reads as %q, %v", s, text, again, err)
		}
	})
}
