package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

const hmacSecret = "0123456789abcdef0123456789abcdef"

// signed is a token of an issuer with that secret; claims are added to what all need.
func signed(t *testing.T, issuer string, claims jwt.MapClaims) string {
	t.Helper()
	all := jwt.MapClaims{"iss": issuer, "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, all).SignedString([]byte(hmacSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// startWithIssuers runs the test service, the shop and a plain HTTP service that answers
// the X-User-ID it got.
func startWithIssuers(t *testing.T, edit func(*configv1.Config), issuers map[string]*configv1.Claims) *gatewaytest.Gateway {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(hmacSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(r.Header["X-User-Id"])
	}))
	t.Cleanup(plain.Close)
	return gatewaytest.Start(t, func(c *configv1.Config) {
		c.Auth = &configv1.Auth{}
		for name, claims := range issuers {
			c.Auth.Issuers = append(c.Auth.Issuers, &configv1.Issuer{Issuer: name, Audiences: []string{"sluice"}, Algorithms: []string{"HS256"},
				Keys: &configv1.Issuer_HmacSecretFile{HmacSecretFile: secret}, Claims: claims})
		}
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"plain": {Target: plain.Listener.Addr().String(), UserIdHeader: true}}
		c.HttpRoutes = []*configv1.HttpRoute{
			{Name: "who", Upstream: "plain", Require: &policyv1.Require{Authenticated: true}, Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Exact{Exact: "/plain/who"}}},
			{Name: "mine", Upstream: "plain", Require: &policyv1.Require{Authenticated: true, Owner: "user"}, Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Template{Template: "/plain/of/{user}"}}},
		}
		if edit != nil {
			edit(c)
		}
	}, gateway.WithServices(append(shop.Services(), gatewaytest.TestService(&gatewaytest.Server{}))...))
}

