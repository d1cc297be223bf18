package jwks_test

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
)

func TestDiscoveryURL(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://issuer.example":            "https://issuer.example/.well-known/openid-configuration",
		"https://issuer.example/":           "https://issuer.example/.well-known/openid-configuration",
		"https://issuer.example/realms/a":   "https://issuer.example/realms/a/.well-known/openid-configuration",
		"https://issuer.example/realms/a//": "https://issuer.example/realms/a//.well-known/openid-configuration",
	} {
		if got := jwks.DiscoveryURL(issuer); got != want {
			t.Errorf("%s: %s", issuer, got)
		}
	}
}

func configuration(members ...string) string {
	m := map[string]string{}
	for i := 0; i < len(members); i += 2 {
		m[members[i]] = members[i+1]
	}
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// discovered is an issuer whose configuration names another path, on loopback.
func discovered(t *testing.T, keys http.HandlerFunc) *server {
	t.Helper()
	var srv *server
	srv = newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			text(configuration("issuer", issuer, "jwks_uri", srv.URL+"/keys"))(w, r)
		case "/keys":
			keys(w, r)
		default:
			http.NotFound(w, r)
		}
	})
	return srv
}

func TestDiscovery(t *testing.T) {
	key := edKey(t)
	srv := discovered(t, set(edJWK("k", key)))
	v := newVerifier(t, newSource(t, jwks.Options{Discovery: jwks.DiscoveryURL(srv.URL), Issuer: issuer}))
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
}

func TestDiscoveryRefuses(t *testing.T) {
	key := edKey(t)
	good := set(edJWK("k", key))
	type answers struct {
		configuration http.HandlerFunc
		outcome       string
	}
	const at = "https://issuer.example/keys"
	for name, tc := range map[string]answers{
		"another issuer":         {text(configuration("issuer", "https://evil.example", "jwks_uri", at)), "bad_discovery"},
		"a slash more":           {text(configuration("issuer", issuer+"/", "jwks_uri", at)), "bad_discovery"},
		"no issuer":              {text(configuration("jwks_uri", at)), "bad_discovery"},
		"an issuer of that case": {text(configuration("Issuer", issuer, "jwks_uri", at)), "bad_discovery"},
		"no jwks_uri":            {text(configuration("issuer", issuer)), "bad_discovery"},
		"a JWKS_URI":             {text(configuration("issuer", issuer, "JWKS_URI", at)), "bad_discovery"},
		"keys in plain text":     {text(configuration("issuer", issuer, "jwks_uri", "http://issuer.example/keys")), "bad_discovery"},
		"keys of this machine":   {text(configuration("issuer", issuer, "jwks_uri", "http://127.0.0.1:9901/keys")), "bad_discovery"},
		"TLS on this machine":    {text(configuration("issuer", issuer, "jwks_uri", "https://localhost/keys")), "bad_discovery"},
		"keys in a file":         {text(configuration("issuer", issuer, "jwks_uri", "file:///etc/passwd")), "bad_discovery"},
		"an empty URL":           {text(configuration("issuer", issuer, "jwks_uri", "")), "bad_discovery"},
		"a number":               {text(`{"issuer":"` + issuer + `","jwks_uri":7}`), "bad_discovery"},
		"no JSON":                {text("<html>"), "bad_discovery"},
		"null":                   {text("null"), "bad_discovery"},
		"oversized":              {text(configuration("issuer", issuer, "jwks_uri", at, "pad", strings.Repeat("x", 512<<10))), "too_large"},
		"404":                    {http.NotFound, "bad_status"},
		"another host": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		}, "bad_status"},
		"plain text": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://issuer.example/", http.StatusMovedPermanently)
		}, "bad_status"},
		"silence": {nil, "unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				r := &remote{handler: func(w http.ResponseWriter, req *http.Request) {
					if req.URL.String() == jwks.DiscoveryURL(issuer) {
						tc.configuration(w, req)
						return
					}
					good(w, req)
				}}
				if tc.configuration == nil {
					r.answer(nil, time.Hour)
				}
				s, err := jwks.NewWith(jwks.Options{Discovery: jwks.DiscoveryURL(issuer), Issuer: issuer, Metrics: reg}, r)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				expect(t, newVerifier(t, s), token(t, jwt.SigningMethodEdDSA, key, "k"), codes.Unavailable)
				if got := sample(t, reg, "sluice_jwks_fetches_total", issuer, tc.outcome); got < 1 {
					t.Errorf("no fetch with the outcome %s", tc.outcome)
				}
				if got := sample(t, reg, "sluice_jwks_fetches_total", issuer, "ok"); got != -1 {
					t.Errorf("%v good fetches", got)
				}
			})
		})
	}
}

