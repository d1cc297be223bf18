package gateway_test

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// explainable are the shop's services and the test service.
func explainable() gateway.Option {
	services := shop.Services()
	for i := range services {
		services[i].Composite = services[i].Descriptor.FullName() == "shop.bff.v1.BffService"
	}
	return gateway.WithServices(append(services, gatewaytest.TestService(nil))...)
}

// untouched is a configuration whose directories are not there, and must not
// be afterwards.
func untouched(t *testing.T) *configv1.Config {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	cfg, err := config.Load("", func(name string) string { return map[string]string{"SLUICE_DATA_DIR": dir}[name] })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the data directory was touched: %v", err)
		}
	})
	return cfg
}

func as(subject, tenant string, scopes ...string) *policy.Principal {
	p := policy.NewPrincipal(subject, "explain", scopes, time.Time{})
	p.Tenant = tenant
	return p
}

const things = "sluice.test.v1.TestService/ListTenantThings"

var explained = []struct {
	name string
	req  gateway.ExplainRequest
}{
	{"allowed", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada", Assume: as("ada", "", "users.read")}},
	{"public", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada/profile", From: netip.MustParseAddr("2001:db8::7")}},
	{"wrong scope", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada", Assume: as("ada", "", "orders.read")}},
	{"wrong owner", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada", Assume: as("grace", "", "users.read")}},
	{"no token", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada"}},
	{"bad token", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada", Token: "not.a.token"}},
	{"unknown path", gateway.ExplainRequest{Method: "GET", Target: "/v1/nothing"}},
	{"refused path", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/a%2fb"}},
	{"wrong method", gateway.ExplainRequest{Method: "DELETE", Target: "/v1/users/ada/profile", Assume: as("ada", "", "admin")}},
	{"bad query parameter", gateway.ExplainRequest{Method: "GET", Target: "/v1/users?page_size=many&nope=1", Assume: as("root", "", "admin")}},
	{"bad body", gateway.ExplainRequest{Method: "PATCH", Target: "/v1/users/ada", Data: `{"nope":1}`, Assume: as("ada", "", "users.write")}},
	{"body", gateway.ExplainRequest{Method: "PATCH", Target: "/v1/users/ada", Data: `{"displayName":"Ada L."}`, Assume: as("ada", "", "users.write")}},
	{"created", gateway.ExplainRequest{Method: "POST", Target: "/v1/users", Data: `{"userId":"new","email":"n@example.com","displayName":"N"}`, Assume: as("root", "", "admin")}},
	{"options", gateway.ExplainRequest{Method: "OPTIONS", Target: "/v1/users/ada"}},
	{"stream", gateway.ExplainRequest{Method: "GET", Target: "/v1/orders/o1:watch", Assume: as("ada", "", "orders.read")}},
	{"composite", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada/overview", Assume: as("ada", "", "users.read", "orders.read")}},
	{"composite, wrong scope", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada/overview", Assume: as("ada", "", "users.read")}},
	{"page", gateway.ExplainRequest{Method: "GET", Target: "/docs"}},
	{"not HTTP", gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada", Header: []gateway.Header{{Name: "Host", Value: "a b"}}}},
	{"condition", gateway.ExplainRequest{Method: "GET", Target: "/test/v1/tenants/acme/things?page_size=100", Assume: as("ada", "acme", "test.read")}},
	{"failed condition", gateway.ExplainRequest{Method: "GET", Target: "/test/v1/tenants/acme/things?page_size=101", Assume: as("ada", "acme", "test.read")}},
	{"wrong tenant", gateway.ExplainRequest{Method: "GET", Target: "/test/v1/tenants/acme/things", Assume: as("ada", "umbrella", "admin")}},
	{"gRPC", gateway.ExplainRequest{RPC: "shop.user.v1.UserService/GetUser", Data: `{"user_id":"ada"}`, Assume: as("ada", "", "users.read")}},
	{"gRPC, failed condition", gateway.ExplainRequest{RPC: things, Data: `{"tenantId":"acme","pageSize":101}`, Assume: as("ada", "acme", "test.read")}},
	{"gRPC, no such method", gateway.ExplainRequest{RPC: "shop.user.v1.UserService/Nope"}},
	{"gRPC, stream of the caller's", gateway.ExplainRequest{RPC: "sluice.test.v1.TestService/Up", Data: `{"id":"e1"}`, Assume: as("ada", "")}},
	{"gRPC, no token", gateway.ExplainRequest{RPC: "shop.bff.v1.BffService/GetUserOverview", Data: `{"userId":"ada"}`}},
}

// What operators read, of every way a request can go.
func TestExplainText(t *testing.T) {
	var out strings.Builder
	for _, tc := range explained {
		e, err := gateway.Explain(t.Context(), untouched(t), tc.req, explainable(), gateway.WithDocs("Docs", []byte(`{}`)))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		out.WriteString("# " + tc.name + "\n")
		if err := e.WriteText(&out); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	golden(t, "explain.golden", out.String())
}

// What is explained is what is served: the same answer, whichever way.
func TestExplainAgreesWithServing(t *testing.T) {
	g := gatewaytest.Start(t, nil, explainable())
	for _, tc := range []struct{ verb, target, subject, scopes string }{
		{"GET", "/v1/users/ada", "", ""},
		{"GET", "/v1/users/ada", "ada", "orders.read"},
		{"GET", "/v1/users/ada", "grace", "users.read"},
		{"GET", "/v1/users/ada", "ada", "users.read"},
		{"GET", "/v1/users/ada/overview", "ada", "users.read"},
		{"DELETE", "/v1/users/ada/profile", "ada", "admin"},
		{"GET", "/v1/users/a%2fb", "ada", "users.read"},
		{"GET", "/v1/users?nope=1", "root", "admin"},
		{"GET", "/v1/nothing", "ada", "users.read"},
	} {
		req := gateway.ExplainRequest{Method: tc.verb, Target: tc.target, Demo: true}
		header := http.Header{"X-Request-Id": {"explain"}}
		if tc.subject != "" {
			req.Token = g.Token(t, tc.subject, tc.scopes)
			header.Set("Authorization", "Bearer "+req.Token)
		}
		e, err := gateway.Explain(t.Context(), g.Config, req, explainable())
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), tc.verb, g.URL+tc.target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if e.Answer.Status != res.Status || e.Answer.Refused != (res.StatusCode != http.StatusOK) {
			t.Errorf("%s %s as %q: explained %+v, served %s", tc.verb, tc.target, tc.subject, e.Answer, res.Status)
		}
		if e.Answer.Refused && e.Answer.Body != string(body) {
			t.Errorf("%s %s as %q: explained %s\nserved %s", tc.verb, tc.target, tc.subject, e.Answer.Body, body)
		}
	}
}

func TestExplainTakesAPIKeys(t *testing.T) {
	key, stored, err := auth.NewAPIKey(auth.APIKey{ID: "robot-1", Owner: "ada", Scopes: []string{"users.read"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := untouched(t)
	cfg.Auth.ApiKeys = &configv1.ApiKeys{Keys: []*configv1.ApiKey{{Id: stored.ID, Hash: stored.Hash, Owner: "ada", Scopes: []string{"users.read"}}}}
	e, err := gateway.Explain(t.Context(), cfg, gateway.ExplainRequest{Method: "GET", Target: "/v1/users/ada", APIKey: key}, explainable())
	if err != nil {
		t.Fatal(err)
	}
	if e.Answer.Refused || e.Call.Principal.APIKey != "robot-1" || e.Call.Principal.Assumed {
		t.Errorf("%+v, principal %+v", e.Answer, e.Call.Principal)
	}
}

func TestExplainRefuses(t *testing.T) {
	ada := as("ada", "", "users.read")
	for name, tc := range map[string]struct {
		req  gateway.ExplainRequest
		want string
	}{
		"a path with a space":    {gateway.ExplainRequest{Method: "GET", Target: "/a b"}, "no request line"},
		"a second request":       {gateway.ExplainRequest{Method: "GET", Target: "/a\r\nX: y"}, "no request line"},
		"no path":                {gateway.ExplainRequest{Method: "GET"}, "no request line"},
		"a second header line":   {gateway.ExplainRequest{Method: "GET", Target: "/", Header: []gateway.Header{{Name: "A", Value: "b\r\nC: d"}}}, "no header line"},
		"a header without name":  {gateway.ExplainRequest{Method: "GET", Target: "/", Header: []gateway.Header{{Value: "b"}}}, "no header line"},
		"assumed and verified":   {gateway.ExplainRequest{Method: "GET", Target: "/", Assume: ada, Token: "x"}, "either assumed"},
		"data that is no JSON":   {gateway.ExplainRequest{RPC: "shop.user.v1.UserService/GetUser", Data: "{", Assume: ada}, "no shop.user.v1.GetUserRequest"},
		"data of another method": {gateway.ExplainRequest{RPC: "shop.user.v1.UserService/GetUser", Data: `{"orderId":"o1"}`, Assume: ada}, "no shop.user.v1.GetUserRequest"},
	} {
		if e, err := gateway.Explain(t.Context(), untouched(t), tc.req, explainable()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, e, err, tc.want)
		}
	}
}

// Listing the routes needs neither issuers nor services, and says all of a rule.
func TestRoutesOf(t *testing.T) {
	cfg := untouched(t)
	cfg.Upstreams = map[string]*configv1.Upstream{"shop.user.v1.UserService": {Target: "users.invalid:9090"}}
	cfg.Databases["order"] = &configv1.Database{Dsn: "postgres://nobody@127.0.0.1:1/none"}
	cfg.Auth.Issuers = []*configv1.Issuer{{Issuer: "https://login.invalid", Audiences: []string{"a"}, Keys: &configv1.Issuer_PublicKeys{
		PublicKeys: &configv1.PublicKeys{Files: []string{"not-there.pem"}}}}}
	all, err := gateway.RoutesOf(cfg, explainable())
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	at := map[string]int{}
	for i, r := range all {
		count[r.Method]++
		at[r.Method] = i
	}
	if r := all[at[things]]; count[things] != 1 || r.Require != "test.read|test.audit" || r.Tenant != "tenant_id" || len(r.Conditions) != 1 ||
		r.Conditions[0].ID != "small-pages" || r.Target != "inprocess" || r.LimitClass != "read" {
		t.Errorf("%+v", r)
	}
	if r := all[at["shop.user.v1.UserService/GetUser"]]; r.Target != "users.invalid:9090" || r.Owner != "user_id" {
		t.Errorf("%+v", r)
	}
	if n := count["sluice.test.v1.TestService/Echo"]; n != 3 {
		t.Errorf("Echo has %d routes", n)
	}
	cfg.Upstreams["x.Y"] = &configv1.Upstream{Target: "y:1"}
	if _, err := gateway.RoutesOf(cfg, explainable()); err == nil || !strings.Contains(err.Error(), `unknown service "x.Y"`) {
		t.Errorf("a configuration that does not start: %v", err)
	}
}
