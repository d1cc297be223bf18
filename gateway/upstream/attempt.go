package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Reasons, as ErrorInfo of policy.ErrorDomain, of an UNAVAILABLE with which the gateway
// spares a service a call. RetryInfo says when to try again.
const (
	ReasonBreakerOpen = "UPSTREAM_BREAKER_OPEN"
	ReasonOverloaded  = "UPSTREAM_OVERLOADED"
)

const (
	msgBreakerOpen = "the service is failing and is left alone for a moment, try again later"
	msgOverloaded  = "the service has as many calls as it can take, try again later"
)

// sending is a call on its way to one destination, by as many attempts as it takes.
type sending struct {
	c        *Conn
	call     *policy.Call
	r        *route
	to       *destination
	md       sent
	span     trace.Span
	request  *wire.Frame
	answer   *Answer
	timedOut bool // the last attempt was ended by its own bound
}

// attempts sends a call until it is answered, or must not be sent again. The permit is
// that of the answer, and still to be done. The error is the caller's.
func (s *sending) attempts(ctx context.Context) (resilience.Permit, error) {
	if s.to.class == nil {
		err := s.attempt(ctx)
		if err != nil {
			err = s.c.public(ctx, s.call, s.r, err)
		}
		return resilience.Permit{}, err
	}
	first := priority(s.call)
	s.keepRequest()
	permit, err := s.to.class.Acquire(first)
	for {
		if err != nil {
			return resilience.Permit{}, refused(s.call, err)
		}
		failed := s.permitted(ctx, permit)
		if failed == nil {
			return permit, nil
		}
		st := failure(s.r, failed)
		permit.Done(tells(ctx, s.call, st))
		if !s.mayRepeat(ctx, st) || !s.repeat(ctx, st) {
			return resilience.Permit{}, s.c.public(ctx, s.call, s.r, failed)
		}
		s.answer.reset()
		if end, ok := ctx.Deadline(); !ok || end.After(s.call.Ends) { // Of the first attempt the target saw to it.
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, s.call.Ends)
			defer cancel()
		}
		if permit, err = s.to.class.AcquireAgain(first); err != nil {
			s.to.service.ReturnRetry()
		}
	}
}

// permitted is attempt with its permit: the edges survive a panic, so what it holds of
// the calls in flight must not be lost by one.
func (s *sending) permitted(ctx context.Context, permit resilience.Permit) error {
	returned := false
	defer func() {
		if !returned {
			permit.Done(resilience.Ignored)
		}
	}()
	err := s.attempt(ctx)
	returned = true
	return err
}

// attempt sends the call once.
func (s *sending) attempt(ctx context.Context) error {
	s.call.Attempts++
	s.timedOut = false
	own, start := ctx, time.Time{}
	if d := s.r.method.Rule.Retry.AttemptTimeout; d > 0 && s.to.class != nil {
		var cancel context.CancelFunc
		start = time.Now()
		own, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if s.to.here != nil || s.r.traffic == nil {
		err := s.r.invoke(own, s.to, s.md, s.request, s.answer)
		s.timedOut = s.byItsBound(ctx, own, start, err)
		return err
	}
	picked := &balance.Carried{Context: own, Pick: balance.Pick{Avoid: s.call.Backend, CallersDeadline: s.call.Shortened}}
	err := s.r.invoke(picked, s.to, s.md, s.request, s.answer)
	s.call.Backend = picked.Pick.Chosen
	s.timedOut = s.byItsBound(ctx, own, start, err)
	return err
}

// byItsBound says whether an attempt was ended by its own bound. The service has a clock
// of its own, and may say so a moment before ours does.
func (s *sending) byItsBound(ctx, own context.Context, start time.Time, err error) bool {
	switch {
	case err == nil || start.IsZero() || ctx.Err() != nil:
		return false
	case own.Err() != nil:
		return true
	}
	return status.Code(err) == codes.DeadlineExceeded && time.Since(start) >= s.r.method.Rule.Retry.AttemptTimeout/10*9
}

// keepRequest makes the request outlive attempts that were given up: a service in this
// process may still be reading it when another attempt has succeeded and the edge gives
// the memory back.
func (s *sending) keepRequest() {
	if retry := &s.r.method.Rule.Retry; s.to.here == nil || retry.MaxAttempts < 2 || retry.AttemptTimeout <= 0 {
		return
	}
	s.request = ownBytes(s.request)
}

// mayRepeat says whether the rule lets a call be tried again after such a failure. What
// was answered, if badly, is not.
func (s *sending) mayRepeat(ctx context.Context, st *status.Status) bool {
	retry := &s.r.method.Rule.Retry
	if s.call.Attempts >= retry.MaxAttempts || ctx.Err() != nil || nonsense(st) {
		return false
	}
	return s.timedOut || retry.Retries(st.Code())
}

// repeat takes a retry out of the budget and waits. It is false where there is none, or
// no time.
func (s *sending) repeat(ctx context.Context, st *status.Status) bool {
	retry := &s.r.method.Rule.Retry
	wait := resilience.Wait(s.call.Attempts, retry.Backoff, retry.MaxBackoff, rand.Int64N)
	asked := askedWait(st)
	if wait = max(wait, asked); asked > retry.MaxBackoff || wait >= time.Until(s.call.Ends) {
		return s.count("no_time")
	}
	if !s.to.service.TryRetry() {
		return s.count("no_budget")
	}
	if s.span != nil {
		s.span.AddEvent("retry", trace.WithAttributes(attribute.Int("sluice.attempt", s.call.Attempts),
			attribute.String("sluice.code", counted(st.Code())), attribute.String("sluice.backend", s.call.Backend)))
	}
	if !sleep(ctx, wait) {
		s.to.service.ReturnRetry()
		return false
	}
	s.count("sent")
	return true
}

func (s *sending) count(result string) bool {
	s.c.metrics.retries.WithLabelValues(s.r.method.Service, s.to.variant, result).Inc()
	return false
}

// askedWait is how long the service wants to be left alone.
func askedWait(st *status.Status) time.Duration {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// refused is the answer to a call that was not sent.
func refused(call *policy.Call, err error) error {
	var why *resilience.Rejection
	if !errors.As(err, &why) {
		return status.Error(codes.Unavailable, msgUnavailable)
	}
	call.Breaker = why.Reason
	st, info := status.New(codes.Unavailable, msgOverloaded), &errdetails.ErrorInfo{Reason: ReasonOverloaded, Domain: policy.ErrorDomain}
	if why.Reason == resilience.ReasonBreaker {
		st, info = status.New(codes.Unavailable, msgBreakerOpen), &errdetails.ErrorInfo{Reason: ReasonBreakerOpen, Domain: policy.ErrorDomain}
	}
	if with, err := st.WithDetails(info, &errdetails.RetryInfo{RetryDelay: durationpb.New(why.RetryAfter)}); err == nil {
		st = with
	}
	return st.Err()
}
