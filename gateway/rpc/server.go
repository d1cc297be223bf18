package rpc

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // Callers may compress what they send.
	"google.golang.org/grpc/experimental"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Releaser takes back what Options.Current gave.
type Releaser interface{ Release() }

// static is the State of a server whose Options have no Current.
type static struct{}

func (static) Release() {}

// Options of a Server. Catalogue, Conn, Telemetry and
// Logger are needed.
type Options struct {
	// Catalogue has the methods with their rules.
	Catalogue *schema.Catalogue
	// Current returns the State of a call that begins, which the call holds until it
	// releases it, once. It must be quick. Nil means that the State is that of these
	// Options. Bounds of connections and of the largest message are those of Options
	// in any case.
	Current func() (*State, Releaser)
	// Conn is where calls go.
	Conn upstream.Sender
	// Arrival are the checks of every call, also of health, reflection and what is
	// not offered: they run first, with a Call that has no Method yet.
	Arrival policy.Chain
	// Edge are the checks of a method's calls, before any message is read.
	Edge policy.Chain
	// Client says who the caller is, given the peer and the values of a metadata
	// key; nil means the peer.
	Client func(peer netip.Addr, headers func(key string) []string) netip.Addr
	// Telemetry observes.
	Telemetry *telemetry.Telemetry
	// Denied is told of every refusal of a chain, those of Arrival without a
	// method; nil means nobody.
	Denied func(check string, m *policy.Method)
	// Refused is told of every call that one of the edge's own bounds ends, with
	// the bound: one of Limits. Nil means nobody. It is called from several
	// goroutines.
	Refused func(limit string)
	// Logger gets panics.
	Logger *slog.Logger
	// Reflection offers gRPC reflection.
	Reflection bool
	// TLS of the connections; nil means plaintext.
	TLS *tls.Config
	// Patience is how long a call may take to send its first message; 0 means 30s.
	Patience time.Duration
	// AnswerTimeout is how long a caller may take to read an answer, from the
	// return of its handler; 0 means 30s. Until then it is kept in memory.
	AnswerTimeout time.Duration
	// MaxConcurrentStreams bounds the streams of a connection; 0 means 250.
	MaxConcurrentStreams uint32
	// MaxMetadataBytes bounds a call's metadata, as HTTP/2 counts it (RFC 9113,
	// 6.5.2); 0 means 65536.
	MaxMetadataBytes uint32
	// IdleTimeout ends a connection without calls; 0 means 15m.
	IdleTimeout time.Duration
	// MaxConnectionAge is when a connection is asked to close, give or take a
	// tenth; its calls end by themselves. 0 means 1h.
	MaxConnectionAge time.Duration
	// MaxMessageBytes and MaxCallTime are the most that a method of any catalogue may
	// state as MaxRequestBytes, and as Deadline or StreamMaxAge: a larger message is
	// refused, a longer call cut when its connection is asked to close. 0 means 4 MiB
	// and 24h.
	MaxMessageBytes int
	MaxCallTime     time.Duration
	// HandshakeTimeout bounds TLS and the HTTP/2 preface of a connection, and later
	// each frame other than DATA and each header block, from its first byte to its
	// last; 0 means 10s.
	HandshakeTimeout time.Duration
	// ReflectionTime is how long a reflection stream may take; 0 means 5m.
	ReflectionTime time.Duration
	// HealthWatchTime is how long a Watch of the health service may take; it ends
	// without an error, and may be made again. 0 means 5m.
	HealthWatchTime time.Duration
	// Unary and Stream are a team's own interceptors, inside the gateway's: after
	// Arrival, before Edge. With unary ones, messages are read before Edge, for
	// interceptors see them.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor
}

