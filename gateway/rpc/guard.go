package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// errNotObserved is what a handler says that was not called by observe.go.
var errNotObserved = status.Error(codes.Internal, "internal error")

// newCall is what checks see of a call. It is this edge's adapter of
// policy.Call, with admit that of policy.Check.
func (s *Server) newCall(x *exchange, md metadata.MD) *policy.Call {
	c := &x.room.call
	*c = policy.Call{
		Edge:      policy.EdgeGRPC,
		RequestID: x.observed.ID,
		Headers:   md.Get, BytesDecoded: true,
		Annotate:  x.annotate,
		Principal: policy.Anonymous,
	}
	if p, ok := peer.FromContext(x); ok {
		c.Peer = peerOf(p)
		c.Client = c.Peer.Addr().Unmap().WithZone("")
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.VerifiedChains) > 0 {
			c.PeerCertificate, c.PeerChains = t.State.VerifiedChains[0][0], t.State.VerifiedChains
		}
	}
	if x.state.Client != nil {
		c.Client = x.state.Client(c.Peer.Addr(), c.Headers)
	}
	x.observed.Peer, x.observed.Client = c.Peer, c.Client
	return c
}

// arrive runs the checks of every call, whatever it asks for.
func (s *Server) arrive(x *exchange) (context.Context, error) {
	if len(x.state.Arrival) == 0 {
		return x, nil
	}
	next, err := x.state.Arrival.Run(x, x.call)
	if err != nil {
		s.o.Denied(x.call.DeniedBy, nil)
		return x, err
	}
	return next, nil
}

// admit runs the checks of a method's call, and returns the method with its rule:
// no message has been looked at.
func (s *Server) admit(ctx context.Context) (context.Context, *policy.Method, error) {
	x := exchangeOf(ctx)
	if x == nil {
		return ctx, nil, errNotObserved
	}
	m := x.offered.Method
	x.call.Method = m
	ctx, err := x.state.Edge.Admit(ctx, x.call)
	if err != nil {
		s.o.Denied(x.call.DeniedBy, m)
		return ctx, nil, err
	}
	return ctx, m, nil
}
