package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// TestUsageInRedis: what API keys use of a quota in Redis stands at the admin
// listener and in metrics, also what another gateway counted; a Redis that is
// gone takes its metric away, and nothing else.
func TestUsageInRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	key, stored, err := auth.NewAPIKey(auth.APIKey{ID: "ci", Owner: "ada", Scopes: []string{"users.read"}, LimitClass: "batch"})
	if err != nil {
		t.Fatal(err)
	}
	edit := func(c *configv1.Config) {
		c.Auth.ApiKeys = &configv1.ApiKeys{Header: "X-API-Key", Keys: []*configv1.ApiKey{
			{Id: stored.ID, Hash: stored.Hash, Owner: stored.Owner, Scopes: stored.Scopes, LimitClass: stored.LimitClass},
			{Id: "unused", Hash: "sha256:" + strings.Repeat("0", 64), Owner: "ada"},
		}}
		c.Limits.Classes["batch"] = &configv1.LimitClass{Quotas: []*configv1.Quota{{Per: "api_key", Requests: 1000, Period: "month"}}}
		c.Limits.Redis = &configv1.RedisStore{Url: server.URL(), Timeout: seconds(1), Fallback: "closed"}
	}
	one := gatewaytest.Start(t, edit, gateway.WithServices(shop.Services()...))
	other := gatewaytest.Start(t, edit, gateway.WithServices(shop.Services()...))
	for _, g := range []*gatewaytest.Gateway{one, other} {
		eventually(t, "Redis answers", func() bool { return strings.Contains(page(t, g.AdminURL+"/metrics"), "sluice_limit_redis_up 1") })
		res, body := do(t, g, g.Token(t, "ada", "users.read"), exchange{method: "GET", path: "/v1/users/ada", header: h("X-API-Key", key)})
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.StatusCode, body)
		}
	}
	const series = `sluice_quota_used{api_key="ci",limit="batch-api_key-month"} 2`
	if got := page(t, one.AdminURL+"/metrics"); !strings.Contains(got, series) || strings.Contains(got, `api_key="unused",limit`) {
		t.Errorf("no %s in the metrics", series)
	}
	got := strings.Join(strings.Fields(page(t, one.AdminURL+"/limits")), "")
	if want := `{"quotas":[{"limit":"batch-api_key-month","who":"ci","period":"month","used":2,"size":1000}]}`; got != want {
		t.Errorf("/limits: %s, want %s", got, want)
	}
	server.Kill(t)
	if got := page(t, one.AdminURL+"/metrics"); strings.Contains(got, "sluice_quota_used{") || !strings.Contains(got, "sluice_requests_total") {
		t.Error("metrics without Redis")
	}
}

func page(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