func (o Options) withDefaults() Options {
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.ReflectionTime <= 0 {
		o.ReflectionTime = defaultReflectionTime
	}
	if o.AnswerTimeout <= 0 {
		o.AnswerTimeout = defaultAnswerTimeout
	}
	if o.MaxConcurrentStreams == 0 {
		o.MaxConcurrentStreams = 250
	}
	if o.MaxMetadataBytes == 0 {
		o.MaxMetadataBytes = 64 << 10
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 15 * time.Minute
	}
	if o.MaxConnectionAge <= 0 {
		o.MaxConnectionAge = time.Hour
	}
	if o.MaxMessageBytes <= 0 {
		o.MaxMessageBytes = 4 << 20
	}
	if o.MaxCallTime <= 0 {
		o.MaxCallTime = 24 * time.Hour
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = 10 * time.Second
	}
	if o.HealthWatchTime <= 0 {
		o.HealthWatchTime = defaultWatchTime
	}
	if o.Current == nil {
		only := NewState(State{Catalogue: o.Catalogue, Conn: o.Conn, Arrival: o.Arrival, Edge: o.Edge, Client: o.Client, Telemetry: o.Telemetry})
		o.Current = func() (*State, Releaser) { return only, static{} }
	}
	if o.Denied == nil {
		o.Denied = func(string, *policy.Method) {}
	}
	if o.Refused == nil {
		o.Refused = func(string) {}
	}
	return o
}

// envelope is what a message may have beyond max_request_bytes, which counts
// the body of a request: its other fields, tags and lengths.
const envelope = 4096

// What docs/decisions/0015-forwarding.md measures.
const (
	// streamWindow is what a caller may send on a stream before we read it, in
	// bytes, and connWindow on all streams of a connection before grpc-go does.
	streamWindow = 256 << 10
	connWindow   = 1 << 20
)

// Server is the gRPC edge.
type Server struct {
	o       Options
	grpc    *grpc.Server
	health  *healthServer
	own     map[string]*telemetry.Series // of health and reflection, by full method name
	serving context.Context              // ends with Drain
	drain   context.CancelCauseFunc
}

// New builds the server; Serve starts it.
func New(o Options) *Server {
	s := &Server{o: o.withDefaults(), own: map[string]*telemetry.Series{}}
	s.serving, s.drain = context.WithCancelCause(context.Background())
	s.health = newHealthServer(s.serving, &s.o)
	s.grpc = grpc.NewServer(s.options()...)
	s.Offer(o.Catalogue)
	s.register(&healthpb.Health_ServiceDesc, s.health)
	if o.Reflection {
		if err := s.registerReflection(); err != nil {
			panic(err) // Three files of grpc-go contradict one another.
		}
	}
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			s.own["/"+service+"/"+m.Name] = s.o.Telemetry.Series(policy.EdgeGRPC, "", service+"/"+m.Name)
		}
	}
	return s
}

func (s *Server) options() []grpc.ServerOption {
	o := &s.o
	out := []grpc.ServerOption{
		grpc.ForceServerCodecV2(wire.Codec{}),
		// Else it is the one there was when the program began: tests put another in
		// its place, to find who reads memory that was given back.
		experimental.BufferPool(mem.DefaultBufferPool()),
		grpc.ChainUnaryInterceptor(o.Unary...),  // The gateway's own is around each handler, see register.
		grpc.StreamInterceptor(s.observeStream), // It runs the team's.
		// Counted after decompression. What is larger than a method takes is refused by
		// the forwarder, which can say by how much.
		grpc.MaxRecvMsgSize(o.MaxMessageBytes + envelope),
		grpc.MaxConcurrentStreams(o.MaxConcurrentStreams),
		// Windows of grpc-go's own choice grow to 16 MiB a stream: so much would be
		// held for a service that reads slowly. Ours are what is held at the most.
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.MaxHeaderListSize(o.MaxMetadataBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: o.IdleTimeout,
			MaxConnectionAge:  o.MaxConnectionAge, MaxConnectionAgeGrace: o.MaxCallTime + time.Minute,
			Time: time.Minute, Timeout: 20 * time.Second,
		}),
		grpc.ConnectionTimeout(o.HandshakeTimeout),
		grpc.InTapHandle(s.tap),
		grpc.WaitForHandlers(true),
		// All but the server's own services: so methods come and go while it runs.
		grpc.UnknownServiceHandler(s.serve),
	}
	creds := wrap{limit: o.AnswerTimeout, patient: o.HandshakeTimeout, refused: o.Refused}
	if o.TLS != nil {
		creds.TransportCredentials = credentials.NewTLS(o.TLS)
	}
	return append(out, grpc.Creds(creds), grpc.ReadBufferSize(0)) // The connection has a buffer.
}

// GRPC returns the server to serve with.
func (s *Server) GRPC() *grpc.Server { return s.grpc }
