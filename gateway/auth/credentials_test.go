package auth_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// shown is what a call shows.
type shown struct {
	tokens, keys []string
	cert         *x509.Certificate
}

// call makes a call of an edge, which keeps its headers under the spelling of
// its protocol.
func (s shown) call(edge policy.Edge, public bool) *policy.Call {
	authorization, key := "Authorization", "X-Api-Key"
	if edge == policy.EdgeGRPC {
		authorization, key = "authorization", "x-api-key"
	}
	return &policy.Call{
		Edge: edge, Method: &policy.Method{Rule: policy.Rule{Public: public}}, PeerCertificate: s.cert,
		Headers: func(name string) []string {
			switch name {
			case authorization:
				return s.tokens
			case key:
				return s.keys
			}
			return nil
		},
	}
}

func authenticator(t testing.TB, o auth.AuthenticatorOptions) *auth.Authenticator {
	t.Helper()
	a, err := auth.NewAuthenticator(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCredentials(t *testing.T) {
	const (
		conflict, malformed = "CREDENTIALS_CONFLICT", "CREDENTIAL_MALFORMED"
		keyInvalid          = "API_KEY_INVALID"
	)
	c, k := newClock(), newKeys()
	ada := "Bearer " + signed(t, jwt.SigningMethodEdDSA, k.ed, good())
	bob := "Bearer " + signed(t, jwt.SigningMethodEdDSA, k.ed, with("sub", "bob"))
	forged := "Bearer " + signed(t, jwt.SigningMethodEdDSA, k.strangerEd, good())
	old := "Bearer " + signed(t, jwt.SigningMethodEdDSA, k.ed, with("exp", 1))
	adaKey, adaStored := makeKey(t, auth.APIKey{ID: "ada-ci", Owner: "ada", Scopes: []string{"admin"}, LimitClass: "batch", Expires: start.Add(30 * time.Minute)})
	bobKey, bobStored := makeKey(t, auth.APIKey{ID: "bob-ci", Owner: "bob"})
	acmeKey, acmeStored := makeKey(t, auth.APIKey{ID: "acme-ci", Owner: "ada", Tenant: "acme"})
	oldKey, oldStored := makeKey(t, auth.APIKey{ID: "old", Owner: "ada", Expires: start})
	adaCert, bobCert := certificate(t, name{dns, "ada.example.com"}), certificate(t, name{dns, "bob.example.com"})
	adaSlow := certificate(t, name{dns, "ada.slow.example"})
	plainKey, plainStored := makeKey(t, auth.APIKey{ID: "ada-plain", Owner: "ada", Expires: start.Add(30 * time.Minute)})
	acmeCert, strangeCert := certificate(t, name{dns, "ada.acme.example"}), certificate(t, name{dns, "ada.example.org"})
	keys := newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{adaStored, bobStored, acmeStored, oldStored, plainStored}, Now: c.Now})
	a := authenticator(t, auth.AuthenticatorOptions{
		Tokens: newVerifier(t, c.Now), Keys: keys, Now: c.Now,
		Certificates: certificates(t, auth.CertificateRule{DNS: "*.example.com", Scopes: []string{"cert"}}, auth.CertificateRule{DNS: "*.acme.example", Tenant: "acme", Scopes: []string{"cert"}},
			auth.CertificateRule{DNS: "*.slow.example", LimitClass: "slow"}),
	})
	one := func(s string) []string { return []string{s} }
	const tokenScope = "orders.read users.read"
	for what, tc := range map[string]struct {
		shown                  shown
		subject, scope, apiKey string
		issuer, class, tenant  string
		reason                 string
	}{
		"nothing":                                  {},
		"a token":                                  {shown: shown{tokens: one(ada)}, subject: "ada", scope: tokenScope, issuer: asymmetric},
		"a key":                                    {shown: shown{keys: one(adaKey)}, subject: "ada", scope: "admin", apiKey: "ada-ci", issuer: "api-key", class: "batch"},
		"a certificate":                            {shown: shown{cert: adaCert}, subject: "ada", scope: "cert", issuer: "client-certificate"},
		"a certificate that no rule knows":         {shown: shown{cert: strangeCert}},
		"token and key: the token speaks":          {shown: shown{tokens: one(ada), keys: one(adaKey)}, subject: "ada", scope: tokenScope, apiKey: "ada-ci", issuer: asymmetric, class: "batch"},
		"token and certificate":                    {shown: shown{tokens: one(ada), cert: adaCert}, subject: "ada", scope: tokenScope, issuer: asymmetric},
		"key and certificate: the key speaks":      {shown: shown{keys: one(adaKey), cert: adaCert}, subject: "ada", scope: "admin", apiKey: "ada-ci", issuer: "api-key", class: "batch"},
		"all three":                                {shown: shown{one(ada), one(adaKey), adaCert}, subject: "ada", scope: tokenScope, apiKey: "ada-ci", issuer: asymmetric, class: "batch"},
		"a class is the certificate's":             {shown: shown{tokens: one(ada), cert: adaSlow}, subject: "ada", scope: tokenScope, issuer: asymmetric, class: "slow"},
		"a class is the certificate's, not key's":  {shown: shown{keys: one(plainKey), cert: adaSlow}, subject: "ada", apiKey: "ada-plain", issuer: "api-key", class: "slow"},
		"a class is the certificate's, of three":   {shown: shown{one(ada), one(plainKey), adaSlow}, subject: "ada", scope: tokenScope, apiKey: "ada-plain", issuer: asymmetric, class: "slow"},
		"the key's class before the certificate's": {shown: shown{one(ada), one(adaKey), adaSlow}, subject: "ada", scope: tokenScope, apiKey: "ada-ci", issuer: asymmetric, class: "batch"},
		"key and certificate of a tenant":          {shown: shown{keys: one(acmeKey), cert: acmeCert}, subject: "ada", apiKey: "acme-ci", issuer: "api-key", tenant: "acme"},
		"a token and a certificate of nobody":      {shown: shown{tokens: one(bob), cert: strangeCert}, subject: "bob", scope: tokenScope, issuer: asymmetric},
		"token and another's key":                  {shown: shown{tokens: one(ada), keys: one(bobKey)}, reason: conflict},
		"token and another's certificate":          {shown: shown{tokens: one(ada), cert: bobCert}, reason: conflict},
		"key and another's certificate":            {shown: shown{keys: one(adaKey), cert: bobCert}, reason: conflict},
		"two agree, the third does not":            {shown: shown{one(ada), one(adaKey), bobCert}, reason: conflict},
		"the second does not, the third does":      {shown: shown{one(ada), one(bobKey), adaCert}, reason: conflict},
		"the subject of another tenant, key":       {shown: shown{tokens: one(ada), keys: one(acmeKey)}, reason: conflict},
		"the subject of another tenant, cert":      {shown: shown{keys: one(adaKey), cert: acmeCert}, reason: conflict},
		"a forged token":                           {shown: shown{tokens: one(forged)}, reason: "TOKEN_INVALID"},
		"a forged token beside a good key":         {shown: shown{tokens: one(forged), keys: one(adaKey)}, reason: "TOKEN_INVALID"},
		"an expired token beside a good key":       {shown: shown{tokens: one(old), keys: one(adaKey)}, reason: "TOKEN_EXPIRED"},
		"a good token beside a bad key":            {shown: shown{tokens: one(ada), keys: one(adaKey + "0")}, reason: keyInvalid},
		"a good token beside an empty key":         {shown: shown{tokens: one(ada), keys: one("")}, reason: keyInvalid},
		"a good certificate beside a bad key":      {shown: shown{keys: one("x"), cert: adaCert}, reason: keyInvalid},
		"a good certificate beside a forged token": {shown: shown{tokens: one(forged), cert: adaCert}, reason: "TOKEN_INVALID"},
		"an expired key":                           {shown: shown{keys: one(oldKey)}, reason: "API_KEY_EXPIRED"},
		"an expired key beside a good token":       {shown: shown{tokens: one(ada), keys: one(oldKey)}, reason: "API_KEY_EXPIRED"},
		"two tokens":                               {shown: shown{tokens: []string{ada, ada}}, reason: malformed},
		"two keys":                                 {shown: shown{keys: []string{adaKey, adaKey}}, reason: keyInvalid},
		"two keys, one empty":                      {shown: shown{keys: []string{adaKey, ""}}, reason: keyInvalid},
		"two keys in one":                          {shown: shown{keys: one(adaKey + "," + adaKey)}, reason: keyInvalid},
		"a key as a bearer token":                  {shown: shown{tokens: one("Bearer " + adaKey)}, reason: malformed},
		"a token as a key":                         {shown: shown{keys: one(strings.TrimPrefix(ada, "Bearer "))}, reason: keyInvalid},
	} {
		for _, edge := range []policy.Edge{policy.EdgeREST, policy.EdgeGRPC} {
			for _, public := range []bool{false, true} { // What is sent is verified even where nothing is needed.
				t.Run(what+"/"+string(edge), func(t *testing.T) {
					var first *policy.Principal
					for range 2 {
						call := tc.shown.call(edge, public)
						_, err := a.Authenticate(context.Background(), call)
						p := call.Principal
						if tc.reason != "" {
							want(t, err, codes.Unauthenticated, tc.reason, strings.Join(append(tc.shown.tokens, tc.shown.keys...), "."))
							if p != policy.Anonymous {
								t.Errorf("refused as %+v", p)
							}
							if call.Why == "" {
								t.Error("the operator learns nothing")
							}
							continue
						}
						if err != nil {
							t.Fatal(err)
						}
						if p.Subject != tc.subject || p.Scope() != tc.scope || p.APIKey != tc.apiKey || p.Issuer != tc.issuer || p.LimitClass != tc.class || p.Tenant != tc.tenant {
							t.Errorf("principal %+v", p)
						}
						if first != nil && p != first {
							t.Error("a principal for each request")
						}
						if first = p; tc.subject == "" && p != policy.Anonymous {
							t.Errorf("nobody is %+v", p)
						}
						if tc.shown.tokens != nil && tc.shown.keys != nil && !p.Expires.Equal(start.Add(30*time.Minute)) {
							t.Errorf("lasts until %v, longer than one of its credentials", p.Expires)
						}
					}
				})
			}
		}
	}
}

