package gateway

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestUsageOfQuotas: operators read limits by the names that answers use; metrics
// tell of API keys alone, and go on without a ledger that cannot be read.
func TestUsageOfQuotas(t *testing.T) {
	l, err := ledger.Open(t.Context(), ledger.Options{File: filepath.Join(t.TempDir(), "quotas.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	classes := []limit.Class{{Name: "batch-jobs", Quotas: []limit.Quota{
		{Per: limit.PerAPIKey, Requests: 50, Period: limit.Month},
		{Per: limit.PerPrincipal, Requests: 40, Period: limit.Day},
	}}}
	limiter, err := limit.New(limit.Options{Classes: classes, Store: limit.NewLocal(limit.NewMemory(limit.MemoryOptions{}), l)})
	if err != nil {
		t.Fatal(err)
	}
	p := policy.NewPrincipal("ada", "test", nil, time.Time{})
	p.APIKey = "ci"
	for range 3 {
		call := &policy.Call{Principal: p, Method: &policy.Method{FullName: "/a.B/C", Rule: policy.Rule{LimitClass: "batch-jobs", LimitCost: 2}}}
		if _, err := limiter.Rates(t.Context(), call); err != nil {
			t.Fatal(err)
		}
	}
	u := newQuotaUsage(classes, slog.New(slog.DiscardHandler)).inLedger(l)
	top, err := u.top(t.Context(), 10)
	if want := "[{batch-jobs-api_key-month ci month 6 50} {batch-jobs-principal-day ada day 6 40}]"; err != nil || fmt.Sprint(top) != want {
		t.Errorf("%v, %v; want %s", top, err, want)
	}
	// A quota that the configuration no longer has is shown as the ledger knows it.
	if top, err := newQuotaUsage(nil, nil).inLedger(l).top(t.Context(), 2); err != nil || len(top) != 2 || top[0].Limit != "batch-jobs/api_key/month" {
		t.Errorf("%v, %v", top, err)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(u)
	series := func() (out []string) {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				one := f.GetName()
				for _, l := range m.GetLabel() {
					one += " " + l.GetName() + "=" + l.GetValue()
				}
				out = append(out, fmt.Sprint(one, " ", m.GetGauge().GetValue()))
			}
		}
		return out
	}
	if got := series(); len(got) != 1 || got[0] != "sluice_quota_used api_key=ci limit=batch-jobs-api_key-month 6" {
		t.Errorf("%q", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := series(); len(got) != 0 {
		t.Errorf("of a ledger that is closed: %q", got)
	}
}
