package resilience

import "time"

// BreakerOptions say when a class of calls is refused for a while. Zero fields have
// their defaults.
type BreakerOptions struct {
	// Off lets every call pass.
	Off bool
	// Window is the time that failures are counted over. Default 10 s.
	Window time.Duration
	// MinRequests is how many calls there must have been in it. Default 20.
	MinRequests int
	// FailurePercent of them must have failed for it to open. Default 50.
	FailurePercent int
	// OpenFor is how long it stays open. Default 1 s.
	OpenFor time.Duration
	// Probes is how many calls at once try whether the service is back. Default 3.
	Probes int
	// Successes in a row close it. Default 3.
	Successes int
}

// ConcurrencyOptions bound the calls in flight. Zero fields have their defaults.
type ConcurrencyOptions struct {
	// Off sets no bound.
	Off bool
	// Min and Max are what the bound stays between, Initial where it begins.
	// Defaults 2, 1000 and 100.
	Min, Max, Initial int
}

// BudgetOptions say how many calls may be tried again.
type BudgetOptions struct {
	// Off grants no retry at all.
	Off bool
	// Percent of the first attempts of the last 10 s. 0 means the default of 20.
	Percent int
	// MinPerSecond retries are always granted. 0 means the default of 1.
	MinPerSecond int
}

// OutlierOptions say when one backend of several is left out. Zero fields have their
// defaults.
type OutlierOptions struct {
	// Off leaves none out.
	Off bool
	// ConsecutiveFailures leave it out. Default 5.
	ConsecutiveFailures int
	// BaseEjection is how long the first time, MaxEjection at most. Defaults 1 s and 30 s.
	BaseEjection, MaxEjection time.Duration
	// MaxEjectedPercent of the backends may be out at once. Default 50.
	MaxEjectedPercent int
}

// Defaults, as config.v1 states them.
const (
	defaultWindow         = 10 * time.Second
	defaultMinRequests    = 20
	defaultFailurePercent = 50
	defaultOpenFor        = time.Second
	defaultProbes         = 3
	defaultSuccesses      = 3

	defaultMin, defaultMax, defaultInitial = 2, 1000, 100

	defaultPercent, defaultMinPerSecond = 20, 1

	defaultConsecutive       = 5
	defaultBase, defaultMost = time.Second, 30 * time.Second
	defaultEjectedPercent    = 50
)

// or is the value if it is one, else the default.
func or[T int | time.Duration](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}

func (o Options) withDefaults() Options {
	b, c, r := &o.Breaker, &o.Concurrency, &o.Budget
	b.Window = max(or(b.Window, defaultWindow), buckets) // A bucket is no shorter than 1 ns.
	b.MinRequests, b.FailurePercent = or(b.MinRequests, defaultMinRequests), or(b.FailurePercent, defaultFailurePercent)
	b.OpenFor, b.Probes, b.Successes = or(b.OpenFor, defaultOpenFor), or(b.Probes, defaultProbes), or(b.Successes, defaultSuccesses)
	// Who states a Max below the default Min means it, and the other way round.
	c.Max = or(c.Max, max(defaultMax, c.Min))
	c.Min = min(or(c.Min, defaultMin), c.Max)
	c.Initial = min(max(or(c.Initial, defaultInitial), c.Min), c.Max)
	r.Percent, r.MinPerSecond = or(r.Percent, defaultPercent), or(r.MinPerSecond, defaultMinPerSecond)
	return o
}

func (o OutlierOptions) withDefaults() OutlierOptions {
	o.ConsecutiveFailures = or(o.ConsecutiveFailures, defaultConsecutive)
	o.BaseEjection, o.MaxEjectedPercent = or(o.BaseEjection, defaultBase), or(o.MaxEjectedPercent, defaultEjectedPercent)
	o.MaxEjection = max(or(o.MaxEjection, defaultMost), o.BaseEjection)
	return o
}
