package upstream

import (
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transcode"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// ReasonTooLarge marks a request that is too large. Both edges have it, too.
const ReasonTooLarge = "BODY_TOO_LARGE"

// A request that no service can read is refused before anything is asked to take it: sent,
// it would come back as INTERNAL, and anyone could have a service's breaker opened, or its
// backends left out, by requests that are none.

// readable refuses bytes of a caller that are no message of the method. Composites make
// their own requests.
func (r *route) readable(call *policy.Call, request []byte) error {
	if call.Edge == policy.EdgeBranch {
		return nil
	}
	return badRequest(r.request.CheckRequest(request))
}

// Encode sets a frame to a request that came typed, once, before anything looks at it. A
// message that has no wire form, for a required field is not set or text is not UTF-8, is
// the caller's mistake: the error says so, and names the field. room is as of Frame.Encode.
func Encode(f *wire.Frame, m proto.Message, room []byte) error {
	if f.Encode(m, room) != nil {
		return badRequest(transcode.Unwritable(m))
	}
	return nil
}

// badRequest is the answer to a request that is not valid.
func badRequest(err error) error {
	if err == nil {
		return nil
	}
	st := status.New(codes.InvalidArgument, msgBadRequest)
	var e *transcode.Error
	if !errors.As(err, &e) || e.Field == "" {
		return st.Err()
	}
	with, err := st.WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: e.Field, Description: e.Reason}}})
	if err != nil {
		return st.Err()
	}
	return with.Err()
}

// requestTooLarge is the answer to a request that is larger than its service takes: 413
// over REST, as for one that is larger than its method's rule allows.
func requestTooLarge() *status.Status {
	st := status.New(codes.ResourceExhausted, "the request is larger than the service takes")
	info := &errdetails.ErrorInfo{Reason: ReasonTooLarge, Domain: policy.ErrorDomain, Metadata: map[string]string{"http_status": "413"}}
	if with, err := st.WithDetails(info); err == nil {
		st = with
	}
	return st
}
