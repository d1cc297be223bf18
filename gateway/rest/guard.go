package rest

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// arrive begins the one Call that the request has and runs the checks that
// every request meets, before anything about it but its address is looked at.
func (s *Server) arrive(ctx context.Context, x *exchange) (context.Context, error) {
	headers := x.headerValues()
	if s.o.Client != nil {
		x.observed.Client = s.o.Client(x.observed.Peer.Addr(), headers)
	}
	if s.o.HTTP != nil {
		x.webSocket = asksForWebSocket(x.r)
	}
	dropHopByHop(x.r.Header)
	c := &x.call
	c.Edge, c.RequestID = policy.EdgeREST, x.observed.ID
	c.Peer, c.Client = x.observed.Peer, x.observed.Client
	c.Headers, c.Annotate = headers, x.annotate
	c.Principal = policy.Anonymous
	if t := x.r.TLS; t != nil && len(t.VerifiedChains) > 0 {
		c.PeerCertificate, c.PeerChains = t.VerifiedChains[0][0], t.VerifiedChains
	}
	ctx, err := s.o.Arrival.Run(ctx, c)
	if err != nil {
		s.o.Denied(c.DeniedBy, nil)
	}
	return ctx, err
}

// headerValues looks request headers up.
func (x *exchange) headerValues() func(key string) []string {
	h := x.r.Header
	return func(key string) []string {
		if key == forwardedFor { // Asked on every request, in another spelling than net/http's, and nearly never there.
			return h["X-Forwarded-For"]
		}
		return h.Values(key)
	}
}

// forwardedFor is the header as gateway/clientaddr asks for it.
const forwardedFor = "x-forwarded-for"

// admit is this edge's adapter of policy.Check: it runs the edge's checks, before
// anything of the body has been read.
func (s *Server) admit(ctx context.Context, x *exchange) (context.Context, error) {
	x.call.Method = x.binding.Method
	ctx, err := s.o.Edge.Admit(ctx, &x.call)
	if err != nil {
		s.o.Denied(x.call.DeniedBy, x.call.Method)
	}
	return ctx, err
}

// bound gives the call its end: the caller's timeout and, where the body is a
// stream, or one that nobody takes, cancel for what is wrong with it, or for a caller
// who leaves.
func (x *exchange) bound(ctx context.Context) (context.Context, func(), error) {
	stop := context.CancelFunc(func() {})
	if ts := x.r.Header["Grpc-Timeout"]; len(ts) > 0 {
		if len(ts) > 1 || ts[0] == "" {
			return ctx, stop, badField("Grpc-Timeout", "must be given once and not be empty")
		}
		d, err := parseTimeout(ts[0])
		if err != nil {
			return ctx, stop, err
		}
		ctx, stop = context.WithTimeout(ctx, d)
	}
	switch {
	case x.binding.body == bodyStream:
	case x.binding.body == bodyNone && x.r.ContentLength != 0:
	default: // There is none, or it is read before the call.
		return ctx, stop, nil
	}
	ctx, x.cancel = context.WithCancelCause(ctx)
	x.watchDeparture(x.cancel)
	return ctx, func() {
		x.cancel(nil)
		stop()
		if x.stream != nil {
			x.stream.close()
		}
	}, nil
}

// parseTimeout reads a Grpc-Timeout (gRPC over HTTP/2: up to 8 digits and a
// unit). It can only shorten the rule's deadline, which upstream applies too.
func parseTimeout(s string) (time.Duration, error) {
	unit := timeoutUnit(s[len(s)-1])
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 64)
	if unit == 0 || err != nil || len(s) > 9 {
		return 0, badField("Grpc-Timeout", "must be 1 to 8 digits and a unit of H, M, S, m, u, n")
	}
	if n > uint64(math.MaxInt64/unit) { // 99999999H is longer than a Duration.
		return math.MaxInt64, nil
	}
	return time.Duration(n) * unit, nil
}

func timeoutUnit(c byte) time.Duration {
	switch c {
	case 'H':
		return time.Hour
	case 'M':
		return time.Minute
	case 'S':
		return time.Second
	case 'm':
		return time.Millisecond
	case 'u':
		return time.Microsecond
	case 'n':
		return time.Nanosecond
	}
	return 0
}
