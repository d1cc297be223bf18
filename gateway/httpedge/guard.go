package httpedge

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// arrive begins the one Call that the request has and runs the checks that
// every request meets, before anything about it but its address is looked at.
func (s *Server) arrive(ctx context.Context, x *Exchange) (context.Context, error) {
	headers := x.headerValues()
	if s.o.Client != nil {
		x.Observed.Client = s.o.Client(x.Observed.Peer.Addr(), headers)
	}
	x.webSocket = asksForWebSocket(x.Request)
	dropHopByHop(x.Request.Header)
	c := &x.Call
	c.Edge, c.RequestID = policy.EdgeREST, x.Observed.ID
	c.Peer, c.Client = x.Observed.Peer, x.Observed.Client
	c.Headers, c.Annotate = headers, x.Annotate
	c.Principal = policy.Anonymous
	if t := x.Request.TLS; t != nil && len(t.VerifiedChains) > 0 {
		c.PeerCertificate, c.PeerChains = t.VerifiedChains[0][0], t.VerifiedChains
	}
	ctx, err := s.o.Arrival.Run(ctx, c)
	if err != nil {
		s.o.Denied(c.DeniedBy, nil)
	}
	return ctx, err
}

// headerValues looks request headers up.
func (x *Exchange) headerValues() func(key string) []string {
	h := x.Request.Header
	return func(key string) []string {
		if key == forwardedFor { // Asked on every request, in another spelling than net/http's, and nearly never there.
			return h["X-Forwarded-For"]
		}
		return h.Values(key)
	}
}

// forwardedFor is the header as gateway/clientaddr asks for it.
const forwardedFor = "x-forwarded-for"

// Admit says which method the call is of and runs the edge's checks, before anything of
// the body has been read. Its error is an answer.
func (x *Exchange) Admit(ctx context.Context, m *policy.Method) (context.Context, error) {
	x.Call.Method = m
	o := &x.server.o
	ctx, err := o.Edge.Admit(ctx, &x.Call)
	if err != nil {
		o.Denied(x.Call.DeniedBy, m)
	}
	return ctx, err
}

// Timeout gives the call the end that its caller asks for by Grpc-Timeout, if it does.
// The function it returns is to be called at the end of the call, whatever the error.
func (x *Exchange) Timeout(ctx context.Context) (context.Context, context.CancelFunc, error) {
	ts := x.Request.Header["Grpc-Timeout"]
	switch {
	case len(ts) == 0:
		return ctx, func() {}, nil
	case len(ts) > 1 || ts[0] == "":
		return ctx, func() {}, BadField("Grpc-Timeout", "must be given once and not be empty")
	}
	d, err := parseTimeout(ts[0])
	if err != nil {
		return ctx, func() {}, err
	}
	ctx, stop := context.WithTimeout(ctx, d)
	return ctx, stop, nil
}

// parseTimeout reads a Grpc-Timeout (gRPC over HTTP/2: up to 8 digits and a
// unit). It can only shorten the rule's deadline, which upstream applies too.
func parseTimeout(s string) (time.Duration, error) {
	unit := timeoutUnit(s[len(s)-1])
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 64)
	if unit == 0 || err != nil || len(s) > 9 {
		return 0, BadField("Grpc-Timeout", "must be 1 to 8 digits and a unit of H, M, S, m, u, n")
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
