package admin_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/portal/portaltest"
)

// The page shows all of the state, as text, and its buttons do what they say.
func TestPageInBrowser(t *testing.T) {
	o := &operator{}
	server := httptest.NewServer(admin.New(admin.Options{Addr: "127.0.0.1:0", State: shown, Actions: o.actions(), Routes: func() []admin.Route {
		return []admin.Route{{Verb: "POST", Template: "/v1/orders/{order_id}:cancel", Method: "shop.order.v1.OrderService/CancelOrder", Require: "scopes orders.write", Target: "etcd:///orders"},
			{Verb: "GET", Template: "/v1/users/{user_id}", Method: "shop.user.v1.UserService/GetUser", Require: "scopes users.read", Target: "etcd:///users"}}
	}}))
	t.Cleanup(server.Close)
	page := portaltest.DriveAdmin(t, server.URL, true, "")
	if !strings.HasSuffix(page.URL, "/ui/") {
		t.Errorf("the page is at %s", page.URL)
	}
	for _, want := range []string{"ready", "v0, up 90 s", "abc123", "line 3: unknown key <b>bold</b>", "http.addr", "shop.user.v1.UserService", "4 of 100", "open", "30 of 40 failed",
		"10.0.0.1:9090", "ejected", "7 answers, 1.0 of 64 MiB", "id-7", "503", "/v1/orders/{order_id}:cancel", "scopes users.read"} {
		if !strings.Contains(page.Text, want) {
			t.Errorf("the page does not show %q:\n%s", want, page.Text)
		}
	}
	if page.Bold != 0 || len(page.Errors) > 0 || len(page.External) > 0 || page.Trouble != "" || page.Filtered != 1 {
		t.Errorf("bold %d, errors %q, external %q, trouble %q, filtered %d", page.Bold, page.Errors, page.External, page.Trouble, page.Filtered)
	}
	if want := "level debug; breaker shop.user.v1.UserService//read open; reload"; o.all() != want {
		t.Errorf("done %q, want %q", o.all(), want)
	}
}
