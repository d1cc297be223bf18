package httpedge

import (
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// The errors that the edge itself makes.

// EdgeError is an error that the edge itself makes: a status that is answered with
// httpCode.
func EdgeError(code codes.Code, httpCode int, reason, msg string) error {
	st := status.New(code, msg)
	with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: policy.ErrorDomain, Metadata: map[string]string{metaStatus: strconv.Itoa(httpCode)}})
	if err != nil {
		return st.Err()
	}
	return with.Err()
}

// BadField says what is wrong with one field of a request.
func BadField(field, reason string) error { return BadFields([]FieldError{{field, reason}}) }

// BadFields says what is wrong with fields of a request.
func BadFields(bad []FieldError) error {
	br := &errdetails.BadRequest{}
	for _, f := range bad {
		br.FieldViolations = append(br.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: strings.ToValidUTF8(f.Field, "\uFFFD"), Description: strings.ToValidUTF8(f.Reason, "\uFFFD"), // A name may be the caller's.
		})
	}
	st := status.New(codes.InvalidArgument, "the request is not valid")
	if with, err := st.WithDetails(br); err == nil {
		st = with
	}
	return st.Err()
}

func badPath(err error) error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "PATH_REFUSED", err.Error())
}

func badTarget() error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "TARGET_REFUSED", "the request target is not a path of this API")
}

func badMethod() error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "TARGET_REFUSED", "the method is not a token: a space or a control character is in it")
}

func spaceInTarget() error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "TARGET_REFUSED", "the request target has a space or a control character: write %20 for a space")
}

func paddedHeader(name string) error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "HEADER_REFUSED", "the header "+name+" begins or ends with a space")
}

func badHost() error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "HOST_REFUSED", "the Host is no host, or there are two of them")
}

func urlTooLong(limit int) error {
	return EdgeError(codes.ResourceExhausted, http.StatusRequestURITooLong, "URL_TOO_LONG",
		"the URL is longer than "+strconv.Itoa(limit)+" bytes")
}

func tooManyHeaders(limit int) error {
	return EdgeError(codes.ResourceExhausted, http.StatusRequestHeaderFieldsTooLarge, "TOO_MANY_HEADERS",
		"the request has more than "+strconv.Itoa(limit)+" header lines")
}

func tooManyParameters(limit int) error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "TOO_MANY_QUERY_PARAMETERS",
		"the query has more than "+strconv.Itoa(limit)+" parameters")
}

func crossOriginRefused() error {
	return EdgeError(codes.PermissionDenied, http.StatusForbidden, "CROSS_ORIGIN",
		"a page of another origin may not do this with its user's client certificate")
}

func noSuchPath() error {
	return EdgeError(codes.NotFound, http.StatusNotFound, "NO_SUCH_PATH", "no such path; /docs lists what there is")
}

func methodNotAllowed(allow string) error {
	return EdgeError(codes.Unimplemented, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "the path takes "+allow)
}

const reasonEncoding = "UNSUPPORTED_ENCODING"

func unsupportedEncoding() error {
	return EdgeError(codes.InvalidArgument, http.StatusUnsupportedMediaType, reasonEncoding,
		"a body may have the Content-Encoding gzip, once, and no other")
}

func badGzip() error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "BODY_NOT_GZIP", "the body is not what Content-Encoding says: one gzip member and nothing behind it")
}

// BodyTooLarge is for a body, or a message of one, of more than limit bytes.
func BodyTooLarge(limit int64) error {
	return EdgeError(codes.ResourceExhausted, http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE",
		"the body is larger than the "+strconv.FormatInt(limit, 10)+" bytes this call takes")
}

func decodedTooLarge(limit int64) error {
	return EdgeError(codes.ResourceExhausted, http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE",
		"the body, unpacked, is larger than the "+strconv.FormatInt(limit, 10)+" bytes this call takes")
}

func bodyTooSlow() error {
	return EdgeError(codes.DeadlineExceeded, http.StatusRequestTimeout, "BODY_TOO_SLOW", "the body did not arrive in time")
}

func bodyBroken() error {
	return EdgeError(codes.InvalidArgument, http.StatusBadRequest, "BODY_BROKEN", "the body could not be read")
}

// BadResponse is for an answer of a service that is not what its descriptor says. Why is
// for the operator alone.
func BadResponse() error {
	st := status.New(codes.Internal, "the service sent an answer that the gateway cannot read")
	if with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: ReasonBadResponse, Domain: policy.ErrorDomain}); err == nil {
		st = with
	}
	return st.Err()
}