func TestAnExpiredCertificateOnAnOldConnection(t *testing.T) {
	c := newClock()
	a := authenticator(t, auth.AuthenticatorOptions{Certificates: certificates(t, auth.CertificateRule{DNS: "*.example.com"}), Now: c.Now})
	s := shown{cert: certificate(t, name{dns, "ada.example.com"})}
	c.Add(time.Hour - 1)
	call := s.call(policy.EdgeREST, false)
	if _, err := a.Authenticate(context.Background(), call); err != nil || call.Principal.Subject != "ada" {
		t.Fatalf("%+v, %v", call.Principal, err)
	}
	c.Add(1)
	call = s.call(policy.EdgeREST, true)
	_, err := a.Authenticate(context.Background(), call)
	want(t, err, codes.Unauthenticated, "CERTIFICATE_EXPIRED", "")
	if call.Principal != policy.Anonymous {
		t.Errorf("refused as %+v", call.Principal)
	}
}

func TestCredentialsThatAreNotConfigured(t *testing.T) {
	if _, err := auth.NewAuthenticator(auth.AuthenticatorOptions{}); err == nil {
		t.Error("an authenticator of nothing")
	}
	key, stored := makeKey(t, auth.APIKey{ID: "ci", Owner: "ada"})
	keys := newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{stored}})
	a := authenticator(t, auth.AuthenticatorOptions{Keys: keys})
	call := shown{keys: []string{key}, cert: certificate(t, name{dns, "bob.example.com"})}.call(policy.EdgeREST, false)
	if _, err := a.Authenticate(context.Background(), call); err != nil || call.Principal.Subject != "ada" {
		t.Errorf("%+v, %v", call.Principal, err)
	}
	call = shown{tokens: []string{"Bearer x.y.z"}, keys: []string{key}}.call(policy.EdgeREST, false)
	_, err := a.Authenticate(context.Background(), call)
	want(t, err, codes.Unauthenticated, "TOKEN_INVALID", "x.y.z")
}

