package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"

	"github.com/sluice-gateway/sluice/gateway/portal/portaltest"
)

// TestDemo is the first five minutes: start it, ask for a token, make the same
// call over REST and with grpcurl.
func TestDemo(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{defaults: true})
	o := sameOverview(t, g, g.token(t))
	if o.GetUser().GetEmail() != "ada@example.com" || o.GetProfile().GetLocation() != "London" || len(o.GetRecentOrders()) != 10 || len(o.GetPartial()) != 0 {
		t.Errorf("overview of ada: %v", o)
	}

	listed, _, code := g.grpcurl(t, "", "list")
	for _, service := range []string{"shop.bff.v1.BffService", "shop.user.v1.UserService", "shop.order.v1.OrderService", "shop.profile.v1.ProfileService", "grpc.health.v1.Health"} {
		if !slices.Contains(strings.Fields(listed), service) {
			t.Errorf("grpcurl list (%d): no %s in %q", code, service, listed)
		}
	}
	if out, _, code := g.grpcurl(t, "", "grpc.health.v1.Health/Check"); code != 0 || !strings.Contains(out, "SERVING") {
		t.Errorf("health: %d %s", code, out)
	}
}

// TestDemoRefuses: both edges refuse the same callers.
func TestDemoRefuses(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{defaults: true})
	for _, c := range []struct {
		name, token, user string
		status            int
		code              codes.Code
	}{
		{"nobody", "", "ada", 401, codes.Unauthenticated},
		{"another gateway's token", newIssuer(t).mint(t, "ada", all), "ada", 401, codes.Unauthenticated},
		{"another user", g.token(t), "grace", 403, codes.PermissionDenied},
		{"a name that cannot be", g.token(t), "ADA", 403, codes.PermissionDenied},
	} {
		if a := g.rest(t, "GET", "/v1/users/"+c.user+"/overview", c.token, ""); a.status != c.status || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: REST %d %s", c.name, a.status, a.body)
		}
		_, complaint, code := g.grpcurl(t, c.token, "-d", `{"user_id":"`+c.user+`"}`, "shop.bff.v1.BffService/GetUserOverview")
		if code != 64+int(c.code) {
			t.Errorf("%s: grpcurl %d, want %d: %s", c.name, code, 64+int(c.code), complaint)
		}
	}
}

// sameOverview gets ada's overview over REST and with grpcurl, and compares them:
// as the message that both are JSON of, and by the names that both use.
func sameOverview(t *testing.T, g *gateway, token string) *bffv1.UserOverview {
	t.Helper()
	a := g.rest(t, "GET", "/v1/users/ada/overview", token, "")
	var overREST map[string]json.RawMessage
	a.want(t, 200, &overREST)
	out, complaint, code := g.grpcurl(t, token, "-d", `{"user_id":"ada"}`, "shop.bff.v1.BffService/GetUserOverview")
	if code != 0 {
		t.Fatalf("grpcurl: %d %s", code, complaint)
	}
	var overGRPC map[string]json.RawMessage
	if err := json.Unmarshal([]byte(out), &overGRPC); err != nil {
		t.Fatal(err)
	}
	var one, other bffv1.UserOverview
	if err := protojson.Unmarshal(a.body, &one); err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal([]byte(out), &other); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(&one, &other) {
		t.Errorf("REST:\n%s\ngrpcurl:\n%s", a.body, out)
	}
	for name := range overGRPC { // grpcurl leaves empty lists out.
		if overREST[name] == nil {
			t.Errorf("grpcurl shows %s, REST does not", name)
		}
	}
	return &one
}

// TestDocsInABrowser: the page of the real gateway calls the real gateway.
func TestDocsInABrowser(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{defaults: true})
	for _, c := range []struct {
		name   string
		call   portaltest.Call
		status int
		shows  string
	}{
		{"with a token", portaltest.Call{Path: "/v1/users/{user_id}", Params: map[string]string{"user_id": "ada"}, Token: g.token(t)}, 200, "Ada Lovelace"},
		{"without", portaltest.Call{Path: "/v1/users/{user_id}", Params: map[string]string{"user_id": "ada"}}, 401, "UNAUTHENTICATED"},
	} {
		got := portaltest.Drive(t, g.url, c.call)
		if got.Status != c.status || !strings.Contains(got.Body, c.shows) || !strings.Contains(got.Shown, c.shows) {
			t.Errorf("%s: %d %s, shown as %s", c.name, got.Status, got.Body, got.Shown)
		}
		if len(got.Operations) != 17 {
			t.Errorf("%s: %d operations, want 17", c.name, len(got.Operations))
		}
		if errors := slices.DeleteFunc(got.Errors, func(e string) bool { return c.status != 200 && strings.Contains(e, "401") }); len(got.Failed)+len(got.External)+len(errors) > 0 {
			t.Errorf("%s: failed %v, external %v, console %v", c.name, got.Failed, got.External, errors)
		}
	}
}
