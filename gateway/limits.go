package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
)

// limiter holds every call to the configured limits.
func (g *Gateway) limiter(ctx context.Context) (*limit.Limiter, error) {
	c := g.cfg.GetLimits()
	classes, err := limitClasses(c)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	store, err := g.limitStore(ctx, classes)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	l, err := limit.New(limit.Options{
		Classes: classes, Address: addressRate(c.GetAddress()), Store: store,
		// Of its own: a flood of addresses must neither reach Redis nor push callers
		// out of the budgets that they have paid into.
		Arrivals: limit.NewMemory(limit.MemoryOptions{MaxKeys: int(c.GetMaxKeys())}),
		Metrics:  g.metrics.Registry(),
	})
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	return l, g.checkClasses(l)
}

// checkClasses refuses rules and credentials that name a limit class that is
// not there, and costs that no budget of their class can hold.
func (g *Gateway) checkClasses(l *limit.Limiter) error {
	var errs []error
	dearest := 1
	for _, m := range g.methods.Methods() {
		if m.Rule.LimitClass == "" {
			continue
		}
		dearest = max(dearest, m.Rule.LimitCost)
		if err := l.Check(m.Rule.LimitClass, m.Rule.LimitCost); err != nil {
			errs = append(errs, fmt.Errorf("rule of %s: limit: %w", m.FullName[1:], err))
		}
	}
	// The class of a credential stands in for those of all rules.
	g.checkStandIn = func(class string) error {
		if class == "" {
			return nil
		}
		return l.Check(class, dearest)
	}
	for _, k := range g.cfg.GetAuth().GetApiKeys().GetKeys() {
		if err := g.checkStandIn(k.GetLimitClass()); err != nil {
			errs = append(errs, fmt.Errorf("auth.api_keys: key %s: %w", k.GetId(), err))
		}
	}
	for i, c := range g.cfg.GetAuth().GetClientCertificates() {
		if err := g.checkStandIn(c.GetLimitClass()); err != nil {
			errs = append(errs, fmt.Errorf("auth.client_certificates[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// limitStore is Redis where it is configured, else this process's memory and,
// for quotas, a file in the data directory.
func (g *Gateway) limitStore(ctx context.Context, classes []limit.Class) (limit.Store, error) {
	local, err := g.localStore(ctx, classes)
	if err != nil {
		return nil, err
	}
	g.onClose(local.Close) // Once more behind Redis's, which is no harm: what follows can fail.
	c := g.cfg.GetLimits().GetRedis()
	if c == nil || g.o.explain != nil {
		return local, nil
	}
	password := ""
	if f := c.GetPasswordFile(); f != "" {
		raw, err := os.ReadFile(f) //nolint:gosec // The operator names the file.
		if err != nil {
			return nil, fmt.Errorf("redis.password_file: %w", err)
		}
		password = strings.TrimRight(string(raw), "\r\n")
	}
	store, err := redis.New(redis.Options{
		URL: c.GetUrl(), Password: password, Timeout: c.GetTimeout().AsDuration(), Prefix: c.GetPrefix(),
		Fallback: redis.Fallback(c.GetFallback()), Local: local, Log: g.log, Metrics: g.metrics.Registry(),
	})
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	g.onClose(store.Close)
	usage := newQuotaUsage(classes, g.log).inRedis(store, func() []string {
		if g.keys == nil {
			return nil
		}
		return g.keys.IDs()
	})
	if len(usage.names) == 0 {
		return store, nil
	}
	return store, g.tellUsage(usage)
}

// tellUsage shows what is used of quotas in metrics and at the admin listener.
func (g *Gateway) tellUsage(u *quotaUsage) error {
	g.quotas = u
	if err := g.metrics.Registry().Register(u); err != nil {
		return fmt.Errorf("quotas: %w", err)
	}
	return nil
}

func (g *Gateway) localStore(ctx context.Context, classes []limit.Class) (limit.Store, error) {
	rates := limit.NewMemory(limit.MemoryOptions{MaxKeys: int(g.cfg.GetLimits().GetMaxKeys()), Metrics: g.metrics.Registry()})
	if !slices.ContainsFunc(classes, func(c limit.Class) bool { return len(c.Quotas) > 0 }) {
		return limit.NewLocal(rates, nil), nil
	}
	quotas, err := ledger.Open(ctx, ledger.Options{File: filepath.Join(g.cfg.GetDataDir(), "quotas.db"), Log: g.log, Metrics: g.metrics.Registry()})
	if err != nil {
		return nil, fmt.Errorf("quotas: %w", err)
	}
	if g.cfg.GetLimits().GetRedis() == nil { // With Redis, the ledger is the fallback's, and says little.
		if err := g.tellUsage(newQuotaUsage(classes, g.log).inLedger(quotas)); err != nil {
			return nil, errors.Join(err, quotas.Close())
		}
	}
	return limit.NewLocal(rates, quotas), nil
}

func addressRate(c *configv1.AddressLimit) *limit.Rate {
	if c.GetOff() {
		return nil
	}
	burst := c.GetBurst()
	if burst == 0 {
		burst = 2 * c.GetRequests()
	}
	return &limit.Rate{Per: limit.PerAddress, Requests: c.GetRequests(), Interval: time.Second, Burst: burst}
}

func limitClasses(c *configv1.Limits) ([]limit.Class, error) {
	var out []limit.Class
	for _, name := range slices.Sorted(maps.Keys(c.GetClasses())) {
		from := c.GetClasses()[name]
		class := limit.Class{Name: name, MaxInFlightPerCaller: int(from.GetMaxInFlightPerCaller()), MaxInFlightPerMethod: int(from.GetMaxInFlightPerMethod())}
		for _, r := range from.GetRates() {
			per, err := limit.ParsePer(r.GetPer())
			if err != nil {
				return nil, fmt.Errorf("class %s: %w", name, err)
			}
			class.Rates = append(class.Rates, limit.Rate{Per: per, Requests: r.GetRequests(), Interval: r.GetInterval().AsDuration(), Burst: r.GetBurst()})
		}
		for _, q := range from.GetQuotas() {
			per, err := limit.ParsePer(q.GetPer())
			if err != nil {
				return nil, fmt.Errorf("class %s: %w", name, err)
			}
			period := limit.Day
			if q.GetPeriod() == "month" {
				period = limit.Month
			}
			class.Quotas = append(class.Quotas, limit.Quota{Per: per, Requests: q.GetRequests(), Period: period})
		}
		out = append(out, class)
	}
	return out, nil
}
