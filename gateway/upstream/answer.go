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
)

var (
	errIdle   = errors.New("stream was silent for too long")
	errMaxAge = errors.New("stream reached its maximum age")
	// errDraining is UNAVAILABLE: the caller should connect again.
	errDraining = errors.New("the gateway is restarting, connect again")
)

// answer turns what a connection returned into the status the caller gets:
// the same for both kinds of connection, and without internals. What is kept
// from the caller goes to the log.
func (c *Conn) answer(ctx context.Context, call *policy.Call, r *route, err error) error {
	st := statusOf(err)
	public := publicStatus(ctx, st)
	switch public.Code() {
	case codes.Internal, codes.Unavailable, codes.Unimplemented, codes.DeadlineExceeded:
		c.o.Logger.WarnContext(ctx, "upstream failed", "request_id", call.RequestID, "grpc_method", r.method.FullName,
			"upstream", r.name, "code", st.Code().String(), "error", st.Message())
	}
	return public.Err()
}

// statusOf reads an error as a status, as a TCP server would have sent it,
// but without the text of errors that wrap it.
func statusOf(err error) *status.Status {
	var s interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &s):
		return s.GRPCStatus()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err)
	}
	return status.New(codes.Unknown, err.Error())
}

func publicStatus(ctx context.Context, st *status.Status) *status.Status {
	// The call's own end explains the error better than what the connection
	// made of it.
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errIdle), errors.Is(cause, errMaxAge):
		return status.New(codes.DeadlineExceeded, cause.Error())
	case errors.Is(cause, errDraining):
		return status.New(codes.Unavailable, cause.Error())
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, msgDeadline)
	case errors.Is(ctx.Err(), context.Canceled):
		return status.New(codes.Canceled, msgCanceled)
	}
	if nonsense(st) {
		return badResponse()
	}
	switch st.Code() {
	case codes.Unauthenticated:
		// The caller was authenticated here: it is our assertion that was refused.
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

// nonsense recognizes what grpc-go makes of an answer it cannot read. The texts
// are those of the pinned version; a test holds each of them.
func nonsense(st *status.Status) bool {
	m := st.Message()
	switch st.Code() {
	case codes.Internal:
		return strings.HasPrefix(m, "grpc: failed to unmarshal") || strings.HasPrefix(m, "grpc: error unmarshalling")
	case codes.ResourceExhausted:
		return strings.HasPrefix(m, "grpc: received message larger than max")
	case codes.Unknown, codes.Unavailable, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
		return strings.HasPrefix(m, "unexpected HTTP status code received from server") ||
			strings.Contains(m, "malformed header: missing HTTP content-type") ||
			strings.Contains(m, "received unexpected content-type")
	}
	return false
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

func withDetails(code codes.Code, msg string, from *status.Status, keep func(proto.Message) bool) *status.Status {
	st := status.New(code, msg)
	for _, d := range from.Details() {
		m, ok := d.(proto.Message)
		if !ok || !keep(m) {
			continue
		}
		if next, err := st.WithDetails(protoadapt.MessageV1Of(m)); err == nil {
			st = next
		}
	}
	return st
}
