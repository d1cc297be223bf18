package rest

import (
	"net/http"
	"strconv"

	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// The errors that JSON over HTTP itself makes, beside those of every HTTP protocol.

func unsupportedMedia() error {
	return httpedge.EdgeError(codes.InvalidArgument, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE",
		"the body must be JSON: send `Content-Type: application/json`")
}

func brokenMedia() error {
	return httpedge.EdgeError(codes.InvalidArgument, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "the Content-Type is no media type")
}

func preconditionRefused(header string) error {
	return httpedge.EdgeError(codes.FailedPrecondition, http.StatusPreconditionFailed, "PRECONDITION_REFUSED",
		header+" cannot be granted: answers of this call have no strong entity tag to compare with")
}

func jsonTooDeep(limit int) error {
	return httpedge.EdgeError(codes.InvalidArgument, http.StatusBadRequest, "JSON_TOO_DEEP",
		"the body nests deeper than "+strconv.Itoa(limit)+" objects and arrays")
}
