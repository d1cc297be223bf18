package upstream

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// ReasonBadResponse marks, as an ErrorInfo of policy.ErrorDomain, an INTERNAL
// that means: the service answered what the gateway cannot read. It is 502
// over HTTP.
const ReasonBadResponse = "BAD_UPSTREAM_RESPONSE"

// What callers read in place of texts that could leak internals.
const (
	msgInternal      = "internal error"
	msgUnavailable   = "the service is unavailable, try again"
	msgDeadline      = "the service did not answer in time"
	msgCanceled      = "the caller went away"
	msgUnimplemented = "the service does not offer this method"
	msgBadResponse   = "the service sent an answer that the gateway cannot read"
	msgBadRequest    = "the request is not a valid message"
	msgWantsName     = "the service wants to know who calls"
	msgBadHeader     = "a header of the request cannot be passed on"
)

// Why a stream ended, as the cause of its context.
var (
	errIdle     = status.Error(codes.DeadlineExceeded, "stream was silent for too long")
	errMaxAge   = status.Error(codes.DeadlineExceeded, "stream reached its maximum age")
	errDraining = status.Error(codes.Unavailable, "the gateway is restarting, connect again")
	errExpired  = expired()
)

// expired is what a caller gets whose credential ended before its stream did.
func expired() error {
	st := status.New(codes.Unauthenticated, "the credential has expired: get another, and connect again")
	if with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: "TOKEN_EXPIRED", Domain: policy.ErrorDomain}); err == nil {
		st = with
	}
	return st.Err()
}

// public turns what a connection returned into the status the caller gets:
// the same for both kinds of connection, and without internals. What is kept
// from the caller goes to the log.
func (c *Conn) public(ctx context.Context, call *policy.Call, r *route, err error) error {
	st := failure(r, err)
	here := r.here != nil && call.Variant == ""
	if !here {
		st = withoutOurs(st)
	}
	public := r.visible(ctx, call, st)
	if here && ctx.Err() == nil && ours(st) {
		return st.Err() // A composite passes on what a branch of its was told here.
	}
	switch public.Code() {
	case codes.Internal, codes.Unavailable, codes.Unimplemented, codes.DeadlineExceeded:
		c.o.Logger.WarnContext(ctx, "upstream failed", "request_id", call.RequestID, "grpc_method", r.method.FullName,
			"upstream", call.Upstream, "variant", call.Variant, "code", st.Code().String(), "error", st.Message())
	}
	return public.Err()
}

// statusOf reads an error as a status, as a TCP server would have sent it,
// but without the text of errors that wrap it. It is never OK, and its code is
// always one of gRPC's.
func statusOf(err error) *status.Status {
	var s interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &s):
		if st := s.GRPCStatus(); st.Code() != codes.OK && st.Code() <= codes.Unauthenticated {
			return st
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err)
	}
	return status.New(codes.Unknown, err.Error())
}

// visible is publicStatus by the method's rule: where the service itself decides whether
// it knows who calls, its refusal is the caller's to read.
func (r *route) visible(ctx context.Context, call *policy.Call, st *status.Status) *status.Status {
	if r.method.Rule.UnauthenticatedByService && st.Code() == codes.Unauthenticated && ctx.Err() == nil && !nonsense(st) {
		return withDetails(st.Code(), st.Message(), st, publicDetail)
	}
	if st.Code() == codes.Unauthenticated && call.Unnamed && ctx.Err() == nil {
		// It was not told who asks, and wants to know, as a branch of a composite may, too:
		// whoever asked does so by name, see wantsName.
		return status.New(codes.PermissionDenied, msgWantsName)
	}
	return publicStatus(ctx, st, call.Edge == policy.EdgeGRPC)
}

// publicStatus is what a caller may know. asBytes says that the caller, not
// the gateway, reads the answer's bytes.
func publicStatus(ctx context.Context, st *status.Status, asBytes bool) *status.Status {
	// The call's own end explains the error better than what the connection
	// made of it. A cause that is a status is meant for the caller: a bound of
	// ours, or the edge that refused one of the caller's messages.
	var cause interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(context.Cause(ctx), &cause):
		return cause.GRPCStatus()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, msgDeadline)
	case errors.Is(ctx.Err(), context.Canceled):
		return status.New(codes.Canceled, msgCanceled)
	case asBytes && unreadable(st):
		// What goes back as bytes is read by the caller: only the request can
		// have been refused, by the service.
		return status.New(codes.InvalidArgument, msgBadRequest)
	case nonsense(st):
		return badResponse()
	case tooLargeRequest(st):
		return requestTooLarge()
	}
	switch st.Code() {
	case codes.Unauthenticated:
		// The caller was authenticated here: it is our assertion that was refused, unless
		// the rule says otherwise (public).
		return status.New(codes.Internal, msgInternal)
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return status.New(codes.Internal, msgInternal)
	case codes.Unavailable:
		return withDetails(codes.Unavailable, msgUnavailable, st, func(d proto.Message) bool {
			_, ok := d.(*errdetails.RetryInfo)
			return ok
		})
	case codes.DeadlineExceeded:
		return status.New(codes.DeadlineExceeded, msgDeadline)
	case codes.Unimplemented:
		return status.New(codes.Unimplemented, msgUnimplemented)
	}
	return withDetails(st.Code(), st.Message(), st, publicDetail)
}

