package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// What callers read: the same words as of an RPC's service (upstream/answer.go).
const (
	msgInternal    = "internal error"
	msgUnavailable = "the service is unavailable, try again"
	msgDeadline    = "the service did not answer in time"
	msgCanceled    = "the caller went away"
	msgBadResponse = "the service sent an answer that the gateway cannot read"
	msgBreakerOpen = "the service is failing and is left alone for a moment, try again later"
	msgOverloaded  = "the service has as many calls as it can take, try again later"
)

// Reasons of an UNAVAILABLE with which the gateway spares a service a request: those of
// upstream/attempt.go.
const (
	reasonBreakerOpen = "UPSTREAM_BREAKER_OPEN"
	reasonOverloaded  = "UPSTREAM_OVERLOADED"
)

// reasonBadResponse is upstream.ReasonBadResponse: gateway/httpedge makes 502 of it.
const reasonBadResponse = "BAD_UPSTREAM_RESPONSE"

// metaStatus is the key under which gateway/httpedge finds the HTTP status of an error.
const metaStatus = "http_status"

// Why an exchange was ended, as the cause of its context.
var (
	errHeaderLate = status.Error(codes.DeadlineExceeded, msgDeadline)
	errIdle       = status.Error(codes.DeadlineExceeded, "stream was silent for too long")
	errDraining   = status.Error(codes.Unavailable, "the gateway is restarting, connect again")
	errMaxAge     = status.Error(codes.DeadlineExceeded, "stream reached its maximum age")
	errExpired    = withInfo(codes.Unauthenticated, "the credential has expired: get another, and connect again", "TOKEN_EXPIRED", 0)
	errNoBackend  = errors.New("no backend")
	errNonsense   = errors.New("nonsense")
)

func withInfo(code codes.Code, msg, reason string, httpStatus int) error {
	info := &errdetails.ErrorInfo{Reason: reason, Domain: policy.ErrorDomain}
	if httpStatus != 0 {
		info.Metadata = map[string]string{metaStatus: strconv.Itoa(httpStatus)}
	}
	return detailed(code, msg, info)
}

func detailed(code codes.Code, msg string, d ...protoadapt.MessageV1) error {
	st := status.New(code, msg)
	if with, err := st.WithDetails(d...); err == nil {
		st = with
	}
	return st.Err()
}

// refused is the answer to a request that was not sent.
func refused(r *resilience.Rejection) error {
	msg, reason := msgOverloaded, reasonOverloaded
	if r.Reason == resilience.ReasonBreaker {
		msg, reason = msgBreakerOpen, reasonBreakerOpen
	}
	return detailed(codes.Unavailable, msg, &errdetails.ErrorInfo{Reason: reason, Domain: policy.ErrorDomain},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(r.RetryAfter)})
}

func badPath(err error) error {
	return withInfo(codes.InvalidArgument, err.Error(), "PATH_REFUSED", http.StatusBadRequest)
}

func repeatedHeader(name string) error {
	return withInfo(codes.InvalidArgument, "the header "+name+" is given more than once", "HEADER_REPEATED", http.StatusBadRequest)
}

func badResponse() error {
	return withInfo(codes.Internal, msgBadResponse, reasonBadResponse, 0)
}

func badBody(err error) error {
	var b *BodyError
	if !errors.As(err, &b) {
		return err
	}
	return detailed(codes.InvalidArgument, "the request is not valid",
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: b.Path, Description: b.Reason}}})
}

func wrongMedia(msg string) error {
	return withInfo(codes.InvalidArgument, msg, "UNSUPPORTED_MEDIA_TYPE", http.StatusUnsupportedMediaType)
}

// public turns what went wrong into what the caller may know. An error that is a
// status already is meant for it: 503 for a service that was not reached or went
// away, 502 for one that answered nonsense, 504 for one that was too late.
func public(ctx context.Context, err error) error {
	var st interface{ GRPCStatus() *status.Status }
	if errors.As(context.Cause(ctx), &st) || errors.As(err, &st) {
		return st.GRPCStatus().Err()
	}
	var rejected *resilience.Rejection
	switch {
	case errors.As(err, &rejected):
		return refused(rejected)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errHeaderLate
	case errors.Is(ctx.Err(), context.Canceled):
		return status.Error(codes.Canceled, msgCanceled)
	case errors.Is(err, context.DeadlineExceeded):
		return errHeaderLate
	case unreached(err):
		return status.Error(codes.Unavailable, msgUnavailable)
	}
	return badResponse()
}

// unreached says whether an attempt failed because nobody was there, or went away
// before the answer: then another backend may do better.
func unreached(err error) bool {
	var dial *net.OpError
	var dns *net.DNSError
	switch {
	case errors.Is(err, errNonsense):
		return false
	case errors.Is(err, errNoBackend), errors.As(err, &dns), errors.As(err, &dial),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, errHandshake),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNREFUSED):
		return true
	}
	return err != nil && err.Error() == "http: server closed idle connection"
}

// codeOf is the gRPC code that a status counts as: in metrics, and to retry rules.
func codeOf(httpStatus int) codes.Code {
	switch {
	case httpStatus < http.StatusBadRequest:
		return codes.OK
	case httpStatus >= http.StatusInternalServerError:
		switch httpStatus {
		case http.StatusNotImplemented:
			return codes.Unimplemented
		case http.StatusServiceUnavailable:
			return codes.Unavailable
		case http.StatusGatewayTimeout:
			return codes.DeadlineExceeded
		}
		return codes.Internal
	}
	switch httpStatus {
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound, http.StatusGone:
		return codes.NotFound
	case http.StatusConflict:
		return codes.Aborted
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	}
	return codes.InvalidArgument
}
