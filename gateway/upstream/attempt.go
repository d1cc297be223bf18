package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/transcode"
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

// trip is one call on its way to one place, by as many attempts as it takes.
type trip struct {
	c        *Conn
	call     *policy.Call
	r        *route
	to       *place
	md       sent
	span     trace.Span
	in       *wire.Frame
	out      any
	opts     []grpc.CallOption
	timedOut bool // the last attempt was ended by its own bound
}

// attempts sends a call until it is answered, or must not be sent again. The permit is
// that of the answer, and still to be done. The error is the caller's.
func (t *trip) attempts(ctx context.Context) (resilience.Permit, error) {
	if t.to.class == nil {
		err := t.attempt(ctx)
		if err != nil {
			err = t.c.answer(ctx, t.call, t.r, err)
		}
		return resilience.Permit{}, err
	}
	first := priority(t.call, t.opts)
	t.keepRequest()
	permit, err := t.to.class.Acquire(first)
	for {
		if err != nil {
			return resilience.Permit{}, refused(t.call, err)
		}
		failed := t.permitted(ctx, permit)
		if failed == nil {
			return permit, nil
		}
		st := failure(t.r, failed)
		permit.Done(tells(ctx, t.call, st))
		if !t.mayRepeat(ctx, st) || !t.repeat(ctx, st) {
			return resilience.Permit{}, t.c.answer(ctx, t.call, t.r, failed)
		}
		clean(t.out, t.opts)
		if end, ok := ctx.Deadline(); !ok || end.After(t.call.Ends) { // Of the first attempt the target saw to it.
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, t.call.Ends)
			defer cancel()
		}
		if permit, err = t.to.class.AcquireAgain(first); err != nil {
			t.to.service.ReturnRetry()
		}
	}
}

// permitted is attempt with its permit: the edges survive a panic, so the place among
// the calls in flight must not be lost by one.
func (t *trip) permitted(ctx context.Context, permit resilience.Permit) error {
	returned := false
	defer func() {
		if !returned {
			permit.Done(resilience.Ignored)
		}
	}()
	err := t.attempt(ctx)
	returned = true
	return err
}

// attempt sends the call once.
func (t *trip) attempt(ctx context.Context) error {
	t.call.Attempts++
	t.timedOut = false
	own, start := ctx, time.Time{}
	if d := t.r.method.Rule.Retry.AttemptTimeout; d > 0 && t.to.class != nil {
		var cancel context.CancelFunc
		start = time.Now()
		own, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if t.to.here != nil || t.r.traffic == nil {
		err := t.r.send(own, t.to, t.md, t.in, t.out, t.opts...)
		t.timedOut = t.byItsBound(ctx, own, start, err)
		return err
	}
	picked := &balance.Carried{Context: own, Pick: balance.Pick{Avoid: t.call.Backend, CallersDeadline: t.call.Hurried}}
	err := t.r.send(picked, t.to, t.md, t.in, t.out, t.opts...)
	t.call.Backend = picked.Pick.Chosen
	t.timedOut = t.byItsBound(ctx, own, start, err)
	return err
}

// byItsBound says whether an attempt was ended by its own bound. The service has a clock
// of its own, and may say so a moment before ours does.
func (t *trip) byItsBound(ctx, own context.Context, start time.Time, err error) bool {
	switch {
	case err == nil || start.IsZero() || ctx.Err() != nil:
		return false
	case own.Err() != nil:
		return true
	}
	return status.Code(err) == codes.DeadlineExceeded && time.Since(start) >= t.r.method.Rule.Retry.AttemptTimeout/10*9
}

// keepRequest makes the request outlive attempts that were given up: a service in this
// process may still be reading it when another attempt has succeeded and the edge gives
// the memory back.
func (t *trip) keepRequest() {
	if retry := &t.r.method.Rule.Retry; t.to.here == nil || retry.MaxAttempts < 2 || retry.AttemptTimeout <= 0 {
		return
	}
	t.in = ownBytes(t.in)
}

// mayRepeat says whether the rule lets a call be tried again after such a failure. What
// was answered, if badly, is not.
func (t *trip) mayRepeat(ctx context.Context, st *status.Status) bool {
	retry := &t.r.method.Rule.Retry
	if t.call.Attempts >= retry.MaxAttempts || ctx.Err() != nil || nonsense(st) {
		return false
	}
	return t.timedOut || retry.Retries(st.Code())
}

// repeat takes a retry out of the budget and waits. It is false where there is none, or
// no time.
func (t *trip) repeat(ctx context.Context, st *status.Status) bool {
	retry := &t.r.method.Rule.Retry
	wait := resilience.Wait(t.call.Attempts, retry.Backoff, retry.MaxBackoff, rand.Int64N)
	asked := askedWait(st)
	if wait = max(wait, asked); asked > retry.MaxBackoff || wait >= time.Until(t.call.Ends) {
		return t.count("no_time")
	}
	if !t.to.service.TryRetry() {
		return t.count("no_budget")
	}
	if t.span != nil {
		t.span.AddEvent("retry", trace.WithAttributes(attribute.Int("sluice.attempt", t.call.Attempts),
			attribute.String("sluice.code", counted(st.Code())), attribute.String("sluice.backend", t.call.Backend)))
	}
	if !sleep(ctx, wait) {
		t.to.service.ReturnRetry()
		return false
	}
	t.count("sent")
	return true
}

func (t *trip) count(result string) bool {
	t.c.metrics.retries.WithLabelValues(t.r.method.Service, t.to.variant, result).Inc()
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

// clean takes away what a failed attempt may have left: a service can fail after it has
// answered.
func clean(out any, opts []grpc.CallOption) {
	switch out := out.(type) {
	case *wire.Frame:
		out.Free()
		*out = wire.Frame{}
	case proto.Message:
		proto.Reset(out)
	}
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = metadata.MD(nil)
		case grpc.TrailerCallOption:
			*o.TrailerAddr = metadata.MD(nil)
		}
	}
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

// answered is a call whose answer has come, and which the edge has yet to read: until
// then nobody knows whether it is one. It is policy.AnswerReader.
type answered struct {
	c      *Conn
	call   *policy.Call
	r      *route
	to     *place
	permit resilience.Permit
	span   trace.Span
	start  time.Time
}

var answers = sync.Pool{New: func() any { return new(answered) }}

// await has the call's books closed when its answer has been read.
func (t *trip) await(permit resilience.Permit, start time.Time) {
	a := answers.Get().(*answered)
	*a = answered{c: t.c, call: t.call, r: t.r, to: t.to, permit: permit, span: t.span, start: start}
	t.call.AwaitRead(a)
}

// AnswerRead implements policy.AnswerReader.
func (a *answered) AnswerRead(err error) {
	o := resilience.Success
	if err != nil {
		if o = resilience.Failure; errors.Is(err, transcode.ErrTooLarge) { // Its size was asked for.
			o = resilience.Ignored
		}
		err = badResponse().Err()
	}
	a.permit.Done(o)
	a.c.done(a.r, a.to, a.call.Attempts, a.span, a.start, err)
	*a = answered{}
	answers.Put(a)
}
