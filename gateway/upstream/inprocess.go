package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// MaxMessageBytes bounds an answer of a service, in-process or remote.
const MaxMessageBytes = 16 << 20

// Host is a service that runs in the gateway's process.
type Host struct {
	// Name is what logs and metrics call it.
	Name string
	// Register registers the service.
	Register func(grpc.ServiceRegistrar)
	// Unary and Stream are the service's own interceptors; nil means none.
	Unary  grpc.UnaryServerInterceptor
	Stream grpc.StreamServerInterceptor
	// Prompt says that the service's unary methods end soon after their context
	// does, whatever happens, and never end their goroutine. They then run on the
	// caller's: composites do, whose branches are calls of a Conn.
	Prompt bool
	// Close releases what the service holds; nil means nothing.
	Close func() error
	// Logger gets panics.
	Logger *slog.Logger
}

// InProcess connects to a service in this process, and levels how such a
// connection differs from one over TCP: a panic is the call's failure, not the
// process's; bare context errors have their codes; wrapped errors do not show
// their chain; answers are bounded; an empty header is sent.
func InProcess(h Host) Target {
	t := &inProcess{host: h, unary: map[string]unaryMethod{}, intercept: h.unary}
	t.Channel = (&inprocgrpc.Channel{}).WithCloner(wire.Cloner{}).
		WithServerUnaryInterceptor(t.intercept).WithServerStreamInterceptor(h.stream)
	h.Register(t)
	return t
}

type inProcess struct {
	*inprocgrpc.Channel
	host      Host
	unary     map[string]unaryMethod // by full name
	intercept grpc.UnaryServerInterceptor
}

func (t *inProcess) String() string { return "inprocess:" + t.host.Name }

func (t *inProcess) Close() error {
	if t.host.Close == nil {
		return nil
	}
	return t.host.Close()
}

func (h Host) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer h.level(ctx, info.FullMethod, &err)
	ctx = arrive(ctx)
	if h.Unary != nil {
		resp, err = h.Unary(ctx, req, info, next)
	} else {
		resp, err = next(ctx, req)
	}
	return resp, err
}

func (h Host) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	ctx := ss.Context()
	defer h.level(ctx, info.FullMethod, &err)
	ss = &serverStream{ServerStream: ss, ctx: arrive(ctx)}
	if h.Stream != nil {
		return h.Stream(srv, ss, info, next)
	}
	return next(srv, ss)
}

// arrive gives the serving side what a network would not carry: the admission
// (for composites, whose branches act for the caller), and the span.
func arrive(ctx context.Context) context.Context {
	if from := inprocgrpc.ClientContext(ctx); from != nil {
		ctx = policy.Carry(ctx, from)
	}
	return extractTrace(ctx)
}

func (h Host) level(ctx context.Context, method string, err *error) {
	if v := recover(); v != nil {
		h.Logger.ErrorContext(ctx, "a service panicked", "grpc_method", method, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, msgInternal)
		return
	}
	if *err != nil {
		*err = statusOf(*err).Err()
	}
}

func bounded(m proto.Message) error {
	if n := proto.Size(m); n > MaxMessageBytes {
		return tooLarge(n)
	}
	return nil
}

// tooLarge says it as grpc-go does, so that both kinds of connection answer alike.
func tooLarge(n int) error {
	return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", n, MaxMessageBytes)
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) SendHeader(md metadata.MD) error {
	if md.Len() == 0 { // Not sent in-process, and the caller would wait for it.
		md = metadata.Pairs(headerSent, "1")
	}
	return s.ServerStream.SendHeader(md)
}

func (s *serverStream) SendMsg(m any) error {
	if p, ok := m.(proto.Message); ok {
		if err := bounded(p); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}