// TestTheHeaderOfKeysHasAName: another name, and the one that is not it.
func TestTheHeaderOfKeysHasAName(t *testing.T) {
	key, stored := makeKey(t, auth.APIKey{ID: "ci", Owner: "ada"})
	a := authenticator(t, auth.AuthenticatorOptions{Keys: newAPIKeys(t, auth.APIKeysOptions{Header: "x-PARTNER-key", Keys: []auth.APIKey{stored}})})
	for edge, header := range map[policy.Edge]string{policy.EdgeREST: "X-Partner-Key", policy.EdgeGRPC: "x-partner-key"} {
		asked := map[string]bool{}
		call := &policy.Call{Edge: edge, Headers: func(name string) []string {
			if asked[name] = true; name == header {
				return []string{key}
			}
			return nil
		}}
		if _, err := a.Authenticate(context.Background(), call); err != nil || call.Principal.Subject != "ada" {
			t.Errorf("%s: %+v, %v; asked for %v", edge, call.Principal, err, asked)
		}
		if len(asked) != 2 {
			t.Errorf("asked for %v", asked)
		}
	}
}

// hits are calls whose credentials have all been seen before.
func hits(t testing.TB) (*auth.Authenticator, map[string]*policy.Call) {
	t.Helper()
	key, stored := makeKey(t, auth.APIKey{ID: "ci", Owner: "ada", Expires: start.Add(time.Hour)})
	c := newClock()
	a := authenticator(t, auth.AuthenticatorOptions{
		Tokens: newVerifier(t, c.Now), Now: c.Now,
		Keys:         newAPIKeys(t, auth.APIKeysOptions{Keys: []auth.APIKey{stored}, Now: c.Now}),
		Certificates: certificates(t, auth.CertificateRule{DNS: "*.example.com"}),
	})
	token := []string{"Bearer " + signed(t, jwt.SigningMethodRS256, newKeys().rsa, good())}
	cert := certificate(t, name{dns, "ada.example.com"})
	calls := map[string]*policy.Call{
		"nothing":     shown{}.call(policy.EdgeREST, false),
		"token":       shown{tokens: token}.call(policy.EdgeREST, false),
		"key":         shown{keys: []string{key}}.call(policy.EdgeREST, false),
		"certificate": shown{cert: cert}.call(policy.EdgeREST, false),
		"all":         shown{tokens: token, keys: []string{key}, cert: cert}.call(policy.EdgeREST, false),
	}
	for _, c := range calls {
		if _, err := a.Authenticate(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	return a, calls
}

func TestCredentialHitsDoNotAllocate(t *testing.T) {
	a, calls := hits(t)
	for what, c := range calls {
		var failed error
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := a.Authenticate(context.Background(), c); err != nil {
				failed = err
			}
		}); n > 0 || failed != nil {
			t.Errorf("%s: %v allocations, err %v", what, n, failed)
		}
	}
}

func BenchmarkCredentialsHit(b *testing.B) {
	a, calls := hits(b)
	for what, c := range calls {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Authenticate(context.Background(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
