package kit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// AssertionKey is the metadata key of the assertion.
const AssertionKey = "x-sluice-assertion"

// InterceptorOptions are what the interceptors need.
type InterceptorOptions struct {
	// Verifier checks the assertion of every call. Required.
	Verifier *Verifier
	// Logger takes faults (error), panics (error) and calls (debug). Default:
	// slog.Default().
	Logger *slog.Logger
	// Tracer makes the spans. Default: OpenTelemetry's global provider, which does
	// nothing until a program sets one.
	Tracer trace.TracerProvider
}

// Unary returns the server interceptor that every unary call of a service passes:
// recover -> telemetry -> error mapping -> assertion -> validation. It works the
// same on a grpc.Server and on an in-process channel, where a panic would
// otherwise end the process, and wrapped errors would cross with all their text.
func Unary(o InterceptorOptions) (grpc.UnaryServerInterceptor, error) {
	c, err := newChain(o)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		err = c.run(ctx, info.FullMethod, func(ctx context.Context) error {
			if err := c.validate(req); err != nil {
				return err
			}
			resp, err = next(ctx, req)
			return err
		})
		if err != nil {
			return nil, err
		}
		return resp, nil
	}, nil
}

// Stream is Unary for streams. Messages are validated as they are received.
func Stream(o InterceptorOptions) (grpc.StreamServerInterceptor, error) {
	c, err := newChain(o)
	if err != nil {
		return nil, err
	}
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		return c.run(ss.Context(), info.FullMethod, func(ctx context.Context) error {
			return next(srv, &checkedStream{ServerStream: ss, ctx: ctx, validate: c.validate})
		})
	}, nil
}

// checkedStream validates what is received and carries the caller's context.
type checkedStream struct {
	grpc.ServerStream
	ctx      context.Context
	validate func(any) error
}

func (s *checkedStream) Context() context.Context { return s.ctx }

func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return received(err)
	}
	return s.validate(m)
}

// received tells the caller's fault from the service's. When a stream says
// INTERNAL of receiving, it could make no message of what was sent: bytes that are
// no such message, a broken frame, none where one is due or two. (Over TCP grpc-go
// has answered by then, and this decides what is logged. Of unary calls it reads
// the message before the interceptors, and nothing is logged.)
func received(err error) error {
	if status.Code(err) == codes.Internal {
		return status.Error(codes.InvalidArgument, "the request is not a valid message")
	}
	return err
}

// chain is the order of the steps, for unary calls and streams alike.
type chain struct {
	verifier  *Verifier
	log       *slog.Logger
	telemetry *telemetry
	validator protovalidate.Validator
	shapes    *shapes
}

func newChain(o InterceptorOptions) (*chain, error) {
	if o.Verifier == nil {
		return nil, errors.New("kit: interceptors need a Verifier")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	v, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("kit: validator: %w", err)
	}
	return &chain{verifier: o.Verifier, log: o.Logger, telemetry: newTelemetry(o.Tracer), validator: v, shapes: &shapes{}}, nil
}

// run passes one call through the steps up to call, which validates and handles.
func (c *chain) run(ctx context.Context, method string, call func(context.Context) error) (err error) {
	log := callLog{log: c.log, method: method}
	defer recovered(ctx, log, &err)
	ctx, span := c.telemetry.start(ctx, method)
	panicking := true
	defer func() { endSpan(span, err, panicking) }()

	cause := c.authenticated(ctx, method, call)
	err = outward(ctx, cause)
	log.ended(ctx, err, cause)
	panicking = false
	return err
}

// authenticated calls with the caller that the assertion names.
func (c *chain) authenticated(ctx context.Context, method string, call func(context.Context) error) error {
	if isOpen(method) {
		return call(ctx)
	}
	service, _, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if !ok {
		return status.Error(codes.Unauthenticated, "malformed method name")
	}
	tokens := metadata.ValueFromIncomingContext(ctx, AssertionKey)
	switch len(tokens) {
	case 0:
		return status.Error(codes.Unauthenticated, "no assertion: call through the gateway")
	case 1:
	default:
		return status.Error(codes.Unauthenticated, "several assertions")
	}
	caller, err := c.verifier.Verify(tokens[0], service)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return call(WithCaller(ctx, caller))
}

// isOpen reports whether a method is called by machinery that has no assertion:
// health checks, and reflection, which is only there where switched on.
func isOpen(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.v1.Health/") ||
		strings.HasPrefix(method, "/grpc.reflection.v1.ServerReflection/") ||
		strings.HasPrefix(method, "/grpc.reflection.v1alpha.ServerReflection/")
}
