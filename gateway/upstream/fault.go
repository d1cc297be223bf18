package upstream

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// ReasonFault marks a failure on purpose.
const ReasonFault = "FAULT_INJECTED"

// Fault is a failure on purpose, for staging: to see what callers make of it. It stands
// before breaker and retries, so neither is told of it, nor hides it.
type Fault struct {
	// Delay is how long a call waits before it is sent, within its deadline.
	Delay time.Duration
	// Abort is the code that is answered in the place of the service; OK means none.
	Abort codes.Code
	// Percent of the calls.
	Percent float64
	// Header that a call must have, with this Value where that is not empty.
	Header, Value string
	// Methods that it strikes, by their short names; empty means all.
	Methods []string
}

func (f *Fault) check() error {
	switch {
	case f.Delay < 0:
		return errors.New("delay must not be negative")
	case f.Delay == 0 && f.Abort == codes.OK:
		return errors.New("it has neither delay nor abort")
	case f.Abort > codes.Unauthenticated:
		return errors.New("abort is no code of gRPC")
	case !(f.Percent > 0 && f.Percent <= 100):
		return errors.New("percent must be above 0, and 100 at most")
	}
	return nil
}

type fault struct {
	Fault
	header policy.Header
}

func (f *Fault) compile() fault { return fault{*f, policy.NewHeader(f.Header)} }

func (f *fault) strikes(call *policy.Call) bool {
	if f.Header != "" {
		if call.Headers == nil {
			return false
		}
		have := call.Headers(f.header.On(call.Edge))
		if len(have) == 0 || f.Value != "" && !slices.Contains(have, f.Value) {
			return false
		}
	}
	return drawn(f.Percent)
}

// fail lets a call have its fault. The error is the caller's answer.
func (c *Conn) fail(ctx context.Context, call *policy.Call, r *route, f *fault) error {
	if !f.strikes(call) {
		return nil
	}
	if f.Delay > 0 {
		c.metrics.faults.WithLabelValues(r.method.Service, "delay").Inc()
		if !sleep(ctx, f.Delay) {
			return publicStatus(ctx, status.FromContextError(ctx.Err()), false).Err()
		}
		call.Shortened = true // The service has less time than its rule gives.
	}
	if f.Abort == codes.OK {
		return nil
	}
	c.metrics.faults.WithLabelValues(r.method.Service, "abort").Inc()
	st := status.New(f.Abort, "a failure on purpose, by the operator's configuration")
	if with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: ReasonFault, Domain: policy.ErrorDomain}); err == nil {
		st = with
	}
	return st.Err()
}

// sleep waits, and says false where the context ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
