package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/admin"
)

func TestUsageOfQuotas(t *testing.T) {
	all := []admin.QuotaUsage{
		{Limit: "batch-api_key-day", Who: "ci<2026>", Period: "day", Used: 900, Size: 1000},
		{Limit: "read-principal-month", Who: "ada", Period: "month", Used: 5, Size: 100},
	}
	asked := 0
	var failure error
	h := admin.New(admin.Options{Usage: func(_ context.Context, max int) ([]admin.QuotaUsage, error) {
		asked = max
		return all[:min(max, len(all))], failure
	}})
	for target, want := range map[string]struct {
		max  int
		list []admin.QuotaUsage
	}{
		"/limits":           {100, all},
		"/limits?max=1":     {1, all[:1]},
		"/limits?max=10000": {10000, all},
	} {
		res, body := do(t, h, "GET", target)
		var got struct{ Quotas []admin.QuotaUsage }
		if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v %s", target, res.StatusCode, err, body)
		}
		if asked != want.max || !reflect.DeepEqual(got.Quotas, want.list) {
			t.Errorf("%s: asked for %d, answered %s", target, asked, body)
		}
	}
	if _, body := do(t, h, "GET", "/limits"); !strings.Contains(body, `"who": "ci<2026>"`) {
		t.Errorf("a name is not as it is: %s", body)
	}
	for _, bad := range []string{"0", "-1", "10001", "x", "1e3", "99999999999999999999"} {
		if res, body := do(t, h, "GET", "/limits?max="+bad); res.StatusCode != 400 || !strings.Contains(body, "1 to 10000") {
			t.Errorf("max=%s: %d %s", bad, res.StatusCode, body)
		}
	}
	if _, body := do(t, h, "GET", "/"); !strings.Contains(body, "/limits") {
		t.Errorf("not in the index: %s", body)
	}
	if res, _ := do(t, h, "POST", "/limits"); res.StatusCode != 405 {
		t.Errorf("POST: %d", res.StatusCode)
	}
	failure = errors.New("the disk is gone")
	if res, body := do(t, h, "GET", "/limits"); res.StatusCode != 500 || !strings.Contains(body, "the disk is gone") {
		t.Errorf("failing: %d %s", res.StatusCode, body)
	}
}

func TestUsageWithoutAny(t *testing.T) {
	none := func(context.Context, int) ([]admin.QuotaUsage, error) { return nil, nil }
	if res, body := do(t, admin.New(admin.Options{Usage: none}), "GET", "/limits"); res.StatusCode != 200 || !strings.Contains(body, `"quotas": []`) {
		t.Errorf("nothing used: %d %s", res.StatusCode, body)
	}
	if res, _ := do(t, admin.New(admin.Options{}), "GET", "/limits"); res.StatusCode != 404 {
		t.Errorf("no quotas: %d", res.StatusCode)
	}
}
