package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
)

const (
	// usageTimeout bounds what a scrape of metrics waits for the store.
	usageTimeout = 2 * time.Second
	// usageKeys bounds the API keys of one quota that metrics tell of. Those
	// beyond are left out.
	usageKeys = 1000
)

// quotaUsage tells operators what is used of quotas. It is a
// prometheus.Collector of those that count API keys, which are few; subjects are
// not, and stay out of metrics.
type quotaUsage struct {
	// all reads those used most, ofKeys those of one quota that counts API keys.
	all    func(ctx context.Context, most int) ([]ledger.Usage, error)
	ofKeys func(ctx context.Context, q keyedQuota) ([]ledger.Usage, error)

	names map[string]string // of all quotas, by their accounts
	keyed []keyedQuota
	used  *prometheus.Desc
	log   *slog.Logger
}

// keyedQuota is one that counts API keys.
type keyedQuota struct {
	name, account string
	period        limit.Period
	size          int64
}

func newQuotaUsage(classes []limit.Class, log *slog.Logger) *quotaUsage {
	u := &quotaUsage{names: map[string]string{}, log: log, used: prometheus.NewDesc("sluice_quota_used",
		"Tokens of a quota that an API key has used in the present day or month.", []string{"limit", "api_key"}, nil)}
	for _, class := range classes {
		for _, q := range class.Quotas {
			u.names[q.Account(class.Name)] = q.Name(class.Name)
			if q.Per == limit.PerAPIKey {
				u.keyed = append(u.keyed, keyedQuota{q.Name(class.Name), q.Account(class.Name), q.Period, q.Requests})
			}
		}
	}
	return u
}

// inLedger reads from the file of one gateway.
func (u *quotaUsage) inLedger(l *ledger.Ledger) *quotaUsage {
	u.all = l.Usage
	u.ofKeys = func(ctx context.Context, q keyedQuota) ([]ledger.Usage, error) {
		return l.UsageOf(ctx, q.account, q.period, usageKeys)
	}
	return u
}

// inRedis asks for the API keys there are: all else that is counted there could
// only be found by looking at every key of the Redis.
func (u *quotaUsage) inRedis(s *redis.Store, ids func() []string) *quotaUsage {
	u.ofKeys = func(ctx context.Context, q keyedQuota) ([]ledger.Usage, error) {
		who := ids()
		who = who[:min(len(who), usageKeys)]
		used, err := s.Used(ctx, q.account, q.period, who)
		if err != nil {
			return nil, err
		}
		period := map[limit.Period]string{limit.Day: "day", limit.Month: "month"}[q.period]
		var out []ledger.Usage
		for i, n := range used {
			if n > 0 {
				out = append(out, ledger.Usage{Limit: q.account, Who: who[i], Period: period, Used: n, Size: q.size})
			}
		}
		return out, nil
	}
	u.all = func(ctx context.Context, most int) ([]ledger.Usage, error) {
		var out []ledger.Usage
		for _, q := range u.keyed {
			list, err := u.ofKeys(ctx, q)
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
		slices.SortStableFunc(out, func(a, b ledger.Usage) int { return cmp.Compare(b.Used, a.Used) })
		return out[:min(len(out), most)], nil
	}
	return u
}

// usage is admin.Options.Usage, of the configuration in use; none without quotas.
func (g *Gateway) usage(ctx context.Context, most int) ([]admin.QuotaUsage, error) {
	h := g.current.take()
	defer h.Release()
	if q := h.of.snapshot.quotas; q != nil {
		return q.top(ctx, most)
	}
	return nil, nil
}

// top is admin.Options.Usage.
func (u *quotaUsage) top(ctx context.Context, most int) ([]admin.QuotaUsage, error) {
	top, err := u.all(ctx, most)
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

// Collect implements prometheus.Collector. What cannot be read leaves
// its metric out, not all others.
func (u *quotaUsage) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	for _, q := range u.keyed {
		list, err := u.ofKeys(ctx, q)
		if err != nil {
			u.log.Warn("the usage of a quota cannot be read", "limit", q.name, "error", err)
			continue
		}
		for _, k := range list {
			to <- prometheus.MustNewConstMetric(u.used, prometheus.GaugeValue, float64(k.Used), q.name, k.Who)
		}
	}
}