// The key set may move, and a bad configuration keeps the last good keys.
func TestDiscoveryIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := map[string]ed25519.PrivateKey{"/a": edKey(t), "/b": edKey(t)}
		var moved, broken atomic.Bool
		r := &remote{handler: func(w http.ResponseWriter, req *http.Request) {
			path := "/a"
			if moved.Load() {
				path = "/b"
			}
			switch {
			case req.URL.Path == path:
				set(edJWK(path, keys[path]))(w, req)
			case broken.Load():
				text(configuration("issuer", "https://evil.example", "jwks_uri", issuer+path))(w, req)
			default:
				text(configuration("issuer", issuer, "jwks_uri", issuer+path))(w, req)
			}
		}}
		s, err := jwks.NewWith(jwks.Options{Discovery: jwks.DiscoveryURL(issuer), Issuer: issuer}, r)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		synctest.Wait()
		want := func(kid string, want bool) {
			t.Helper()
			if found, err := keysNow(t, s, kid); found != want || err != nil {
				t.Errorf("%s: %v, %v", kid, found, err)
			}
		}
		want("/a", true)
		moved.Store(true)
		time.Sleep(10*time.Minute + time.Second)
		want("/a", false)
		want("/b", true)
		broken.Store(true)
		moved.Store(false)
		time.Sleep(20 * time.Minute)
		want("/b", true)
	})
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]jwks.Options{
		"neither URL":                   {},
		"both URLs":                     {URL: "https://a.example", Discovery: "https://a.example", Issuer: "a"},
		"discovery without an issuer":   {Discovery: "https://a.example"},
		"discovery in plain text":       {Discovery: "http://a.example", Issuer: "a"},
		"keys that are never used":      {URL: "https://a.example", MaxAge: time.Second},
		"keys that are used for less":   {URL: "https://a.example", MaxAge: -time.Hour},
		"a URL that tells its password": {URL: "http://user:hunter2@a.example"},
	} {
		src, err := jwks.New(o)
		if err == nil {
			src.Close()
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse holds that no answer of an issuer's does harm, and that what is
// taken has 1 to 64 keys.
func FuzzParse(f *testing.F) {
	ok, err := json.Marshal(map[string]any{"keys": []jwk{edJWK("k", edKey(f))}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ok)
	for _, s := range []string{
		"", "null", `{}`, `{"keys":null}`, `{"keys":[null]}`, `{"keys":[{}]}`,
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","x5c":["AA"],"x5u":"http://x"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, err := jwks.Parse(raw); err == nil && (n < 1 || n > 64) {
			t.Errorf("%d keys", n)
		}
	})
}

// FuzzConfiguration holds that what is taken is an https URL or a loopback one,
// and that the issuer is the right one.
func FuzzConfiguration(f *testing.F) {
	for _, uri := range []string{issuer + "/keys", "http://127.0.0.1/", "http://issuer.example", "http://localhost@a.example", "\x00", "https://"} {
		f.Add([]byte(configuration("issuer", issuer, "jwks_uri", uri)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := jwks.ReadConfiguration(raw, issuer)
		if err != nil {
			return
		}
		if !strings.HasPrefix(strings.ToLower(got), "https://") && !strings.HasPrefix(strings.ToLower(got), "http://") {
			t.Fatalf("took %q", got)
		}
		var m map[string]any
		if json.Unmarshal(raw, &m) != nil || m["issuer"] != issuer || m["jwks_uri"] != got {
			t.Errorf("took %q of %q", got, raw)
		}
	})
}
