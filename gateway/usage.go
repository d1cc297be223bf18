package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
)

const (
	// usageTimeout bounds what a scrape of metrics waits for the ledger.
	usageTimeout = 2 * time.Second
	// usageKeys bounds the API keys of one quota that metrics tell of. Only keys
	// that were good once in the period are in the ledger.
	usageKeys = 1000
)

// quotaUsage tells operators what is used of quotas. It is a
// prometheus.Collector of those that count API keys, which are few; subjects are
// not, and stay out of metrics.
type quotaUsage struct {
	ledger *ledger.Ledger
	names  map[string]string // of all quotas, by their accounts
	keyed  []keyedQuota
	used   *prometheus.Desc
	log    *slog.Logger
}

// keyedQuota is one that counts API keys.
type keyedQuota struct {
	name, account string
	period        limit.Period
}

func newQuotaUsage(l *ledger.Ledger, classes []limit.Class, log *slog.Logger) *quotaUsage {
	u := &quotaUsage{ledger: l, names: map[string]string{}, log: log, used: prometheus.NewDesc("sluice_quota_used",
		"Tokens of a quota that an API key has used in the present day or month.", []string{"limit", "api_key"}, nil)}
	for _, class := range classes {
		for _, q := range class.Quotas {
			u.names[q.Account(class.Name)] = q.Name(class.Name)
			if q.Per == limit.PerAPIKey {
				u.keyed = append(u.keyed, keyedQuota{q.Name(class.Name), q.Account(class.Name), q.Period})
			}
		}
	}
	return u
}

// top is admin.Options.Usage.
func (u *quotaUsage) top(ctx context.Context, most int) ([]admin.QuotaUsage, error) {
	top, err := u.ledger.Usage(ctx, most)
	var out []admin.QuotaUsage
	for _, q := range top {
		name, ok := u.names[q.Limit]
		if !ok { // Of a configuration before this one.
			name = q.Limit
		}
		out = append(out, admin.QuotaUsage{Limit: name, Who: q.Who, Period: q.Period, Used: q.Used, Size: q.Size})
	}
	return out, err
}

// Describe implements prometheus.Collector.
func (u *quotaUsage) Describe(to chan<- *prometheus.Desc) { to <- u.used }

// Collect implements prometheus.Collector. A ledger that cannot be read leaves
// its metric out, not all others.
func (u *quotaUsage) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	for _, q := range u.keyed {
		list, err := u.ledger.UsageOf(ctx, q.account, q.period, usageKeys)
		if err != nil {
			u.log.Warn("the usage of a quota cannot be read", "limit", q.name, "error", err)
			continue
		}
		for _, k := range list {
			to <- prometheus.MustNewConstMetric(u.used, prometheus.GaugeValue, float64(k.Used), q.name, k.Who)
		}
	}
}
