package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

func (f *file) crossCheckLimits(c *configv1.Config) {
	classes := c.GetLimits().GetClasses()
	for _, name := range slices.Sorted(maps.Keys(classes)) {
		f.crossCheckClass(classes[name], name)
	}
	known := func(class string, path ...any) {
		if _, ok := classes[class]; class != "" && !ok {
			f.unknown("limit class", class, slices.Sorted(maps.Keys(classes)), path)
		}
	}
	for i, k := range c.GetAuth().GetApiKeys().GetKeys() {
		known(k.GetLimitClass(), "auth", "api_keys", "keys", i, "limit_class")
	}
	for i, cert := range c.GetAuth().GetClientCertificates() {
		known(cert.GetLimitClass(), "auth", "client_certificates", i, "limit_class")
	}
	for _, method := range slices.Sorted(maps.Keys(c.GetMethods())) {
		known(c.GetMethods()[method].GetLimitClass(), "methods", method, "limit_class")
	}
	if r := c.GetLimits().GetRedis(); r != nil {
		if what := badRedis(r); what != "" {
			f.at([]any{"limits", "redis", "url"}, "%s; expected redis://[user:password@]host:port[/db], or rediss://…", what)
		}
	}
}

const (
	// longestRefill bounds how long an empty rate takes to be full again: what is
	// rarer is a quota, which is kept across restarts.
	longestRefill = 30 * 24 * time.Hour
	// largestQuota is up to where Redis counts without gaps.
	largestQuota = 1 << 53
)

func (f *file) crossCheckClass(class *configv1.LimitClass, name string) {
	if len(class.GetRates())+len(class.GetQuotas()) == 0 && max(class.GetMaxInFlightPerCaller(), class.GetMaxInFlightPerMethod()) == 0 {
		// It would switch off what it replaces, and what is cut off by a wrong
		// indent looks the same.
		f.at([]any{"limits", "classes", name}, "class %s limits nothing; state rates, quotas or calls in flight (for no limit, a rate that is never reached)", name)
	}
	seen := map[string]int{}
	for i, r := range class.GetRates() {
		path := []any{"limits", "classes", name, "rates", i}
		interval := r.GetInterval().AsDuration()
		what := fmt.Sprintf("rate per %s in %s", r.GetPer(), interval)
		if first, twice := seen[what]; twice {
			f.at(path, "a %s comes twice; first as rates[%d]", what, first)
			continue
		}
		seen[what] = i
		refill := float64(interval) / float64(r.GetRequests()) * float64(r.GetBurst())
		switch {
		case r.GetRequests() > int64(interval):
			f.at(path, "%d requests in %s is more than one a nanosecond", r.GetRequests(), interval)
		case refill > float64(longestRefill):
			f.at(path, "a burst of %d would take more than %s to come back; state a quota", r.GetBurst(), longestRefill)
		}
	}
	clear(seen)
	for i, q := range class.GetQuotas() {
		path := []any{"limits", "classes", name, "quotas", i}
		what := fmt.Sprintf("quota per %s and %s", q.GetPer(), q.GetPeriod())
		if first, twice := seen[what]; twice {
			f.at(path, "a %s comes twice; first as quotas[%d]", what, first)
			continue
		}
		seen[what] = i
		if q.GetRequests() > largestQuota {
			f.at(path, "expected at most %d requests, got %d", int64(largestQuota), q.GetRequests())
		}
	}
}

// badRedis says what is wrong with the URL. It does not repeat any of it: a
// password may stand there.
func badRedis(r *configv1.RedisStore) string {
	u, err := url.Parse(r.GetUrl())
	if err != nil || u.Opaque != "" {
		return "not a URL"
	}
	if u.Hostname() == "" {
		return "the URL names no host"
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return "the URL has parameters"
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "the port is not one up to 65535"
		}
	}
	if db := strings.TrimPrefix(u.Path, "/"); db != "" {
		if _, err := strconv.ParseUint(db, 10, 16); err != nil {
			return "the database is no number"
		}
	}
	if _, stated := u.User.Password(); stated && r.GetPasswordFile() != "" {
		return "a password and password_file"
	}
	return ""
}
