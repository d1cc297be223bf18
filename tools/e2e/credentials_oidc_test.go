package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
)

// fetchEvery is the least time between two fetches that tokens cause.
const fetchEvery = 30 * time.Second

// realm is a login service as Keycloak is one: a discovery document, a key set,
// tokens with roles below realm_access. It counts the fetches of its keys.
type realm struct {
	issuer string

	mu      sync.Mutex
	keys    map[string]*rsa.PrivateKey // that are published, by kid
	fetched []time.Time
}

func startRealm(t *testing.T) *realm {
	t.Helper()
	r := &realm{keys: map[string]*rsa.PrivateKey{}}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r.issuer = server.URL + "/realms/shop"
	mux.HandleFunc("GET /realms/shop/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(object{"issuer": r.issuer, "jwks_uri": r.issuer + "/protocol/openid-connect/certs",
			"token_endpoint": r.issuer + "/protocol/openid-connect/token", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /realms/shop/protocol/openid-connect/certs", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.fetched = append(r.fetched, time.Now())
		_ = json.NewEncoder(w).Encode(object{"keys": r.set()})
	})
	return r
}

// set is the key set; each key is there for encryption, too, as Keycloak has it.
func (r *realm) set() (set []object) {
	for kid, k := range r.keys {
		n, e := base64.RawURLEncoding.EncodeToString(k.N.Bytes()), base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.E)).Bytes())
		set = append(set,
			object{"kid": kid + "-enc", "kty": "RSA", "alg": "RSA-OAEP", "use": "enc", "n": n, "e": e},
			object{"kid": kid, "kty": "RSA", "alg": "RS256", "use": "sig", "n": n, "e": e})
	}
	return set
}

// publish adds a key to the set.
func (r *realm) publish(t *testing.T, kid string) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[kid] = k
	return k
}

// token is one for a subject with the roles that a customer has.
func (r *realm) token(t *testing.T, k *rsa.PrivateKey, kid, subject, org string) string {
	t.Helper()
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": r.issuer, "aud": []string{audience, "account"}, "sub": subject, "typ": "Bearer", "azp": "web", "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "scope": "openid admin", "org": object{"id": org},
		"realm_access": object{"roles": []string{"offline_access", "users.read", "users.write", "orders.read"}},
	})
	token.Header["kid"] = kid
	text, err := token.SignedString(k)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func startWithRealm(t *testing.T, r *realm, classes object) *gateway {
	t.Helper()
	config := keyed(classes)
	config["auth"] = object{"issuers": []object{{
		"issuer": r.issuer, "audiences": []string{audience}, "oidc_discovery": object{},
		"claims": object{"scopes": []string{"realm_access.roles"}, "tenant": "org.id", "subject_prefix": "kc-"},
	}}}
	return startGateway(t, setup{config: config})
}

// TestTokensOfARealm: who somebody is comes from where the configuration says:
// roles, tenant, and a prefix that keeps the issuer from speaking for others.
func TestTokensOfARealm(t *testing.T) {
	t.Parallel()
	r := startRealm(t)
	k := r.publish(t, "first")
	g := startWithRealm(t, r, object{"read": object{"rates": []object{{"per": "tenant", "requests": 1, "interval": "3600s", "burst": 10}}}})
	ada := withBearer(g, r.token(t, k, "first", "ada", "acme"))
	eventually(t, patience, func() error { // The first fetch is in the background.
		return ada.overREST(getUser("ada"))(bounded(t)).unless(codes.PermissionDenied, "NOT_OWNER")
	})
	g.rest(t, "POST", "/v1/users?user_id=kc-ada", strings.TrimPrefix(ada.value, "Bearer "), `{"displayName":"Ada","email":"kc-ada@example.com"}`).want(t, 201, &struct{}{})
	for edge, ask := range ada.both(getUser("kc-ada")) {
		if r := once(t, "ada's own, "+edge, ask, codes.OK, ""); !strings.HasPrefix(r.rules, `"read-tenant"`) {
			t.Errorf("%s: RateLimit-Policy %s: the tenant is not known", edge, r.rules)
		}
	}
	for edge, ask := range ada.both(getUser("ada")) {
		once(t, "ada of another issuer, "+edge, ask, codes.PermissionDenied, "NOT_OWNER")
	}
	// The claim `scope` says admin, and is not asked.
	if a := g.rest(t, "GET", "/v1/users", strings.TrimPrefix(ada.value, "Bearer "), ""); a.status != 403 {
		t.Errorf("admin by a claim that is not mapped: %d %s", a.status, a.body)
	}
	colleague, stranger := withBearer(g, r.token(t, k, "first", "bob", "acme")), withBearer(g, r.token(t, k, "first", "eve", "other"))
	for spent := false; !spent; {
		switch r := colleague.overREST(getUser("kc-bob"))(bounded(t)); r.code {
		case codes.NotFound:
		case codes.ResourceExhausted:
			spent = true
		default:
			t.Fatal(r)
		}
	}
	for edge, ask := range ada.both(getUser("kc-ada")) {
		if r := once(t, "the tenant's budget, "+edge, ask, codes.ResourceExhausted, "RATE_LIMITED"); r.limit != "read-tenant" {
			t.Errorf("%s: %v", edge, r)
		}
	}
	if r := stranger.overGRPC(getUser("kc-eve"))(bounded(t)); r.code != codes.NotFound {
		t.Errorf("another tenant's budget: %v", r)
	}
}

