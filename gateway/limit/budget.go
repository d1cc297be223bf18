package limit

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// maxBudgets bounds the rates and quotas of a class: all are decided at once.
const maxBudgets = 16

// budget is a rate or a quota of a class, with all that a call needs made ready.
type budget struct {
	name  string // In answers, errors and metrics, such as read-principal.
	per   Per
	quota bool
	words string // Of the configuration.
	ask   Ask    // Without cost and who.
	// Of the RateLimit field, up to the number that is left.
	item   string
	counts counts
}

// counts are the decisions of a limit.
type counts struct{ admitted, refused prometheus.Counter }

// class is a Class made ready.
type class struct {
	Class
	budgets []*budget
	views   [views]view
	caller  bound
	method  bound
}

// bound is a bound on calls in flight, under its name; empty means none.
type bound struct {
	name, anonymous string // anonymous: the name in the space of addresses.
	counts          counts
}

// view is the part of a class that counts a kind of caller.
type view struct {
	budgets []*budget
	asks    []Ask // As those of the budgets, in the name space of the caller's kind.
	policy  string
}

// The kinds of callers, as bits.
const (
	anonymous = 1 << iota
	withoutKey
	withoutTenant
	views
)

func kind(p *policy.Principal) int {
	k := 0
	if !p.Authenticated() {
		k |= anonymous
	}
	if p.APIKey == "" {
		k |= withoutKey
	}
	if p.Tenant == "" {
		k |= withoutTenant
	}
	return k
}

// counted says whether the budget counts callers of the kind.
func (b *budget) counted(kind int) bool {
	switch b.per {
	case PerPrincipal:
		return !b.quota || kind&anonymous == 0
	case PerAPIKey:
		return kind&withoutKey == 0
	case PerTenant:
		return kind&withoutTenant == 0
	}
	return true
}

// anonymousSpace keeps addresses apart from subjects, which may look like one.
const anonymousSpace = "/anonymous"

var className = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func newClass(c Class, count func(limit string) counts) (*class, error) {
	if !className.MatchString(c.Name) {
		return nil, fmt.Errorf("limit class %q: a name is lower-case letters, digits and hyphens, at most 32", c.Name)
	}
	out := &class{Class: c}
	var errs []error
	if c.MaxInFlightPerCaller < 0 || c.MaxInFlightPerMethod < 0 {
		errs = append(errs, errors.New("a bound on calls in flight is negative"))
	}
	if len(c.Rates)+len(c.Quotas) > maxBudgets {
		errs = append(errs, fmt.Errorf("more than %d rates and quotas", maxBudgets))
	}
	seen := map[Per]int{}
	for _, r := range c.Rates {
		if err := r.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		out.budgets = append(out.budgets, rateBudget(c.Name, r, seen[r.Per]))
		seen[r.Per]++
	}
	accounts := map[string]bool{}
	for _, q := range c.Quotas {
		b := quotaBudget(c.Name, q)
		if err := q.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		if accounts[b.name] {
			errs = append(errs, fmt.Errorf("two quotas per %v and %s: one is enough", q.Per, periodName(q.Period)))
		}
		accounts[b.name] = true
		out.budgets = append(out.budgets, b)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("limit class %s: %w", c.Name, err)
	}
	out.ready(count)
	return out, nil
}

// ready makes what calls read.
func (c *class) ready(count func(limit string) counts) {
	for _, b := range c.budgets {
		b.counts = count(b.name)
		b.item = `"` + b.name + `";r=`
	}
	if c.MaxInFlightPerCaller > 0 {
		c.caller = bound{name: c.Name + "-in-flight-caller", anonymous: c.Name + "-in-flight-caller" + anonymousSpace}
		c.caller.counts = count(c.caller.name)
	}
	if c.MaxInFlightPerMethod > 0 {
		c.method = bound{name: c.Name + "-in-flight-method"}
		c.method.counts = count(c.method.name)
	}
	for k := range c.views {
		v := &c.views[k]
		var items []string
		for _, b := range c.budgets {
			if !b.counted(k) {
				continue
			}
			ask := b.ask
			if b.per == PerPrincipal && k&anonymous != 0 {
				ask.Key.Limit += anonymousSpace
			}
			v.budgets, v.asks = append(v.budgets, b), append(v.asks, ask)
			items = append(items, b.policyItem())
		}
		v.policy = strings.Join(items, ", ")
	}
}

// rateBudget is the nth rate of the class that counts this Per. A rate keeps its
// key while another's numbers change.
func rateBudget(class string, r Rate, nth int) *budget {
	r = r.withDefaults()
	b := &budget{name: class + "-" + r.Per.String(), per: r.Per, words: r.String(), ask: Ask{
		Key:  Key{Limit: fmt.Sprintf("%s/%v/%d", class, r.Per, nth)},
		Size: r.Burst, Emission: r.emission(),
	}}
	if nth > 0 {
		b.name += "-" + strconv.Itoa(nth+1)
	}
	return b
}

func quotaBudget(class string, q Quota) *budget {
	return &budget{name: q.Name(class), per: q.Per, quota: true, words: q.String(), ask: Ask{
		Key:  Key{Limit: q.Account(class)},
		Size: q.Requests, Period: q.Period, Emission: 1,
	}}
}
