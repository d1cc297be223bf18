package upstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// What came of an attempt decides whether a service's breaker opens, whether one of its
// backends is left out, and how many calls it gets. So nothing that a caller chooses may
// count against a service: when it goes away, how long it waits, what it sends, and how
// large an answer it asks for. docs/resilience.md has the table.

// failure is the status of what a connection returned. A stream that another process
// has reset is a backend that went away, whatever code of HTTP/2 it gave.
func failure(r *route, err error) *status.Status {
	st := statusOf(err)
	if strings.HasPrefix(st.Message(), reset) && st.Code() != codes.DeadlineExceeded {
		return status.New(codes.Unavailable, st.Message())
	}
	return st
}

// The beginnings of grpc-go's texts, of the pinned version; a test produces each.
const (
	reset          = "stream terminated by RST_STREAM"
	httpStatus     = "unexpected HTTP status code received from server: "
	largerThanMost = "grpc: received message larger than max"
	headerTooLarge = "header list size to send violates the maximum size"
	unparsed       = "grpc: failed to unmarshal the received message"
)

// tells is what a failed attempt tells of the service. ctx is the call's, which a
// bound of a single attempt does not end.
func tells(ctx context.Context, call *policy.Call, st *status.Status) resilience.Outcome {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return resilience.Ignored
	case ctx.Err() != nil && call.Shortened:
		return resilience.Ignored
	case ctx.Err() != nil:
		return resilience.Overload
	case call.Edge == policy.EdgeGRPC && unreadable(st):
		return resilience.Success // The caller's bytes were no message: it has read them.
	}
	return judge(st, call.Shortened)
}

// judge is what a status tells of a service and of the backend that gave it. shortened says
// that the deadline was the caller's own, and shorter than the rule's.
func judge(st *status.Status, shortened bool) resilience.Outcome {
	switch st.Code() {
	case codes.Canceled, codes.ResourceExhausted:
		// The latter may be one caller's quota, a request that is too large for the service,
		// or an answer that is too large for us: it must not shut out the others.
		return resilience.Ignored
	case codes.DeadlineExceeded:
		if shortened { // The service may have noticed before we did.
			return resilience.Ignored
		}
		return resilience.Overload
	}
	switch {
	case refusedByHTTP(st), strings.HasPrefix(st.Message(), headerTooLarge),
		shortened && strings.HasPrefix(st.Message(), reset) && strings.HasSuffix(st.Message(), "CANCEL"): // So a server ends what is too late.
		return resilience.Ignored
	case nonsense(st):
		return resilience.Failure
	}
	switch st.Code() {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.DataLoss:
		return resilience.Failure
	}
	return resilience.Success // An answer, if a refusal.
}

// outcome is what a call says of its backend.
func outcome(d balancer.DoneInfo, shortened bool) resilience.Outcome {
	switch {
	case d.Err == nil && !d.BytesSent: // The connection closed before the call began.
		return resilience.Ignored
	case d.Err == nil:
		return resilience.Success
	}
	return judge(status.Convert(d.Err), shortened)
}

// refusedByHTTP recognizes a refusal, in HTTP, of what stands before a service: a request
// that is too large for it, or one of too many.
func refusedByHTTP(st *status.Status) bool {
	rest, ok := strings.CutPrefix(st.Message(), httpStatus)
	if !ok || len(rest) < 3 {
		return false
	}
	code, err := strconv.Atoi(rest[:3])
	return err == nil && code >= 400 && code <= 499
}

// tooLargeRequest recognizes a service's refusal of a request that is larger than it
// takes. The gateway's own, of an answer, names the gateway's bound.
func tooLargeRequest(st *status.Status) bool {
	return st.Code() == codes.ResourceExhausted && strings.HasPrefix(st.Message(), largerThanMost) && !tooLargeAnswer(st)
}

func tooLargeAnswer(st *status.Status) bool {
	return st.Code() == codes.ResourceExhausted && strings.HasPrefix(st.Message(), largerThanMost) &&
		strings.HasSuffix(st.Message(), fmt.Sprintf("vs. %d)", MaxMessageBytes))
}
