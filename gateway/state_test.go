package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway"
	adminapi "github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/portal/portaltest"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// operate is an operator's request to the admin listener.
func operate(t *testing.T, g *gatewaytest.Gateway, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.AdminURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

func stateOf(t *testing.T, g *gatewaytest.Gateway) adminapi.State {
	t.Helper()
	_, raw := operate(t, g, http.MethodGet, "/state", "")
	var s adminapi.State
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return s
}

func serviceOf(t *testing.T, s adminapi.State, name, variant string) adminapi.ServiceState {
	t.Helper()
	for _, svc := range s.Services {
		if svc.Name == name && svc.Variant == variant {
			return svc
		}
	}
	t.Fatalf("no service %s, variant %q in %+v", name, variant, s.Services)
	return adminapi.ServiceState{}
}

// What operators see is what happens, and what they set is what happens next.
func TestOperators(t *testing.T) {
	const users, orders = "shop.user.v1.UserService", "shop.order.v1.OrderService"
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Upstreams = map[string]*configv1.Upstream{orders: {
			Endpoints: []*configv1.Endpoint{{Address: "127.0.0.1:1", Weight: 1}},
			Canaries:  []*configv1.Canary{{Name: "v2", Target: "127.0.0.1:1", Percent: 1}},
		}}
	}, gateway.WithServices(shop.Services()...))
	token := "Bearer " + g.Token(t, "ada", "users.read orders.read")
	get := func(path string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", token)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if a, b := get("/v1/users/ada"), get("/v1/users/ada/orders"); a != 200 || b != 503 {
		t.Fatalf("user %d, orders %d", a, b)
	}

	s := stateOf(t, g)
	if s.NotReady != "" || s.Version == "" || s.LogLevel != "info" || s.Config.Digest == "" || s.Cache == nil || time.Since(s.Started) > time.Hour {
		t.Errorf("state %+v", s)
	}
	if u := serviceOf(t, s, users, ""); len(u.Breakers) == 0 || u.Breakers[0].State != "closed" || u.Limit == 0 {
		t.Errorf("users: %+v", u)
	}
	if o := serviceOf(t, s, orders, ""); len(o.Backends) != 1 || o.Backends[0].Addr != "127.0.0.1:1" || o.Backends[0].LastError == "" {
		t.Errorf("orders: %+v", o)
	}
	serviceOf(t, s, orders, "v2")
	if len(s.Errors) == 0 || s.Errors[0].Code != "503" || s.Errors[0].Route != "/v1/users/{user_id}/orders" || s.Errors[0].RequestID == "" {
		t.Errorf("errors %+v", s.Errors)
	}

	if code, text := operate(t, g, http.MethodPut, "/breakers", `{"service":"`+users+`","class":"read","state":"open"}`); code != 200 {
		t.Fatal(code, text)
	}
	if code := get("/v1/users/ada"); code != 503 {
		t.Errorf("with its breaker held open: %d", code)
	}
	if u := serviceOf(t, stateOf(t, g), users, ""); !u.Breakers[0].Forced && !u.Breakers[len(u.Breakers)-1].Forced {
		t.Errorf("no breaker is held: %+v", u)
	}
	if code, text := operate(t, g, http.MethodPut, "/breakers", `{"service":"`+users+`","class":"read","state":"auto"}`); code != 200 {
		t.Fatal(code, text)
	}
	if code := get("/v1/users/ada"); code != 200 {
		t.Errorf("with its breaker let go: %d", code)
	}
	for _, bad := range []string{`{"service":"nobody","class":"read","state":"open"}`, `{"service":"` + users + `","class":"read","state":"ajar"}`, `{"service":"` + users + `","class":"nope","state":"open"}`} {
		if code, _ := operate(t, g, http.MethodPut, "/breakers", bad); code != 400 {
			t.Errorf("%s: %d", bad, code)
		}
	}

	if code, text := operate(t, g, http.MethodPut, "/log/level", `{"level":"debug"}`); code != 200 || stateOf(t, g).LogLevel != "debug" {
		t.Error(code, text, stateOf(t, g).LogLevel)
	}
	if code, text := operate(t, g, http.MethodPut, "/log/level", `{"level":"loud"}`); code != 400 {
		t.Error(code, text)
	}
	get("/v1/users/ada/profile") // Kept.
	if code, text := operate(t, g, http.MethodPost, "/cache/purge", `{}`); code != 200 || !strings.Contains(text, `"purged": 1`) {
		t.Error(code, text)
	}
	if code, text := operate(t, g, http.MethodPost, "/cache/purge", `{"tag":"a","method":"b"}`); code != 400 {
		t.Error(code, text)
	}
}

// The page shows a whole gateway in a browser.
func TestAdminPage(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, func(c *configv1.Config) { c.Defaults.Deadline = durationpb.New(3 * time.Second) }, gateway.WithServices(shop.Services()...))
	page := portaltest.DriveAdmin(t, g.AdminURL, false, "")
	for _, want := range []string{"ready", "shop.user.v1.UserService", "shop.bff.v1.BffService/GetUserOverview", "/v1/orders/{order_id}:cancel", "Response cache"} {
		if !strings.Contains(page.Text, want) {
			t.Errorf("the page does not show %q:\n%s", want, page.Text)
		}
	}
	if len(page.Errors) > 0 || len(page.External) > 0 || page.Trouble != "" || page.Filtered != 1 {
		t.Errorf("errors %q, external %q, trouble %q, filtered %d", page.Errors, page.External, page.Trouble, page.Filtered)
	}
}
