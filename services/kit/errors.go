package kit

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// errorDomain is the domain of every google.rpc.ErrorInfo of the shop.
const errorDomain = "shop"

// InvalidField returns INVALID_ARGUMENT with one google.rpc.BadRequest violation
// of field, a path in the request such as "order.lines[1].price". The reason is
// for programs, the format for people. Long texts are shortened: they may quote
// the caller.
func InvalidField(field, reason, format string, args ...any) error {
	return invalid(&errdetails.BadRequest_FieldViolation{
		Field: field, Reason: reason, Description: fmt.Sprintf(format, args...),
	})
}

// Bounds of what an INVALID_ARGUMENT says, in bytes where not said otherwise. Its
// whole google.rpc.Status stays below 4 KiB: gRPC sends it in trailers, and a peer
// that gets more of them than it accepts closes the connection, with every other
// call on it.
const (
	maxViolations       = 20 // a count
	maxViolationsBytes  = 3 << 10
	maxFieldBytes       = 200
	maxDescriptionBytes = 400
	maxReasonBytes      = 100
	maxKeyBytes         = 40 // of a key that a client chose, in a path or a text
)

// bounded returns the first violations that fit, with their texts shortened.
func bounded(violations []*errdetails.BadRequest_FieldViolation) []*errdetails.BadRequest_FieldViolation {
	size := 0
	for i, v := range violations {
		v.Field = shortened(v.GetField(), maxFieldBytes)
		v.Description = shortened(v.GetDescription(), maxDescriptionBytes)
		v.Reason = shortened(v.GetReason(), maxReasonBytes)
		if size += proto.Size(v) + 3; i == maxViolations || size > maxViolationsBytes { // 3: tag and length
			return violations[:i]
		}
	}
	return violations
}

// shortened returns s cut to at most limit bytes, between characters and with an
// ellipsis for what is missing.
func shortened(s string, limit int) string {
	const ellipsis = "…"
	if len(s) <= limit {
		return s
	}
	end := limit - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

func invalid(violations ...*errdetails.BadRequest_FieldViolation) error {
	violations = bounded(violations)
	msg := "invalid request"
	if len(violations) > 0 {
		first := violations[0]
		msg = "invalid request: " + first.GetDescription()
		if first.GetField() != "" {
			msg = fmt.Sprintf("invalid request: %s: %s", first.GetField(), first.GetDescription())
		}
	}
	return withDetails(codes.InvalidArgument, msg, &errdetails.BadRequest{FieldViolations: violations})
}

// NotFound returns NOT_FOUND.
func NotFound(format string, args ...any) error {
	return status.Errorf(codes.NotFound, format, args...)
}

// AlreadyExists returns ALREADY_EXISTS.
func AlreadyExists(format string, args ...any) error {
	return status.Errorf(codes.AlreadyExists, format, args...)
}

// StaleEtag returns ABORTED: what was changed has changed since (AIP-154).
func StaleEtag(what string) error {
	return withDetails(codes.Aborted, what+" has changed since: the etag is stale",
		&errdetails.ErrorInfo{Reason: "STALE_ETAG", Domain: errorDomain})
}

// IdempotencyKeyReused returns ABORTED: the key was used before, with another
// request.
func IdempotencyKeyReused() error {
	return withDetails(codes.Aborted, "request_id was used before with another request",
		&errdetails.ErrorInfo{Reason: "IDEMPOTENCY_KEY_REUSED", Domain: errorDomain})
}

// IllegalState returns FAILED_PRECONDITION: subject is not in a state that allows
// the move.
func IllegalState(subject, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	return withDetails(codes.FailedPrecondition, msg, &errdetails.PreconditionFailure{
		Violations: []*errdetails.PreconditionFailure_Violation{{Type: "STATE", Subject: subject, Description: msg}},
	})
}

// RequireOwner returns PERMISSION_DENIED unless the caller owns userID. The
// gateway has checked it; this holds where a caller came another way.
func RequireOwner(ctx context.Context, userID string) error {
	if !CallerFrom(ctx).Owns(userID) {
		return status.Error(codes.PermissionDenied, "caller does not own this resource")
	}
	return nil
}

// RequireScope returns PERMISSION_DENIED unless the caller has the scope.
func RequireScope(ctx context.Context, scope string) error {
	if !CallerFrom(ctx).HasScope(scope) {
		return status.Errorf(codes.PermissionDenied, "caller lacks scope %s", scope)
	}
	return nil
}

func withDetails(code codes.Code, msg string, detail protoadapt.MessageV1) error {
	st, err := status.New(code, msg).WithDetails(detail)
	if err != nil { // Only for a detail that cannot be marshalled.
		return status.Error(code, msg)
	}
	return st.Err()
}

// outward turns what a handler returned into what the peer may see. A status
// anywhere in the chain keeps its code, message and details, and loses the text
// that was wrapped around it; everything else tells nothing.
func outward(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) {
		if st := carrier.GRPCStatus(); st.Code() != codes.OK {
			return st.Err()
		}
	}
	for _, ended := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, ended) {
			return status.FromContextError(ended).Err()
		}
	}
	if ctx.Err() != nil { // What a driver says when it is interrupted.
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(codes.Internal, "internal error")
}

// isFault reports whether a code means that the service, not the caller, failed:
// an operator should then read the cause.
func isFault(c codes.Code) bool {
	switch c {
	case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unavailable:
		return true
	}
	return false
}
