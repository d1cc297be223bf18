package rest

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

func edgeError(code codes.Code, httpCode int, reason, msg string) error {
	st := status.New(code, msg)
	with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: policy.ErrorDomain, Metadata: map[string]string{metaStatus: strconv.Itoa(httpCode)}})
	if err != nil {
		return st.Err()
	}
	return with.Err()
}

func badField(field, reason string) error { return badFields([]FieldError{{field, reason}}) }

func badFields(bad []FieldError) error {
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
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "PATH_REFUSED", err.Error())
}

func badTarget() error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "TARGET_REFUSED", "the request target is not a path of this API")
}

func badMethod() error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "TARGET_REFUSED", "the method is not a token: a space or a control character is in it")
}

func spaceInTarget() error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "TARGET_REFUSED", "the request target has a space or a control character: write %20 for a space")
}

func paddedHeader(name string) error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "HEADER_REFUSED", "the header "+name+" begins or ends with a space")
}

func badHost() error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "HOST_REFUSED", "the Host is no host, or there are two of them")
}

func urlTooLong(limit int) error {
	return edgeError(codes.ResourceExhausted, http.StatusRequestURITooLong, "URL_TOO_LONG",
		"the URL is longer than "+strconv.Itoa(limit)+" bytes")
}

func tooManyHeaders(limit int) error {
	return edgeError(codes.ResourceExhausted, http.StatusRequestHeaderFieldsTooLarge, "TOO_MANY_HEADERS",
		"the request has more than "+strconv.Itoa(limit)+" header lines")
}

func tooManyParameters(limit int) error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "TOO_MANY_QUERY_PARAMETERS",
		"the query has more than "+strconv.Itoa(limit)+" parameters")
}

func crossOriginRefused() error {
	return edgeError(codes.PermissionDenied, http.StatusForbidden, "CROSS_ORIGIN",
		"a page of another origin may not do this with its user's client certificate")
}

func noSuchPath() error {
	return edgeError(codes.NotFound, http.StatusNotFound, "NO_SUCH_PATH", "no such path; /docs lists what there is")
}

func methodNotAllowed(allow string) error {
	return edgeError(codes.Unimplemented, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "the path takes "+allow)
}

func unsupportedMedia() error {
	return edgeError(codes.InvalidArgument, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE",
		"the body must be JSON: send `Content-Type: application/json`")
}

func brokenMedia() error {
	return edgeError(codes.InvalidArgument, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "the Content-Type is no media type")
}

func preconditionRefused(header string) error {
	return edgeError(codes.FailedPrecondition, http.StatusPreconditionFailed, "PRECONDITION_REFUSED",
		header+" cannot be granted: answers of this call have no strong entity tag to compare with")
}

const reasonEncoding = "UNSUPPORTED_ENCODING"

func unsupportedEncoding() error {
	return edgeError(codes.InvalidArgument, http.StatusUnsupportedMediaType, reasonEncoding,
		"a body may have the Content-Encoding gzip, once, and no other")
}

func badGzip() error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "BODY_NOT_GZIP", "the body is not what Content-Encoding says: one gzip member and nothing behind it")
}

func bodyTooLarge(limit int64) error {
	return edgeError(codes.ResourceExhausted, http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE",
		"the body is larger than the "+strconv.FormatInt(limit, 10)+" bytes this call takes")
}

func decodedTooLarge(limit int64) error {
	return edgeError(codes.ResourceExhausted, http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE",
		"the body, unpacked, is larger than the "+strconv.FormatInt(limit, 10)+" bytes this call takes")
}

func jsonTooDeep(limit int) error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "JSON_TOO_DEEP",
		"the body nests deeper than "+strconv.Itoa(limit)+" objects and arrays")
}

func bodyTooSlow() error {
	return edgeError(codes.DeadlineExceeded, http.StatusRequestTimeout, "BODY_TOO_SLOW", "the body did not arrive in time")
}

func bodyBroken() error {
	return edgeError(codes.InvalidArgument, http.StatusBadRequest, "BODY_BROKEN", "the body could not be read")
}
