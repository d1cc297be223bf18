package resilience

import (
	"fmt"
	"time"
)

// Outcome is what came of an attempt.
type Outcome uint8

// Outcomes.
const (
	// Success is an answer of the service, a refusal for the caller's own fault too.
	Success Outcome = iota
	// Failure is one of the service's: it could not be reached, or broke.
	Failure
	// Overload is a failure that shows too much work: too late, or the service said so.
	Overload
	// Ignored says nothing of the service: the caller went away, or nothing was sent.
	Ignored
)

// Priority says which calls are shed first.
type Priority uint8

// Priorities.
const (
	// Whole is a request that somebody waits for.
	Whole Priority = iota
	// Optional is a branch that its composite can do without: shed before Whole.
	Optional
	// Vital is never refused for load: health checks. A breaker refuses it still.
	Vital
)

// Class is the calls of a service that fail together: those of one class of limits.
// It is safe for concurrent use.
type Class struct {
	service *Service
	name    string
}

// Acquire asks whether the first attempt of a call may go out now; the error is a
// *Rejection. It never waits. A permit must be Done exactly once, when the answer is
// there; for a stream that is its first answer, for its length tells nothing.
func (c *Class) Acquire(p Priority) (Permit, error) { return Permit{class: c}, nil }

// AcquireAgain is Acquire for an attempt that TryRetry granted: it does not earn
// the budget anything.
func (c *Class) AcquireAgain(p Priority) (Permit, error) { return Permit{class: c}, nil }

// Permit is one attempt that may go out. The zero Permit may be Done and is nothing.
type Permit struct {
	class *Class
}

// Done tells what came of the attempt.
func (p Permit) Done(o Outcome) {}

// Reasons of a Rejection.
const (
	ReasonBreaker     = "breaker"
	ReasonConcurrency = "concurrency"
)

// Rejection is why an attempt may not go out: UNAVAILABLE, 503.
type Rejection struct {
	// Reason is ReasonBreaker or ReasonConcurrency.
	Reason string
	// RetryAfter is when asking again may make sense; it is at least a second's
	// fraction, and for Retry-After rounded up to seconds.
	RetryAfter time.Duration
}

func (r *Rejection) Error() string {
	return fmt.Sprintf("refused by %s, retry after %v", r.Reason, r.RetryAfter)
}
