package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Options of a Server. All are needed but Denied, Reflection and the
// interceptors.
type Options struct {
	// Methods are the methods with their rules.
	Methods *policy.Table
	// Services are the services to offer.
	Services []protoreflect.ServiceDescriptor
	// Conn is where calls go.
	Conn grpc.ClientConnInterface
	// Edge are the checks before any message is looked at.
	Edge policy.Chain
	// Telemetry observes.
	Telemetry *telemetry.Telemetry
	// Denied is told of every refusal of the chain; nil means nobody.
	Denied func(check string, m *policy.Method)
	// ResponseMetadata says which metadata of services reach callers.
	ResponseMetadata func(key string) bool
	// Logger gets panics.
	Logger *slog.Logger
	// Reflection offers gRPC reflection.
	Reflection bool
	// Patience is how long a call may take to send its first message; 0 means 30s.
	Patience time.Duration
	// MaxConcurrentStreams bounds the streams of a connection; 0 means 250.
	MaxConcurrentStreams uint32
	// Unary and Stream are a team's own interceptors, inside the gateway's.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor
}

// envelope is what a message may have beyond max_request_bytes, which counts
// the body of a request: its other fields, tags and lengths.
const envelope = 4096

// Server is the gRPC edge.
type Server struct {
	o       Options
	grpc    *grpc.Server
	health  *health.Server
	offered map[string]bool // full names of methods
}

// New builds the server; Serve starts it.
func New(o Options) *Server {
	if o.MaxConcurrentStreams == 0 {
		o.MaxConcurrentStreams = 250
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	s := &Server{o: o, health: health.NewServer(), offered: map[string]bool{}}
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.ChainUnaryInterceptor(append([]grpc.UnaryServerInterceptor{s.observeUnary}, o.Unary...)...),
		grpc.ChainStreamInterceptor(append([]grpc.StreamServerInterceptor{s.observeStream}, o.Stream...)...),
		grpc.MaxRecvMsgSize(s.maxMessage()),
		grpc.MaxConcurrentStreams(o.MaxConcurrentStreams),
		grpc.MaxHeaderListSize(64<<10),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.InTapHandle(s.tap),
		grpc.WaitForHandlers(true),
		// What is not offered is counted and logged too.
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.Unimplemented, "no such method") }),
	)
	for _, sd := range o.Services {
		s.grpc.RegisterService(s.describe(sd), struct{}{})
		s.health.SetServingStatus(string(sd.FullName()), healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(s.grpc, s.health)
	if o.Reflection {
		reflection.Register(s.grpc)
	}
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			s.offered["/"+service+"/"+m.Name] = true
		}
	}
	return s
}

// maxMessage is the most any method takes; each method's own bound follows in
// the forwarder.
func (s *Server) maxMessage() int {
	n := int64(0)
	for _, m := range s.o.Methods.Methods() {
		n = max(n, m.Rule.MaxRequestBytes)
	}
	// At least grpc-go's own bound: what is larger than a method takes is refused
	// by the forwarder, where it is logged and counted.
	return max(int(n)+envelope, 4<<20)
}

// GRPC returns the server to serve with.
func (s *Server) GRPC() *grpc.Server { return s.grpc }

// Drain tells health checks that the server is going away.
func (s *Server) Drain() { s.health.Shutdown() }

// observeUnary sees every unary call: request id, telemetry, panics.
func (s *Server) observeUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	arrived(ctx)
	x, ctx := s.begin(ctx, info.FullMethod)
	defer func() { s.end(ctx, x, &err, recover()) }()
	x.countIn(req)
	if resp, err = next(ctx, req); err == nil {
		x.countOut(resp)
	}
	return resp, err
}

// observeStream is the same for streams.
func (s *Server) observeStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	x, ctx := s.begin(ss.Context(), info.FullMethod)
	defer func() { s.end(ctx, x, &err, recover()) }()
	return next(srv, &observedStream{ServerStream: ss, ctx: ctx, x: x})
}

// exchange is one call being served, found in its context.
type exchange struct {
	observed *telemetry.Request
	header   metadata.MD
	bytesIn  atomic.Int64 // a stream is read by a goroutine of its own
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

func (s *Server) begin(ctx context.Context, fullMethod string) (*exchange, context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	ctx, observed := s.o.Telemetry.Begin(ctx, policy.EdgeGRPC, propagation.TextMapCarrier(carrier(md)))
	observed.ID = telemetry.RequestID(carrier(md).Get("x-request-id"))
	if s.offered[fullMethod] { // Else a caller could make up labels.
		observed.RPC = fullMethod[1:]
	}
	if p, ok := peer.FromContext(ctx); ok {
		observed.Peer, _ = netip.ParseAddrPort(p.Addr.String())
		observed.Client = observed.Peer.Addr().Unmap()
	}
	// At once: grpc-go itself may end a stream, and take no more headers then.
	_ = grpc.SetHeader(ctx, metadata.MD{"x-request-id": {observed.ID}})
	x := &exchange{observed: observed, header: metadata.MD{}}
	return x, context.WithValue(ctx, exchangeKey{}, x)
}

func (s *Server) end(ctx context.Context, x *exchange, err *error, panicked any) {
	if panicked != nil {
		s.o.Logger.ErrorContext(ctx, "the gRPC edge panicked", "request_id", x.observed.ID, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error")
	}
	if x.observed.Call != nil {
		x.observed.Call.Done(*err)
	}
	x.observed.BytesIn = x.bytesIn.Load()
	code := status.Code(*err)
	x.observed.End(ctx, code.String(), code == codes.Internal || code == codes.Unavailable || code == codes.DeadlineExceeded)
}

func (x *exchange) countIn(m any) {
	if f, ok := m.(*wire.Frame); ok {
		x.bytesIn.Add(int64(len(f.Data)))
	}
}

func (x *exchange) countOut(m any) {
	if f, ok := m.(*wire.Frame); ok {
		x.observed.BytesOut += int64(len(f.Data))
	}
}

type observedStream struct {
	grpc.ServerStream
	ctx context.Context
	x   *exchange
}

func (s *observedStream) Context() context.Context { return s.ctx }

func (s *observedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		arrived(s.ctx)
		s.x.countIn(m)
	}
	return err
}

func (s *observedStream) SendMsg(m any) error {
	s.x.countOut(m)
	return s.ServerStream.SendMsg(m)
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
