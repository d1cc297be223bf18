package rpc

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// State is what a reload of the configuration replaces, methods included: they come and
// go under live connections. A call is of one State from its first byte to its last. It
// does not change.
type State struct {
	// Catalogue, Conn, Arrival, Edge, Client and Telemetry are those of Options.
	Catalogue *schema.Catalogue
	Conn      upstream.Sender
	Arrival   policy.Chain
	Edge      policy.Chain
	Client    func(peer netip.Addr, headers func(key string) []string) netip.Addr
	Telemetry *telemetry.Telemetry

	methods map[string]*offered // by full name; of NewState
}

// offered is what serving a method takes, found with one look into a map.
type offered struct {
	*policy.Method
	series *telemetry.Series
	// stream and info are nil for a unary method.
	stream *grpc.StreamDesc
	info   *grpc.StreamServerInfo
}

// NewState completes a State with the table of its methods.
func NewState(s State) *State {
	s.methods = map[string]*offered{}
	for _, m := range s.Catalogue.Methods() {
		o := &offered{Method: m.Method, series: s.Telemetry.Series(policy.EdgeGRPC, "", m.FullName[1:])}
		if m.Streaming() {
			d := m.Descriptor
			o.stream = &grpc.StreamDesc{StreamName: string(d.Name()), ClientStreams: d.IsStreamingClient(), ServerStreams: d.IsStreamingServer()}
			o.info = &grpc.StreamServerInfo{FullMethod: m.FullName, IsClientStream: d.IsStreamingClient(), IsServerStream: d.IsStreamingServer()}
		}
		s.methods[m.FullName] = o
	}
	return &s
}

// impl stands for the implementation of a service, of which there is none here.
var impl any = struct{}{}

// serve serves a call to a method of the State, or to none. grpc-go takes each for a
// stream both ways: what it does for a unary call, unary and only do.
func (s *Server) serve(_ any, ss grpc.ServerStream) error {
	x := exchangeOf(ss.Context())
	switch {
	case x == nil:
		return errNotObserved
	case x.offered == nil:
		return errNoSuchMethod()
	}
	return s.stream(ss, x.offered)
}

// unary serves a unary call: admission comes before the message, so that who may not call
// cannot make us read.
func (s *Server) unary(ctx context.Context, x *exchange, ss grpc.ServerStream) error {
	out, err := s.answer(ctx, x, func(m any) error {
		return s.read(x, m, func(m any) error { return only(ss, m, &x.room.answer.Message) })
	})
	if err != nil {
		return err
	}
	x.countOut(out)
	x.flush() // The header goes out with the message.
	return ss.SendMsg(out)
}

// answer forwards a unary call, through the team's interceptors where there are any.
func (s *Server) answer(ctx context.Context, x *exchange, decode func(any) error) (any, error) {
	if len(s.o.Unary) == 0 {
		out, err := s.forward(ctx, x, &x.room.in, decode)
		if err != nil { // After a cancel, a service in this process may still be reading.
			return nil, err
		}
		x.parsed = true
		out.HandOver()
		return out, nil
	}
	in := &wire.Frame{}
	if err := decode(in); err != nil { // A team's interceptors see the message.
		return nil, err
	}
	info := &grpc.UnaryServerInfo{Server: impl, FullMethod: x.offered.FullName}
	return runUnary(s.o.Unary, ctx, in, info, func(ctx context.Context, req any) (any, error) {
		out, err := s.forward(ctx, x, req.(*wire.Frame), func(any) error { return nil })
		if err != nil {
			return nil, err
		}
		return out, nil // Neither frame is given back: an interceptor may keep them.
	})
}

// only reads the message of a caller who sends one, after which the stream must end, as grpc-go
// holds registered methods to. spare is for a second message, which is refused.
func only(ss grpc.ServerStream, m any, spare *wire.Frame) error {
	if err := ss.RecvMsg(m); errors.Is(err, io.EOF) {
		return status.Error(codes.Internal, "a call of one message came without any")
	} else if err != nil {
		return err
	}
	err := ss.RecvMsg(spare)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		spare.Free()
		err = status.Error(codes.Internal, "a call of one message came with more")
	}
	return err
}

// runUnary runs a team's interceptors, the first outermost. grpc-go has nobody else run
// those of its options, and takes our unary calls for streams.
func runUnary(team []grpc.UnaryServerInterceptor, ctx context.Context, req any, info *grpc.UnaryServerInfo, last grpc.UnaryHandler) (any, error) {
	if len(team) == 0 {
		return last(ctx, req)
	}
	return team[0](ctx, req, info, func(ctx context.Context, req any) (any, error) {
		return runUnary(team[1:], ctx, req, info, last)
	})
}

// runStream is the same for streams.
func runStream(team []grpc.StreamServerInterceptor, srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, last grpc.StreamHandler) error {
	if len(team) == 0 {
		return last(srv, ss)
	}
	return team[0](srv, ss, info, func(srv any, ss grpc.ServerStream) error {
		return runStream(team[1:], srv, ss, info, last)
	})
}
