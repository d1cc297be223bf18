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

	"github.com/prometheus/client_golang/prometheus"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
)

// limiter holds every call to the configured limits.
func (s *snapshot) limiter(ctx context.Context) (*limit.Limiter, error) {
	c := s.cfg.GetLimits()
	classes, err := limitClasses(c)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	store, err := s.limitStore(ctx, classes)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	// Of its own: a flood of addresses must neither reach Redis nor push callers
	// out of the budgets that they have paid into.
	arrivals, err := s.memory("arrivals", false)
	if err != nil {
		return nil, err
	}
	// The Limiter is the snapshot's, for it holds the rules; what it has counted is
	// in parts, and a changed limit goes on with it.
	l, err := limit.New(limit.Options{
		Classes: classes, Address: addressRate(c.GetAddress()), Store: store, Arrivals: arrivals,
		InFlight: s.gateway.inFlight, Metrics: s.metrics.Registry(),
	})
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	return l, s.checkClasses(l)
}

// checkClasses refuses rules and credentials that name a limit class that is
// not there, and costs that no budget of their class can hold.
func (s *snapshot) checkClasses(l *limit.Limiter) error {
	var errs []error
	s.dearest = 1
	for _, m := range s.catalogue.Methods() {
		if m.Rule.LimitClass == "" {
			continue
		}
		s.dearest = max(s.dearest, m.Rule.LimitCost)
		if err := l.Check(m.Rule.LimitClass, m.Rule.LimitCost); err != nil {
			errs = append(errs, fmt.Errorf("rule of %s: limit: %w", m.FullName[1:], err))
		}
	}
	s.dearest = max(s.dearest, s.dearestHTTP())
	// The class of a credential stands in for those of all rules.
	dearest := s.dearest
	s.checkStandIn = func(class string) error {
		if class == "" {
			return nil
		}
		return l.Check(class, dearest)
	}
	for _, k := range s.cfg.GetAuth().GetApiKeys().GetKeys() {
		if err := s.checkStandIn(k.GetLimitClass()); err != nil {
			errs = append(errs, fmt.Errorf("auth.api_keys: key %s: %w", k.GetId(), err))
		}
	}
	for i, c := range s.cfg.GetAuth().GetClientCertificates() {
		if err := s.checkStandIn(c.GetLimitClass()); err != nil {
			errs = append(errs, fmt.Errorf("auth.client_certificates[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// limitStore is Redis where it is configured, else this process's memory and,
// for quotas, a file in the data directory.
func (s *snapshot) limitStore(ctx context.Context, classes []limit.Class) (limit.Store, error) {
	local, ofLocal, err := s.localStore(ctx, classes)
	if err != nil {
		return nil, err
	}
	c := s.cfg.GetLimits().GetRedis()
	if c == nil || s.o.explain != nil {
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
	store, err := part(s, "redis", append(ofLocal, c, password), func(r prometheus.Registerer) (*redis.Store, func() error, error) {
		store, err := redis.New(redis.Options{
			URL: c.GetUrl(), Password: password, Timeout: c.GetTimeout().AsDuration(), Prefix: c.GetPrefix(),
			Fallback: redis.Fallback(c.GetFallback()), Local: lentStore{local}, Log: s.log, Metrics: r,
		})
		if err != nil {
			return nil, nil, fmt.Errorf("redis: %w", err)
		}
		return store, store.Close, nil
	})
	if err != nil {
		return nil, err
	}
	usage := newQuotaUsage(classes, s.log).inRedis(store, func() []string {
		if s.keys == nil {
			return nil
		}
		return s.keys.IDs()
	})
	if len(usage.names) == 0 {
		return store, nil
	}
	return store, s.tellUsage(usage)
}

// lentStore is a part that another must not close.
type lentStore struct{ limit.Store }

// Close does nothing.
func (lentStore) Close() error { return nil }

// tellUsage shows what is used of quotas in metrics and at the admin listener.
func (s *snapshot) tellUsage(u *quotaUsage) error {
	s.quotas = u
	if err := s.metricsOwn.Register(u); err != nil {
		return fmt.Errorf("quotas: %w", err)
	}
	return nil
}

// localStore is this process's own, and what it was built from.
func (s *snapshot) localStore(ctx context.Context, classes []limit.Class) (store limit.Store, from []any, err error) {
	rates, err := s.memory("rates", true)
	if err != nil {
		return nil, nil, err
	}
	from = []any{s.cfg.GetLimits().GetMaxKeys()}
	if !slices.ContainsFunc(classes, func(c limit.Class) bool { return len(c.Quotas) > 0 }) {
		return limit.NewLocal(rates, nil), append(from, "no quotas"), nil
	}
	file := filepath.Join(s.cfg.GetDataDir(), "quotas.db")
	quotas, err := part(s, "ledger", []any{file}, func(r prometheus.Registerer) (*ledger.Ledger, func() error, error) {
		l, err := ledger.Open(ctx, ledger.Options{File: file, Log: s.log, Metrics: r})
		if err != nil {
			return nil, nil, fmt.Errorf("quotas: %w", err)
		}
		return l, l.Close, nil
	})
	if err != nil {
		return nil, nil, err
	}
	if s.cfg.GetLimits().GetRedis() == nil { // With Redis, the ledger is the fallback's, and says little.
		if err := s.tellUsage(newQuotaUsage(classes, s.log).inLedger(quotas)); err != nil {
			return nil, nil, err
		}
	}
	return limit.NewLocal(rates, quotas), append(from, "quotas"), nil
}

// memory keeps rates of one kind. Another size of it forgets what was counted.
func (s *snapshot) memory(kind string, tell bool) (*limit.Memory, error) {
	size := int(s.cfg.GetLimits().GetMaxKeys())
	return part(s, kind, []any{size}, func(r prometheus.Registerer) (*limit.Memory, func() error, error) {
		o := limit.MemoryOptions{MaxKeys: size}
		if tell {
			o.Metrics = r
		}
		m := limit.NewMemory(o)
		return m, m.Close, nil
	})
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
