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
	// OpenFor is how long it stays open. Default 5 s.
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
	// Defaults 20, 1000 and 100.
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
