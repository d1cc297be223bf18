package aggregator

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
)

// run runs a branch and says how it failed; nil means it succeeded. A branch
// whose context has ended is not started, so that a cancelled fan-out sends
// nothing more.
func (o FanoutOptions) run(ctx context.Context, name string, run Branch) (failed *status.Status) {
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err)
	}
	defer func() {
		// A panic in a goroutine would end the process, and its text may hold
		// anything: it goes to the log, the caller learns INTERNAL.
		if p := recover(); p != nil {
			o.Logger.ErrorContext(ctx, "branch panicked",
				slog.String("branch", name), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			failed = status.New(codes.Internal, "internal error")
		}
	}()
	return statusOf(ctx, run(ctx))
}

// statusOf makes a branch's error a status, with its details. What wraps a
// status, and errors that are none, are dropped: their text is not meant for
// callers.
func statusOf(ctx context.Context, err error) *status.Status {
	if err == nil {
		return nil
	}
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) {
		if st := carrier.GRPCStatus(); st.Code() != codes.OK {
			return st
		}
		return status.New(codes.Internal, "internal error") // an error that claims to be none
	}
	if end := ctx.Err(); end != nil {
		return status.FromContextError(end)
	}
	if errors.Is(err, context.DeadlineExceeded) { // a wrapper's own, shorter deadline
		return status.FromContextError(context.DeadlineExceeded)
	}
	return status.New(codes.Unknown, "unknown error")
}

// partialFailure is the entry of an optional branch that could not be had.
func partialFailure(branch string, failed *status.Status) *bffv1.PartialFailure {
	return &bffv1.PartialFailure{
		Branch:    branch,
		Code:      codeName(failed.Code()),
		Retryable: retryable(failed.Code()),
	}
}

// codeName is a code's name in the form of google.rpc.Code, such as NOT_FOUND;
// a number without a name is UNKNOWN.
func codeName(c codes.Code) string {
	if name, ok := code.Code_name[int32(c)]; ok { //nolint:gosec // a code is below 2^31
		return name
	}
	return code.Code_UNKNOWN.String()
}

// retryable says whether the same request may succeed a little later.
func retryable(c codes.Code) bool {
	switch c {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted:
		return true
	default:
		return false
	}
}
