package limit

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Reasons of the errors of this package (google.rpc.ErrorInfo).
const (
	// ReasonRateLimited is a rate without room: RetryInfo says how long to wait,
	// and is absent where the call costs more than the rate ever holds.
	ReasonRateLimited = "RATE_LIMITED"
	// ReasonQuotaExceeded is a quota used up until its period ends.
	ReasonQuotaExceeded = "QUOTA_EXCEEDED"
	// ReasonTooManyInFlight is a bound on calls at once.
	ReasonTooManyInFlight = "TOO_MANY_IN_FLIGHT"
	// ReasonAddressRateLimited is the limit of an address over all its requests.
	ReasonAddressRateLimited = "ADDRESS_RATE_LIMITED"
	// ReasonUnavailable means that nothing could be decided, so nobody may.
	ReasonUnavailable = "LIMITS_UNAVAILABLE"
)

// soon is the time to wait where nobody knows better.
const soon = time.Second

// refusal makes a status with its details; a negative retry means never.
func refusal(code codes.Code, reason, msg string, meta map[string]string, retry time.Duration) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reason, Domain: policy.ErrorDomain, Metadata: meta}}
	if retry >= 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	st, err := status.New(code, msg).WithDetails(details...)
	if err != nil { // Only an invalid code can fail here.
		return status.Error(code, msg)
	}
	return st.Err()
}

// unavailable answers a call about which nothing could be decided.
func unavailable(ctx context.Context, c *policy.Call, why string) error {
	c.Why = why
	if err := ctx.Err(); err != nil { // The caller has gone, or its time is over.
		return status.FromContextError(err).Err()
	}
	return refusal(codes.Unavailable, ReasonUnavailable, "the limits of this call cannot be checked now: retry in a second", nil, soon)
}

// worst is the budget without room that takes longest to have some, or nil.
func worst(budgets []*budget, answers []Answer) (*budget, *Answer) {
	var b *budget
	var of *Answer
	for i := range answers {
		a := &answers[i]
		if !a.OK && (of == nil || (of.Retry >= 0 && (a.Retry < 0 || a.Retry > of.Retry))) {
			b, of = budgets[i], a
		}
	}
	return b, of
}

// overBudget answers a call for which b has no room.
func overBudget(class string, b *budget, a *Answer, cost int64) error {
	reason := ReasonRateLimited
	if b.quota {
		reason = ReasonQuotaExceeded
	}
	meta := map[string]string{"limit": b.name, "class": class}
	if a.Retry < 0 {
		msg := fmt.Sprintf("this call costs %d, more than the limit %s (%s) ever holds: it is never admitted", cost, b.name, b.words)
		return refusal(codes.ResourceExhausted, reason, msg, meta, -1)
	}
	wait := b.wait(a.Retry)
	msg := fmt.Sprintf("too many calls: the limit %s is %s; retry in %v", b.name, b.words, wait)
	if b.quota {
		msg = fmt.Sprintf("the quota %s of %s is used up; it starts again in %v", b.name, b.words, wait)
	}
	return refusal(codes.ResourceExhausted, reason, msg, meta, wait)
}