// TestKeysOfARealmChange: a token with a new kid is good within 30 s, and a flood
// of made-up kids causes one fetch in 30 s at most and makes nobody wait.
func TestKeysOfARealmChange(t *testing.T) {
	t.Parallel()
	r := startRealm(t)
	first := r.publish(t, "first")
	g := startWithRealm(t, r, unreachable()["classes"].(object))
	becomes(t, g, "sluice_jwks_keys", 1) // By the fetch of the start; no token has caused one.
	known := withBearer(g, r.token(t, first, "first", "ada", "acme"))
	works := func(name string, c caller) time.Duration {
		begin := time.Now()
		for edge, ask := range c.both(getUser("ada")) {
			eventually(t, fetchEvery+patience, func() error {
				return ask(bounded(t)).unless(codes.PermissionDenied, "NOT_OWNER")
			})
			t.Logf("kid %s is known over %s after %v", name, edge, time.Since(begin).Round(time.Millisecond))
		}
		return time.Since(begin)
	}
	works("first", known)
	second := r.publish(t, "second")
	works("second", withBearer(g, r.token(t, second, "second", "ada", "acme")))

	var flood, calm tally
	stopCalm := drive(t, &calm, 2, 20*time.Millisecond, withBearer(g, r.token(t, first, "first", "ada", "acme")).overREST(getUser("ada")))
	stopREST := drive(t, &flood, 4, 10*time.Millisecond, r.madeUp(t, g, first, caller.overREST))
	stopGRPC := drive(t, &flood, 4, 10*time.Millisecond, r.madeUp(t, g, first, caller.overGRPC))
	time.Sleep(2 * time.Second)
	third := r.publish(t, "third")
	begin := time.Now()
	time.Sleep(2 * time.Second)
	stopREST()
	stopGRPC()
	stopCalm()
	works("third", withBearer(g, r.token(t, third, "third", "ada", "acme")))
	took := time.Since(begin)
	t.Logf("flood: %v; known key meanwhile: slowest %v; third key after %v", flood.asked, calm.slowest.Round(time.Millisecond), took.Round(time.Millisecond))
	for _, o := range calm.others {
		if !o.is(codes.PermissionDenied, "NOT_OWNER") {
			t.Errorf("with a known key: %v", o)
		}
	}
	if flood.asked < 200 || flood.admitted > 0 {
		t.Errorf("flood: %d asked, %d admitted", flood.asked, flood.admitted)
	}
	for _, o := range flood.others {
		if !o.is(codes.Unauthenticated, "TOKEN_INVALID") {
			t.Errorf("with a kid that is made up: %v", o)
		}
	}
	r.fetchedSeldom(t)
}

// fetchedSeldom: at the start, for the second key, and for the third with the
// flood.
func (r *realm) fetchedSeldom(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.fetched) > 3 {
		t.Errorf("%d fetches", len(r.fetched))
	}
	for i := 2; i < len(r.fetched); i++ {
		if gap := r.fetched[i].Sub(r.fetched[i-1]); gap < fetchEvery-time.Second {
			t.Errorf("a fetch %v after another", gap)
		}
	}
}

// madeUp asks with a token of a kid that there never was, each time another.
func (r *realm) madeUp(t *testing.T, g *gateway, k *rsa.PrivateKey, over func(caller, method) asker) asker {
	return func(ctx context.Context) reply {
		return over(withBearer(g, r.token(t, k, rand.Text(), "ada", "acme")), getUser("ada"))(ctx)
	}
}