// unreadable recognizes what grpc-go, and gateway/wire in this process, say of
// a message that cannot be parsed.
func unreadable(st *status.Status) bool {
	return st.Code() == codes.Internal && strings.HasPrefix(st.Message(), unparsed)
}

// nonsense recognizes what grpc-go makes of an answer it cannot read. The texts
// are those of the pinned version; a test produces each of them.
func nonsense(st *status.Status) bool {
	m := st.Message()
	switch st.Code() {
	case codes.Internal:
		return unreadable(st) || notGRPC(m) ||
			strings.HasPrefix(m, "grpc: received unexpected payload format") ||
			strings.HasPrefix(m, "cardinality violation: received no response message") ||
			strings.HasPrefix(m, "server closed the stream without sending trailers")
	case codes.ResourceExhausted:
		return tooLargeAnswer(st)
	case codes.Unavailable:
		// The answers of a proxy before the service (429, 502, 503, 504) stay
		// UNAVAILABLE: they mean it.
		return strings.Contains(m, "error reading server preface: http2:")
	case codes.Unknown, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
		return notGRPC(m)
	}
	return false
}

// notGRPC is an HTTP/2 answer without gRPC's content type.
func notGRPC(m string) bool {
	return strings.HasPrefix(m, httpStatus)
}

// ours recognizes what this package, or the check of a credential, has said of
// a branch. Only a composite's answer is believed: a service in another process
// could say so too.
func ours(st *status.Status) bool {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == policy.ErrorDomain {
			switch info.GetReason() {
			case ReasonBadResponse, ReasonBreakerOpen, ReasonOverloaded, ReasonFault:
				return true
			}
			return st.Code() == codes.Unauthenticated
		}
	}
	return false
}

// withoutOurs takes out of a remote service's status what only the gateway may
// say: the edges act on it.
func withoutOurs(st *status.Status) *status.Status {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == policy.ErrorDomain {
			return withDetails(st.Code(), st.Message(), st, func(m proto.Message) bool {
				info, ok := m.(*errdetails.ErrorInfo)
				return !ok || info.GetDomain() != policy.ErrorDomain
			})
		}
	}
	return st
}

func badResponse() *status.Status {
	st, err := status.New(codes.Internal, msgBadResponse).WithDetails(&errdetails.ErrorInfo{Reason: ReasonBadResponse, Domain: policy.ErrorDomain})
	if err != nil {
		return status.New(codes.Internal, msgBadResponse)
	}
	return st
}

// publicDetail lets the standard details pass that are meant for callers:
// google.rpc.DebugInfo and types unknown to us stay inside.
func publicDetail(d proto.Message) bool {
	switch d.(type) {
	case *errdetails.BadRequest, *errdetails.ErrorInfo, *errdetails.PreconditionFailure, *errdetails.QuotaFailure,
		*errdetails.ResourceInfo, *errdetails.RetryInfo, *errdetails.Help, *errdetails.LocalizedMessage:
		return true
	}
	return false
}

// An answer's details are bounded: they travel in the trailers of HTTP/2, where
// too many end the whole connection, and other calls with it.
const (
	maxViolations  = 20
	maxDetailBytes = 6 << 10
)

func withDetails(code codes.Code, msg string, from *status.Status, keep func(proto.Message) bool) *status.Status {
	st := status.New(code, msg)
	left := maxDetailBytes
	for _, d := range from.Details() {
		m, ok := d.(proto.Message)
		if !ok || !keep(m) {
			continue
		}
		if br, ok := m.(*errdetails.BadRequest); ok && len(br.GetFieldViolations()) > maxViolations {
			m = &errdetails.BadRequest{FieldViolations: br.GetFieldViolations()[:maxViolations]}
		}
		if left -= proto.Size(m); left < 0 {
			break
		}
		if next, err := st.WithDetails(protoadapt.MessageV1Of(m)); err == nil {
			st = next
		}
	}
	return st
}
