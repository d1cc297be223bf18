package resilience

import (
	"fmt"
	"slices"
	"sync/atomic"
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
)

// priorityNames and reasons are labels of metrics.
var (
	priorityNames = [...]string{Whole: "whole", Optional: "optional"}
	reasons       = [...]string{ReasonBreaker, ReasonConcurrency}
)

// Class is the calls of a service that fail together: those of one class of limits.
// It is safe for concurrent use.
type Class struct {
	service *Service
	name    string
	breaker breaker
	latency latency
	// shed counts refusals: by reason and priority.
	shed [len(reasons)][len(priorityNames)]atomic.Uint64
}

// Method is one method of a class: it has the class's breaker, and its own latency, so
// that the concurrency limit compares each method's calls with themselves. It is safe
// for concurrent use.
type Method struct {
	*Class
	latency latency
}

// Acquire is Class.Acquire for a call of the method.
func (m *Method) Acquire(p Priority) (Permit, error) { return m.acquire(&m.latency, p, true) }

// AcquireAgain is Class.AcquireAgain for a call of the method.
func (m *Method) AcquireAgain(p Priority) (Permit, error) { return m.acquire(&m.latency, p, false) }

// Permit is one attempt that may go out. The zero Permit may be Done and is nothing.
type Permit struct {
	class   *Class
	latency *latency
	at      time.Duration
	word    uint64 // The breaker's state that let it out.
	probe   uint32
	// waits says that the attempt is not among the calls in flight, and its length no latency.
	waits bool
}

// Acquire asks whether the first attempt of a call may go out now; the error is a
// *Rejection, and not to be tried again here. It never waits, and allocates only when
// it refuses. A permit must be Done exactly once, when the answer is there. Of a stream,
// whose length tells nothing, and a body that its caller still sends there is a Place.
func (c *Class) Acquire(p Priority) (Permit, error) { return c.acquire(&c.latency, p, true) }

// AcquireAgain is Acquire for an attempt that TryRetry granted: it earns the budget
// nothing.
func (c *Class) AcquireAgain(p Priority) (Permit, error) { return c.acquire(&c.latency, p, false) }

func (c *Class) acquire(l *latency, p Priority, first bool) (Permit, error) {
	s := c.service
	o := s.options.Load()
	if o.Concurrency.Off && o.Breaker.Off && o.Budget.Off && stateOf(c.breaker.word.Load()) == closed {
		return Permit{}, nil
	}
	// The bound comes first: a probe that it refused would have to be given back.
	if !s.limiter.enter(p, &o.Concurrency) {
		return Permit{}, c.refuse(ReasonConcurrency, p, shortRetry)
	}
	now := s.now()
	word, probe, after, change := c.breaker.acquire(now, &o.Breaker)
	s.tell(o, c, change)
	if after > 0 {
		s.limiter.leave()
		return Permit{}, c.refuse(ReasonBreaker, p, after)
	}
	if first && !o.Budget.Off {
		s.budget.earn(now)
	}
	return Permit{class: c, latency: l, at: now, word: word, probe: probe}, nil
}

// Done tells what came of the attempt.
func (p Permit) Done(out Outcome) {
	c := p.class
	if c == nil {
		return
	}
	s := c.service
	o := s.options.Load()
	now := s.now()
	if !p.waits {
		s.limiter.leave()
	}
	s.tell(o, c, c.breaker.done(p.word, p.probe, out, now, &o.Breaker))
	if o.Concurrency.Off {
		return
	}
	if !p.waits {
		s.limiter.count(p.latency, out, now-p.at, now)
	}
	s.limiter.turn(now, &o.Concurrency)
}

// Reasons of a Rejection.
const (
	ReasonBreaker     = "breaker"
	ReasonConcurrency = "concurrency"
)

// shortRetry is the wait that is named where nothing tells how long it will take:
// a bound moves within a second, and so do probes.
const shortRetry = time.Second

// Rejection is why an attempt may not go out: UNAVAILABLE, 503.
type Rejection struct {
	// Reason is ReasonBreaker or ReasonConcurrency.
	Reason string
	// RetryAfter is when asking again may make sense, a second at least.
	RetryAfter time.Duration
}

func (r *Rejection) Error() string {
	return fmt.Sprintf("refused by the service's %s limit, retry after %v", r.Reason, r.RetryAfter)
}

func (c *Class) refuse(reason string, p Priority, after time.Duration) error {
	c.shed[slices.Index(reasons[:], reason)][p].Add(1)
	return &Rejection{Reason: reason, RetryAfter: max(after, shortRetry)}
}