func fetch(t *testing.T, g *gatewaytest.Gateway, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// asked is the subject that the service is told over each edge, or the reason of a refusal.
func asked(t *testing.T, g *gatewaytest.Gateway, token string) map[string]string {
	t.Helper()
	got := map[string]string{}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	if res, err := testv1.NewTestServiceClient(g.Conn).Echo(ctx, &testv1.EchoRequest{Id: "a"}); err != nil {
		got["gRPC"] = fmt.Sprint(status.Code(err))
	} else {
		got["gRPC"] = res.GetSubject()
	}
	var echo struct{ Subject, Code string }
	_, body := fetch(t, g, "/test/v1/echo/a", token)
	if err := json.Unmarshal([]byte(body), &echo); err != nil {
		t.Fatal(err)
	}
	if got["REST"] = echo.Subject; echo.Code == "UNAUTHENTICATED" {
		got["REST"] = codes.Unauthenticated.String()
	}
	code, body := fetch(t, g, "/plain/who", token)
	var ids []string
	switch {
	case code == http.StatusUnauthorized:
		got["plain HTTP"] = codes.Unauthenticated.String()
	case json.Unmarshal([]byte(body), &ids) != nil || len(ids) != 1:
		got["plain HTTP"] = body
	default:
		got["plain HTTP"] = ids[0]
	}
	return got
}

// TestWhomTokensName: what the settings of an issuer accept, and what they refuse, is the
// same over every edge, and services are told the very subject.
func TestWhomTokensName(t *testing.T) {
	g := startWithIssuers(t, nil, map[string]*configv1.Claims{
		"default": nil,
		"wide":    {SubjectSpaces: true, SubjectMaxBytes: 1024},
		"spaces":  {SubjectSpaces: true},
		"client":  {Audience: "client_id"},
		"nested":  {Audience: "app.ids"},
		"prefix":  {SubjectSpaces: true, SubjectMaxBytes: 1024, SubjectPrefix: "gh/"},
	})
	const refused = "Unauthenticated"
	const ldap, github = "cn=Ada Lovelace,ou=people,dc=example", "repo:octo/x:environment:My Env"
	of := func(sub any) jwt.MapClaims { return jwt.MapClaims{"aud": "sluice", "sub": sub} }
	for name, tc := range map[string]struct {
		issuer string
		claims jwt.MapClaims
		want   string
	}{
		"LDAP":                        {"wide", of(ldap), ldap},
		"GitHub":                      {"wide", of(github), github},
		"two spaces":                  {"wide", of("a  b"), "a  b"},
		"1,024 bytes":                 {"wide", of(strings.Repeat("a b", 341) + "c"), strings.Repeat("a b", 341) + "c"},
		"1,024 bytes of 512 letters":  {"wide", of(strings.Repeat("é", 512)), strings.Repeat("é", 512)},
		"1,025 bytes":                 {"wide", of(strings.Repeat("a", 1025)), refused},
		"1,025 bytes with its prefix": {"prefix", of(strings.Repeat("a", 1022)), refused},
		"1,024 bytes with its prefix": {"prefix", of(strings.Repeat("a", 1021)), "gh/" + strings.Repeat("a", 1021)},
		"a prefix before a space":     {"prefix", of(" ada"), refused},
		"255 letters by default":      {"default", of(strings.Repeat("é", 255)), strings.Repeat("é", 255)},
		"256 by default":              {"default", of(strings.Repeat("a", 256)), refused},
		"256 with spaces alone":       {"spaces", of(strings.Repeat("a", 256)), refused},
		"a space by default":          {"default", of(ldap), refused},
		"a space before":              {"wide", of(" ada"), refused},
		"a space behind":              {"wide", of("ada "), refused},
		"spaces alone":                {"wide", of("  "), refused},
		"no-break space behind":       {"wide", of("ada\u00a0"), refused},
		"a line feed":                 {"wide", of("ada\nX-User-ID: eve"), refused},
		"a carriage return":           {"wide", of("ada\reve"), refused},
		"a tab":                       {"wide", of("ada\teve"), refused},
		"NUL":                         {"wide", of("ada\x00eve"), refused},
		"DEL":                         {"wide", of("ada\x7f"), refused},
		"next line":                   {"wide", of("ada\u0085eve"), refused},
		"line separator":              {"wide", of("ada\u2028eve"), refused},
		"paragraph separator":         {"wide", of("ada\u2029eve"), refused},
		"no subject":                  {"wide", jwt.MapClaims{"aud": "sluice"}, refused},

		"client_id":                      {"client", jwt.MapClaims{"client_id": "sluice", "sub": "ada"}, "ada"},
		"client_id and aud":              {"client", jwt.MapClaims{"client_id": "sluice", "aud": "sluice", "sub": "ada"}, "ada"},
		"client_id, aud of another":      {"client", jwt.MapClaims{"client_id": "sluice", "aud": "other", "sub": "ada"}, refused},
		"client_id, aud of nobody":       {"client", jwt.MapClaims{"client_id": "sluice", "aud": []string{}, "sub": "ada"}, refused},
		"client_id of another":           {"client", jwt.MapClaims{"client_id": "other", "sub": "ada"}, refused},
		"aud in the place of client_id":  {"client", jwt.MapClaims{"aud": "sluice", "sub": "ada"}, refused},
		"no audience at all":             {"client", jwt.MapClaims{"sub": "ada"}, refused},
		"client_id null":                 {"client", jwt.MapClaims{"client_id": nil, "sub": "ada"}, refused},
		"client_id empty":                {"client", jwt.MapClaims{"client_id": "", "sub": "ada"}, refused},
		"client_id a number":             {"client", jwt.MapClaims{"client_id": 7, "sub": "ada"}, refused},
		"client_id in another case":      {"client", jwt.MapClaims{"Client_Id": "sluice", "sub": "ada"}, refused},
		"a list below another name":      {"nested", jwt.MapClaims{"app": map[string]any{"ids": []string{"x", "sluice"}}, "sub": "ada"}, "ada"},
		"a list without us":              {"nested", jwt.MapClaims{"app": map[string]any{"ids": []string{"x"}}, "sub": "ada"}, refused},
		"no object where there must be":  {"nested", jwt.MapClaims{"app": "sluice", "sub": "ada"}, refused},
		"client_id for who wants an aud": {"default", jwt.MapClaims{"client_id": "sluice", "sub": "ada"}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			for edge, got := range asked(t, g, signed(t, tc.issuer, tc.claims)) {
				if got != tc.want {
					t.Errorf("over %s: %.200q, want %.200q", edge, got, tc.want)
				}
			}
		})
	}
	// A subject with spaces owns what is its, and nothing that looks alike.
	token := signed(t, "wide", of(ldap))
	for path, want := range map[string]int{
		url.PathEscape(ldap): 200, url.PathEscape(ldap + " "): 403, "cn=Ada+Lovelace,ou=people,dc=example": 403, url.PathEscape(strings.ReplaceAll(ldap, " ", "")): 403,
	} {
		if code, body := fetch(t, g, "/plain/of/"+path, token); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

// TestLongTokens: a token that the setting accepts passes both edges and reaches services,
// whose assertion holds all that it says.
func TestLongTokens(t *testing.T) {
	g := startWithIssuers(t, func(c *configv1.Config) { c.Auth.MaxTokenBytes = 48 << 10 }, map[string]*configv1.Claims{"default": nil})
	scopes := func(bytes int) string { // All differ, so that none is left out.
		text := "admin"
		for i := 0; len(text) < bytes; i++ {
			text += fmt.Sprintf(" %d.scope.&<>.of.some.more.bytes", i)
		}
		return text
	}
	for name, tc := range map[string]struct {
		bytes int
		ok    bool
	}{"small": {100, true}, "as by default": {7 << 10, true}, "long": {22 << 10, true}, "too long": {27 << 10, false}} {
		t.Run(name, func(t *testing.T) {
			token := signed(t, "default", jwt.MapClaims{"aud": "sluice", "sub": "ada", "scope": scopes(tc.bytes)})
			if (len(token) <= 48<<10) != tc.ok {
				t.Fatalf("a token of %d bytes", len(token))
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
			_, err := userv1.NewUserServiceClient(g.Conn).GetUser(ctx, &userv1.GetUserRequest{UserId: "ada"})
			rest, body := fetch(t, g, "/v1/users/ada", token)
			plain, plainBody := fetch(t, g, "/plain/who", token)
			if tc.ok && (err != nil || rest != 200 || plain != 200) {
				t.Errorf("%v, %d %.300s, %d %.300s", err, rest, body, plain, plainBody)
			}
			if !tc.ok && (status.Code(err) != codes.Unauthenticated || rest != 401 || plain != 401) {
				t.Errorf("%v, %d %.300s, %d", err, rest, body, plain)
			}
		})
	}
}
