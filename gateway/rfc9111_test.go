package gateway_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// bothKinds is a gateway with an RPC and a plain HTTP route whose answers are cached as
// rule says, for callers who are known. Both services say who they think asks.
func bothKinds(t *testing.T, rule *policyv1.Cache) (*gatewaytest.Gateway, *plain) {
	t.Helper()
	p := &plain{}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	minute := durationpb.New(time.Minute)
	rule.Ttl = minute
	return gatewaytest.Start(t, func(c *configv1.Config) {
		c.Methods = map[string]*configv1.MethodOverride{"sluice.test.v1.TestService/Echo": {Deadline: minute, Cache: rule}}
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"up": {Target: srv.Listener.Addr().String(), UserIdHeader: true}}
		c.HttpRoutes = []*configv1.HttpRoute{{Name: "kept", Upstream: "up", Require: &policyv1.Require{Authenticated: true}, Deadline: minute, Cache: rule,
			Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/kept"}}}}
	}, gateway.WithServices(gatewaytest.TestService(&counted{}))), p
}

var kindsOfRoutes = map[string]string{"RPC": "/test/v1/echo/x", "plain": "/kept/x"}

// TestFirstCallersNameIsNotGiven: an answer for everybody is nobody's, whoever asked for
// it first and over whichever edge.
func TestFirstCallersNameIsNotGiven(t *testing.T) {
	g, p := bothKinds(t, &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PUBLIC})
	for kind, path := range kindsOfRoutes {
		for i, who := range []string{"lovelace", "hopper", "lovelace"} {
			res, body := do(t, g, g.Token(t, who, ""), exchange{method: "GET", path: path, header: h("X-Request-Id", "of-"+who)})
			if res.StatusCode != http.StatusOK || strings.Contains(body, "lovelace") || strings.Contains(body, "hopper") || (res.Header.Get("Age") != "") != (i > 0) ||
				!strings.HasPrefix(res.Header.Get("Cache-Control"), "private") {
				t.Errorf("%s: %s gets %d %s %v", kind, who, res.StatusCode, body, res.Header)
			}
		}
	}
	for _, who := range []string{"ada", "grace"} {
		out, err := testv1.NewTestServiceClient(g.Conn).Echo(g.As(t, who, ""), &testv1.EchoRequest{Id: "over gRPC"})
		if err != nil || out.GetSubject() != "" {
			t.Errorf("%s gets %v, %v", who, out, err)
		}
	}
	if n := p.calls.Load(); n != 1 {
		t.Errorf("the plain service was asked %d times", n)
	}
}

// TestUnsafeMethodsOverBothKinds: a method that is not safe reaches the service, and what
// was cached for its path is gone, for everybody; a condition on it is never ignored; and
// what a request says of caches changes nothing.
func TestUnsafeMethodsOverBothKinds(t *testing.T) {
	g, p := bothKinds(t, &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL})
	for kind, path := range kindsOfRoutes {
		t.Run(kind, func(t *testing.T) {
			tokens := map[string]string{"ada": g.Token(t, "ada", ""), "grace": g.Token(t, "grace", "")}
			step := func(who, method, path string, h http.Header, code int, cached bool) {
				t.Helper()
				x := exchange{method: method, path: path, header: http.Header{"Accept-Encoding": {"identity"}}} // net/http says gzip, but not with HEAD.
				maps.Copy(x.header, h)
				if method == "POST" {
					x.body = "{}"
				}
				res, body := do(t, g, tokens[who], x)
				if res.StatusCode != code || (res.Header.Get("Age") != "") != cached {
					t.Errorf("%s %s %s %v: %d %v %s; want %d, cached %v", who, method, path, h, res.StatusCode, res.Header, body, code, cached)
				}
			}
			step("ada", "GET", path, nil, 200, false)
			step("grace", "GET", path, nil, 200, false)
			for _, says := range []string{"no-cache", "no-store", "max-age=0", "min-fresh=9999", "only-if-cached", "max-stale"} {
				step("ada", "GET", path, h("Cache-Control", says, "Pragma", "no-cache"), 200, true)
			}
			step("ada", "HEAD", path, nil, 200, true)
			step("ada", "POST", path+"y", nil, 200, false) // Another path.
			step("ada", "GET", path, nil, 200, true)
			step("ada", "POST", path, nil, 200, false)
			step("grace", "GET", path, nil, 200, false)
			step("ada", "GET", path, nil, 200, false)
			step("ada", "GET", path, nil, 200, true)
			if kind == "plain" { // The service decides.
				before := p.calls.Load()
				step("ada", "POST", path, h("If-Match", `"v1"`), 200, false)
				if p.calls.Load() != before+1 {
					t.Error("the write did not reach the service")
				}
				return
			}
			for _, cond := range []http.Header{h("If-Match", `"v1"`), h("If-Match", "*"), h("If-None-Match", "*"), h("If-None-Match", `W/"x"`)} {
				step("ada", "POST", path, cond, http.StatusPreconditionFailed, false)
				step("ada", "PUT", path+":kinds", cond, http.StatusPreconditionFailed, false)
			}
			step("ada", "GET", path, h("If-Match", `"v1"`), http.StatusPreconditionFailed, false)
			step("ada", "GET", path, h("If-Match", "*"), 200, true)
			step("ada", "GET", path, h("If-Unmodified-Since", "Mon, 02 Mar 2020 12:00:00 GMT"), 200, true) // We say no time of change: RFC 9110, 13.1.4.
			step("ada", "GET", path, h("If-Range", `"v1"`, "Range", "bytes=0-1"), 200, true)               // Ranges are not offered: 14.2.
		})
	}
}

