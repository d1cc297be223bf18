package limit

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// scratch is what a decision needs, kept between calls.
type scratch struct {
	asks    [maxBudgets]Ask
	answers [maxBudgets]Answer
	text    [1024]byte
}

// Arrival holds every request of an address to one rate, before its credential
// is looked at. It is a policy.Check for calls that may have no method yet.
func (l *Limiter) Arrival(ctx context.Context, c *policy.Call) (context.Context, error) {
	b := l.address
	if b == nil {
		return ctx, nil
	}
	var buf [64]byte
	a := l.arrivals.takeAddress(&b.ask, appendAddress(buf[:0], c.Client))
	if a.OK {
		b.counts.admitted.Inc()
		return ctx, nil
	}
	b.counts.refused.Inc()
	wait := b.wait(a.Retry)
	c.Why = "over the limit of an address, " + b.words
	if c.Annotate != nil {
		c.Annotate(fieldPolicy.On(c.Edge), b.policyItem())
		c.Annotate(fieldRateLimit.On(c.Edge), string(appendRateLimit(nil, []*budget{b}, []Answer{a})))
	}
	return ctx, refusal(codes.ResourceExhausted, ReasonAddressRateLimited,
		fmt.Sprintf("too many requests from this address: the limit is %s; retry in %v", b.words, wait),
		map[string]string{"limit": b.name}, wait)
}

// Rates takes the cost of the rule from the rates and quotas of its class that
// count this caller: from all, or from none. It tells the caller what is left. It
// is a policy.Check.
func (l *Limiter) Rates(ctx context.Context, c *policy.Call) (context.Context, error) {
	cls, err := l.classOf(c)
	if err != nil {
		return ctx, unavailable(ctx, c, err.Error())
	}
	if cls == nil {
		return ctx, nil
	}
	v := &cls.views[kind(c.Principal)]
	if len(v.asks) == 0 {
		return ctx, nil
	}
	s := l.pool.Get().(*scratch)
	asks, answers := s.asks[:copy(s.asks[:], v.asks)], s.answers[:len(v.asks)]
	fill(asks, v.budgets, c)
	admitted, err := l.store.Take(ctx, asks, answers)
	if err != nil { // The store may still be at it: the scratch is not used again.
		return ctx, unavailable(ctx, c, err.Error())
	}
	defer l.pool.Put(s)
	if c.Annotate != nil {
		c.Annotate(fieldPolicy.On(c.Edge), v.policy)
		if text := appendRateLimit(s.text[:0], v.budgets, answers); len(text) > 0 {
			c.Annotate(fieldRateLimit.On(c.Edge), string(text))
		}
	}
	if admitted {
		for _, b := range v.budgets {
			b.counts.admitted.Inc()
		}
		return ctx, nil
	}
	for i, b := range v.budgets {
		if !answers[i].OK {
			b.counts.refused.Inc()
		}
	}
	b, a := worst(v.budgets, answers)
	if b == nil {
		return ctx, unavailable(ctx, c, "the store refused and named no limit")
	}
	c.Why = "over the limit " + b.name + ", " + b.words
	return ctx, overBudget(cls.Name, b, a, asks[0].Cost)
}

// fill says in the asks whom they count and what the call costs.
func fill(asks []Ask, budgets []*budget, c *policy.Call) {
	cost := int64(max(1, c.Method.Rule.LimitCost))
	var address string // Made once, and only where it is needed.
	for i, b := range budgets {
		asks[i].Cost = cost
		who := &asks[i].Key.Who
		switch b.per {
		case PerAPIKey:
			*who = c.Principal.APIKey
		case PerTenant:
			*who = c.Principal.Tenant
		case PerMethod:
			*who = c.Method.FullName
		case PerGlobal:
			*who = ""
		case PerPrincipal, PerAddress:
			if b.per == PerPrincipal && c.Principal.Authenticated() {
				*who = c.Principal.Account()
				continue
			}
			if address == "" {
				var buf [64]byte
				address = string(appendAddress(buf[:0], c.Client))
			}
			*who = address
		}
	}
}

// InFlight bounds the calls of a class that are in flight at once: those of a
// caller over all its methods, and those of a method. What it takes, the end of
// the call gives back. It is a policy.Check.
func (l *Limiter) InFlight(ctx context.Context, c *policy.Call) (context.Context, error) {
	cls, err := l.classOf(c)
	if err != nil {
		return ctx, unavailable(ctx, c, err.Error())
	}
	if cls == nil || (cls.caller.name == "" && cls.method.name == "") {
		return ctx, nil
	}
	var caller, method Key // Without a limit: not bounded.
	if cls.caller.name != "" {
		caller = callerKey(&cls.caller, c)
		if !l.inFlight.enter(caller, cls.MaxInFlightPerCaller) {
			return ctx, tooMany(c, cls, &cls.caller, cls.MaxInFlightPerCaller, "of this caller")
		}
	}
	if cls.method.name != "" {
		method = Key{Limit: cls.method.name, Who: c.Method.FullName}
		if !l.inFlight.enter(method, cls.MaxInFlightPerMethod) {
			l.inFlight.leave(caller)
			return ctx, tooMany(c, cls, &cls.method, cls.MaxInFlightPerMethod, "of this method")
		}
	}
	for _, b := range [2]*bound{&cls.caller, &cls.method} {
		if b.name != "" {
			b.counts.admitted.Inc()
		}
	}
	c.OnDone(func(error) {
		l.inFlight.leave(method)
		l.inFlight.leave(caller)
	})
	return ctx, nil
}

func callerKey(b *bound, c *policy.Call) Key {
	if c.Principal.Authenticated() {
		return Key{Limit: b.name, Who: c.Principal.Account()}
	}
	var buf [64]byte
	return Key{Limit: b.anonymous, Who: string(appendAddress(buf[:0], c.Client))}
}

func tooMany(c *policy.Call, cls *class, b *bound, most int, whose string) error {
	b.counts.refused.Inc()
	c.Why = fmt.Sprintf("over the limit %s, %d at once", b.name, most)
	return refusal(codes.ResourceExhausted, ReasonTooManyInFlight,
		fmt.Sprintf("%d calls %s are in flight already: let one end, then retry", most, whose),
		map[string]string{"limit": b.name, "class": cls.Name}, soon)
}
