package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// outcome is what an attempt tells breakers and balancers: nothing of it may be the
// caller's to choose, as with RPCs (upstream/outcome.go; docs/resilience.md has the table).
func (q *Request) outcome(ctx context.Context, res *http.Response, err error) resilience.Outcome {
	if err == nil {
		return outcomeOf(res.StatusCode)
	}
	attempt, exchange := errors.Is(err, errHeaderLate), errors.Is(context.Cause(ctx), errHeaderLate)
	late := attempt || exchange
	switch {
	case q.upload.cut(late), exchange && q.delayed:
		return resilience.Ignored
	case late:
		return resilience.Overload
	case ctx.Err() != nil: // The caller went away.
		return resilience.Ignored
	case status.Code(err) != codes.Unknown: // A part of the request that was refused.
		return resilience.Ignored
	case unsendable(err), tooLarge(err), q.upgrades() && connected(err): // Some end the connection for a handshake that they do not like.
		return resilience.Ignored
	}
	return resilience.Failure
}

// outcomeOf is what the status of an answer tells. 501 and 505 are about the request.
func outcomeOf(httpStatus int) resilience.Outcome {
	switch {
	case httpStatus == http.StatusServiceUnavailable:
		return resilience.Overload
	case httpStatus >= http.StatusInternalServerError && httpStatus != http.StatusNotImplemented && httpStatus != http.StatusHTTPVersionNotSupported:
		return resilience.Failure
	}
	return resilience.Success
}

func (q *Request) upgrades() bool { return q.in != nil && q.in.Header["Upgrade"] != nil }

// unsendable recognizes what net/http says of a request of which it sends nothing:
// http.ClientConn without the "net/" of http.Transport. The errors have no types.
func unsendable(err error) bool {
	what, found := strings.CutPrefix(strings.TrimPrefix(err.Error(), "net/"), "http: invalid ")
	return found && (strings.HasPrefix(what, "method ") || strings.HasPrefix(what, "header ") || strings.HasPrefix(what, "trailer "))
}

// tooLarge recognizes an answer whose header is too large, which may repeat what was asked.
func tooLarge(err error) bool {
	return strings.Contains(err.Error(), "server response headers exceeded")
}

// connected says that a backend was reached, and ended the connection then.
func connected(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	if errors.As(err, &dns) || errors.Is(err, errHandshake) || errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	return unreached(err)
}