// TestWritesRemoveTheirPath: what is cached for the path of a resource is gone when that
// has been changed over either edge, for each caller, and without any tag.
func TestWritesRemoveTheirPath(t *testing.T) {
	minute := durationpb.New(time.Minute)
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		kept := &configv1.MethodOverride{Cache: &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: minute, NegativeTtl: minute}}
		c.Methods = map[string]*configv1.MethodOverride{"shop.user.v1.UserService/GetUser": kept, "shop.user.v1.UserService/ListUsers": kept}
	}, gateway.WithServices(shop.Services()...))
	users := userv1.NewUserServiceClient(g.Conn)
	admin, root := g.Token(t, "root", "admin users.read users.write"), g.As(t, "root", "admin users.read users.write")
	create := func(email string) string {
		t.Helper()
		res, body := do(t, g, admin, exchange{method: "POST", path: "/v1/users", body: fmt.Sprintf(`{"email":%q,"display_name":"n"}`, email)})
		if res.StatusCode != http.StatusCreated {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		return strings.TrimPrefix(res.Header.Get("Location"), "/v1/users/")
	}
	ada, other := create("one@rfc9111.example"), create("other@rfc9111.example")
	path := "/v1/users/" + ada
	hers := g.Token(t, ada, "users.read users.write")
	cached := func(token, path string) bool {
		t.Helper()
		res, body := do(t, g, token, exchange{method: "GET", path: path})
		if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNotFound {
			t.Fatalf("GET %s: %d %s", path, res.StatusCode, body)
		}
		return res.Header.Get("Age") != ""
	}
	for _, write := range []struct {
		name    string
		do      func() error
		removes bool // what is cached of ada, and nothing else
		list    bool // what is cached of the list
	}{
		{"PATCH", func() error {
			res, body := do(t, g, hers, exchange{method: "PATCH", path: path, body: `{"display_name":"Ada"}`})
			return refusedAs(res, body)
		}, true, false},
		{"UpdateUser over gRPC", func() error {
			_, err := users.UpdateUser(root, &userv1.UpdateUserRequest{User: &userv1.User{UserId: ada, DisplayName: "A"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name"}}})
			return err
		}, true, false},
		{"GetUser over gRPC", func() error {
			_, err := users.GetUser(root, &userv1.GetUserRequest{UserId: ada})
			return err
		}, false, false},
		{"POST to the list", func() error {
			create("third@rfc9111.example")
			return nil
		}, false, true},
		{"a PATCH that is refused", func() error {
			res, _ := do(t, g, hers, exchange{method: "PATCH", path: path, body: `{"email":"none"}`})
			if res.StatusCode != http.StatusBadRequest {
				return fmt.Errorf("%d", res.StatusCode)
			}
			return nil
		}, false, false},
		{"DELETE", func() error {
			res, body := do(t, g, admin, exchange{method: "DELETE", path: path})
			return refusedAs(res, body)
		}, true, false},
	} {
		t.Run(write.name, func(t *testing.T) {
			for _, token := range []string{admin, hers} {
				cached(token, path)
			}
			cached(admin, "/v1/users/"+other)
			cached(admin, "/v1/users?page_size=1")
			if err := write.do(); err != nil {
				t.Fatal(err)
			}
			for who, token := range map[string]string{"root": admin, "ada": hers} {
				if got := cached(token, path); got == write.removes {
					t.Errorf("what %s had of it is cached: %v", who, got)
				}
			}
			if !cached(admin, "/v1/users/"+other) {
				t.Error("another's is gone, too")
			}
			if got := cached(admin, "/v1/users?page_size=1"); got == write.list {
				t.Errorf("the list is cached: %v", got)
			}
		})
	}
	if _, err := users.GetUser(root, &userv1.GetUserRequest{UserId: ada}); status.Code(err) != codes.NotFound {
		t.Errorf("after all that: %v", err)
	}
}

func refusedAs(res *http.Response, body string) error {
	if res.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%d %s", res.StatusCode, body)
	}
	return nil
}
