package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// admit runs the edge's checks on a call: the messages have not been looked
// at. It is this edge's adapter of policy.Check.
func (s *Server) admit(ctx context.Context, m *policy.Method) (context.Context, error) {
	x := exchangeOf(ctx)
	if x == nil {
		return ctx, status.Error(codes.Internal, "internal error")
	}
	md, _ := metadata.FromIncomingContext(ctx)
	c := &policy.Call{
		Method:    m,
		Edge:      policy.EdgeGRPC,
		RequestID: x.observed.ID,
		Peer:      x.observed.Peer,
		Client:    x.observed.Client,
		Headers:   md.Get,
		Annotate:  func(key, value string) { x.header.Append(key, value) },
	}
	if p, ok := peer.FromContext(ctx); ok {
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.VerifiedChains) > 0 {
			c.PeerCertificate = t.State.VerifiedChains[0][0]
		}
	}
	x.observed.Call = c
	ctx, err := s.o.Edge.Admit(ctx, c)
	if err != nil {
		if s.o.Denied != nil {
			s.o.Denied(c.DeniedBy, m)
		}
		return ctx, err
	}
	return ctx, nil
}

// fits bounds a message by its method's rule.
func fits(m *policy.Method, n int) error {
	if int64(n) > m.Rule.MaxRequestBytes+envelope {
		return status.Errorf(codes.ResourceExhausted, "the body is larger than the %d bytes this call takes", m.Rule.MaxRequestBytes)
	}
	return nil
}

// header is what the caller gets: the gateway's own headers, and those of the
// service that may pass.
func (s *Server) header(ctx context.Context, from metadata.MD) metadata.MD {
	out := metadata.MD{}
	if x := exchangeOf(ctx); x != nil {
		out = x.header.Copy()
	}
	for k, v := range from {
		if s.o.ResponseMetadata(k) {
			out[k] = v
		}
	}
	return out
}

// setUnaryHeader is best effort: a call that ended has no header any more.
func (s *Server) setUnaryHeader(ctx context.Context, from metadata.MD) {
	_ = grpc.SetHeader(ctx, s.header(ctx, from))
}
