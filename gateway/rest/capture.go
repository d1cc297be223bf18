package rest

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Register registers a service's generated handlers on a mux, over a connection.
type Register func(ctx context.Context, mux *runtime.ServeMux, cc grpc.ClientConnInterface) error

// Handlers makes a Register of what protoc-gen-grpc-gateway and
// protoc-gen-go-grpc generate:
//
//	rest.Handlers(userv1.RegisterUserServiceHandlerClient, userv1.NewUserServiceClient)
func Handlers[C any](register func(context.Context, *runtime.ServeMux, C) error, client func(grpc.ClientConnInterface) C) Register {
	return func(ctx context.Context, mux *runtime.ServeMux, cc grpc.ClientConnInterface) error {
		return register(ctx, mux, client(cc))
	}
}

// Service is a service's methods with its generated handlers. A service
// without HTTP bindings has a nil Register.
type Service struct {
	Name     string
	Register Register
}

// capture pairs each binding of the service with its generated handler, and
// proves each pair with a call: a handler that does not call the method its
// route names stops the start.
func (s *Server) capture(svc Service) ([]*Binding, error) {
	var bound []*Binding
	s.inputs = inputs{} // One for each service: a handler that was probed may still be reading its own.
	for _, m := range s.o.Catalogue.Methods() {
		if m.Service != svc.Name {
			continue
		}
		for _, of := range m.Bindings {
			b, err := newBinding(of)
			if err != nil {
				return nil, err
			}
			s.inputs.add(b)
			bound = append(bound, b)
		}
	}
	if svc.Register == nil {
		if len(bound) > 0 {
			return nil, fmt.Errorf("service %s has %d routes but no generated handlers", svc.Name, len(bound))
		}
		return nil, nil
	}
	handlers, err := s.handlers(svc, conn{next: s.o.Conn})
	if err != nil {
		return nil, err
	}
	probes, err := s.handlers(svc, recorder{})
	if err != nil {
		return nil, err
	}
	if len(handlers) != len(bound) || len(probes) != len(bound) {
		return nil, fmt.Errorf("service %s has %d routes but %d generated handlers: run make generate", svc.Name, len(bound), len(handlers))
	}
	for i, b := range bound {
		b.handler, b.series = handlers[i], s.o.Telemetry.Series(policy.EdgeREST, b.Template.String(), b.Verb)
		if err := probe(b, probes[i]); err != nil {
			return nil, err
		}
	}
	return bound, nil
}

// handlers registers on a mux of their own: the constructor of a middleware
// runs once a route, at registration, with the generated handler as next.
func (s *Server) handlers(svc Service, cc grpc.ClientConnInterface) ([]runtime.HandlerFunc, error) {
	var out []runtime.HandlerFunc
	mux := runtime.NewServeMux(append(s.muxOptions(), runtime.WithMiddlewares(func(next runtime.HandlerFunc) runtime.HandlerFunc {
		out = append(out, next)
		return next
	}))...)
	if err := svc.Register(context.Background(), mux, cc); err != nil {
		return nil, fmt.Errorf("register handlers of %s: %w", svc.Name, err)
	}
	return out, nil
}

// probe calls a handler once, over a connection that only notes what is called.
func probe(b *Binding, h runtime.HandlerFunc) error {
	params := map[string]string{}
	for _, v := range b.Template.Variables() {
		params[v] = probeValue(b.Method.Descriptor.Input(), v)
	}
	called := ""
	ctx := context.WithValue(context.Background(), recorderKey{}, &called)
	r := httptest.NewRequestWithContext(ctx, b.Verb, "/", strings.NewReader("{}"))
	r.Form, r.PostForm = url.Values{}, url.Values{}
	h(httptest.NewRecorder(), r, params)
	if called != b.Method.FullName {
		return fmt.Errorf("the handler generated for %s %s calls %q, not %s: run make generate", b.Verb, b.Template, called, b.Method.FullName)
	}
	return nil
}

// probeValue is a value that the field of a path variable can hold.
func probeValue(md protoreflect.MessageDescriptor, path string) string {
	var fd protoreflect.FieldDescriptor
	for _, name := range strings.Split(path, ".") {
		if md == nil {
			return "x"
		}
		if fd = md.Fields().ByName(protoreflect.Name(name)); fd == nil {
			return "x"
		}
		md = fd.Message()
	}
	switch fd.Kind() {
	case protoreflect.StringKind, protoreflect.MessageKind:
		return "x"
	case protoreflect.BoolKind:
		return "true"
	case protoreflect.BytesKind:
		return "eA=="
	case protoreflect.EnumKind:
		return string(fd.Enum().Values().Get(0).Name())
	}
	return "1"
}

type recorderKey struct{}

// recorder is a connection that notes the method in the context's string.
type recorder struct{}

func (recorder) Invoke(ctx context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	note(ctx, method)
	return status.Error(codes.Unavailable, "probe")
}

func (recorder) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	note(ctx, method)
	return recorded{}, nil
}

// recorded is a stream that ends at once; generated handlers log one that
// cannot be opened.
type recorded struct{ grpc.ClientStream }

func (recorded) Header() (metadata.MD, error) { return nil, nil }
func (recorded) Trailer() metadata.MD         { return nil }
func (recorded) CloseSend() error             { return nil }
func (recorded) SendMsg(any) error            { return nil }
func (recorded) RecvMsg(any) error            { return io.EOF }

func note(ctx context.Context, method string) {
	if p, ok := ctx.Value(recorderKey{}).(*string); ok {
		*p = method
	}
}
