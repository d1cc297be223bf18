package rpc

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// register offers a service of the server's own, whose unary handlers begin with ours. An
// interceptor would come too late: grpc-go reads the message before it.
func (s *Server) register(sd *grpc.ServiceDesc, impl any) {
	own := *sd
	own.Methods = slices.Clone(sd.Methods)
	for i, m := range own.Methods {
		own.Methods[i].Handler = s.observeUnary("/"+sd.ServiceName+"/"+m.MethodName, m.Handler)
	}
	s.grpc.RegisterService(&own, impl)
}

// observeUnary sees the unary calls of such a service: request id, telemetry, panics, arrival.
func (s *Server) observeUnary(fullMethod string, next grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, team grpc.UnaryServerInterceptor) (resp any, err error) {
		growStack(0)
		x := s.begin(ctx, fullMethod)
		defer func() { s.end(x, &err, recover()) }()
		checked, err := s.arrive(x)
		if err != nil {
			return nil, err
		}
		resp, err = next(srv, checked, func(m any) error { return s.read(x, m, decode) }, team)
		if err == nil {
			x.countOut(resp)
		}
		return resp, err
	}
}

// observeStream is the same for the methods of a State, for streams of our own services,
// and for what is not offered.
func (s *Server) observeStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	growStack(0)
	x := s.begin(ss.Context(), info.FullMethod)
	defer func() { s.end(x, &err, recover()) }()
	ctx, err := s.arrive(x)
	if err != nil {
		return err
	}
	if m := x.offered; m != nil {
		if m.stream == nil {
			return s.unary(ctx, x, ss)
		}
		srv, info = impl, m.info // grpc-go has seen a call of a service it does not know.
	}
	o := &observedStream{ServerStream: ss, ctx: ctx, s: s, x: x}
	team := func(srv any, ss grpc.ServerStream) error { return runStream(s.o.Stream, srv, ss, info, next) }
	if strings.HasPrefix(info.FullMethod, reflectionPrefix) {
		return s.reflect(srv, o, team)
	}
	return team(srv, o)
}

// growStack makes the stack of a call's goroutine as large as the call will need.
// Growing it costs by the frame: here there are five, where it would be needed
// first, in reading the message, fifteen.
//
//go:noinline
func growStack(i byte) byte {
	var room [5 << 10]byte
	room[i] = 1
	return room[i+1] // Else there would be no room.
}

// exchange is one call being served: its context, and what is known of it. What
// every call needs lies in it, so that it is allocated once.
type exchange struct {
	context.Context
	observed *telemetry.Request
	call     *policy.Call
	lease    *lease       // nil where no connection is
	state    *State       // of the call, to its end
	offered  *offered     // nil for our own services, and for what is not offered
	held     Releaser     // gives it back
	header   metadata.MD  // of the answer, not given to grpc-go yet
	opened   bool         // the first of it was
	parsed   bool         // the service is done with room.in, whose memory may go back
	bytesIn  atomic.Int64 // a stream is read by a goroutine of its own

	room struct {
		call   policy.Call
		in     wire.Frame      // of a unary call
		answer upstream.Answer // to it
		values [4]string       // of header
		used   int
	}
}

type exchangeKey struct{}

// Value finds the exchange in the contexts that are made of it.
func (x *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return x
	}
	return x.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// value is a header's, alone.
func (x *exchange) value(v string) []string {
	if x.room.used == len(x.room.values) {
		return []string{v}
	}
	i := x.room.used
	x.room.used++
	x.room.values[i] = v
	return x.room.values[i : i+1 : i+1] // A second value of the same key does not fit.
}

func (s *Server) begin(ctx context.Context, fullMethod string) *exchange {
	x := &exchange{lease: leaseOf(ctx)}
	x.state, x.held = s.o.Current()
	var md metadata.MD
	if x.lease != nil {
		md = x.lease.header // Without copying it.
	} else {
		md, _ = metadata.FromIncomingContext(ctx)
	}
	x.Context, x.observed = x.state.Telemetry.Begin(ctx, policy.EdgeGRPC, propagation.TextMapCarrier(carrier(md)))
	x.observed.ID = telemetry.RequestID(carrier(md).Get("x-request-id"))
	series := s.own[fullMethod]
	if x.offered = x.state.methods[fullMethod]; x.offered != nil {
		series = x.offered.series
	}
	if series != nil { // Else a caller could make up labels.
		x.observed.RPC, x.observed.Series = fullMethod[1:], series
	}
	x.header = metadata.MD{"x-request-id": x.value(x.observed.ID)}
	x.call = s.newCall(x, md)
	x.observed.Call = x.call
	return x
}

func (s *Server) end(x *exchange, err *error, panicked any) {
	defer x.held.Release()
	if panicked != nil {
		s.o.Logger.ErrorContext(x, "the gRPC edge panicked", "request_id", x.observed.ID, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error")
	}
	x.call.Done(*err)
	if x.parsed && *err == nil { // Not before: what runs when the call is done may still read the request.
		x.room.in.Free()
	}
	x.close(*err)
	if l := x.lease; l != nil {
		if limit := l.close(); limit != "" && *err != nil {
			s.o.Refused(limit)
		}
		l.conn.over(l)
	}
	x.observed.BytesIn = x.bytesIn.Load()
	code := status.Code(*err)
	x.observed.End(x, code.String(), code == codes.Internal || code == codes.Unavailable || code == codes.DeadlineExceeded)
}

// read takes a message, which nobody has asked for before.
func (s *Server) read(x *exchange, m any, decode func(any) error) error {
	x.open()
	if err := decode(m); err != nil {
		if status.Code(err) == codes.ResourceExhausted {
			s.o.Refused(limitMessageBytes)
		}
		return err
	}
	x.lease.arrived()
	if err := s.small(m); err != nil {
		return err
	}
	if f, ok := m.(*wire.Frame); ok {
		x.bytesIn.Add(int64(len(f.Data)))
	}
	return nil
}

func (x *exchange) countOut(m any) {
	if f, ok := m.(*wire.Frame); ok {
		x.observed.BytesOut += int64(len(f.Data))
	}
}

type observedStream struct {
	grpc.ServerStream
	ctx context.Context
	s   *Server
	x   *exchange
	got bool // the one message of a caller who streams none
}

func (o *observedStream) Context() context.Context { return o.ctx }

func (o *observedStream) RecvMsg(m any) error {
	if of := o.x.offered; of == nil || of.stream.ClientStreams {
		return o.s.read(o.x, m, o.ServerStream.RecvMsg)
	}
	if o.got {
		return io.EOF
	}
	o.got = true
	return o.s.read(o.x, m, o.one)
}

// one reads the message of a caller who sends one and closes the stream. grpc-go takes all
// our streams for streams both ways, and would leave what comes behind it in memory.
func (o *observedStream) one(m any) error { return only(o.ServerStream, m, &wire.Frame{}) }

func (o *observedStream) SendMsg(m any) error {
	o.x.countOut(m)
	return o.ServerStream.SendMsg(m)
}

// peerOf is where a connection comes from.
func peerOf(p *peer.Peer) netip.AddrPort {
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	a, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return a
}

// carrier reads metadata, whose keys are lower case.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c carrier) Set(string, string) {}
func (c carrier) Keys() []string     { return nil }
