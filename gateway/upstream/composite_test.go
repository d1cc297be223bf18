package upstream_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/aggregator"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

const (
	getUser     = userv1.UserService_GetUser_FullMethodName
	getProfile  = profilev1.ProfileService_GetProfile_FullMethodName
	getOrder    = orderv1.OrderService_GetOrder_FullMethodName
	listOrders  = orderv1.OrderService_ListOrders_FullMethodName
	getOverview = bffv1.BffService_GetUserOverview_FullMethodName
	getDetails  = bffv1.BffService_GetOrderDetails_FullMethodName
)

// composites is the shop's composites behind a Conn, over services that answer the
// bytes they are told to.
type composites struct {
	edge
	table *schema.Catalogue

	mu      sync.Mutex        // A branch that was cancelled may still be served when its call has ended.
	answers map[string][]byte // by method
}

func (c *composites) set(method string, answer []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[method] = answer
}

var kinds = []string{"inprocess", "remote"}

// compose runs the services as kind says.
func compose(t testing.TB, kind string) *composites {
	t.Helper()
	c := &composites{answers: map[string][]byte{}}
	files := []protoreflect.FileDescriptor{userv1.File_shop_user_v1_user_proto, profilev1.File_shop_profile_v1_profile_proto, orderv1.File_shop_order_v1_order_proto}
	var services []protoreflect.ServiceDescriptor
	targets := map[string]upstream.Target{}
	for _, f := range files {
		sd := f.Services().Get(0)
		services = append(services, sd)
		targets[string(sd.FullName())] = c.target(t, kind, sd)
	}
	late := &lateConn{}
	composite, err := aggregator.New(aggregator.Options{Users: late, Orders: late, Profiles: late, BranchTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	bff := bffv1.File_shop_bff_v1_bff_proto.Services().Get(0)
	services = append(services, bff)
	targets[string(bff.FullName())] = upstream.InProcess(upstream.Host{Name: "bff", Prompt: true, Logger: slog.New(slog.DiscardHandler), Register: func(r grpc.ServiceRegistrar) {
		bffv1.RegisterBffServiceServer(r, composite)
	}})
	patient := map[string]policy.Override{} // What is slow in these tests is the machine.
	for _, sd := range services {
		for i := range sd.Methods().Len() {
			if md := sd.Methods().Get(i); !md.IsStreamingServer() && !md.IsStreamingClient() {
				patient[string(sd.FullName())+"/"+string(md.Name())] = policy.Override{Deadline: time.Hour}
			}
		}
	}
	if c.table, err = schema.New(services, schema.Options{Defaults: policy.Defaults{StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Overrides: patient, Linked: protoregistry.GlobalTypes}); err != nil {
		t.Fatal(err)
	}
	c.Conn, err = upstream.New(upstream.Options{
		Catalogue: c.table, Targets: targets,
		Entry:  policy.Chain{{Name: "owner", Check: policy.RequireOwner}},
		Branch: policy.Chain{{Name: "scopes", Check: policy.RequireScopes}},
		Signer: signer{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	late.Branches = c.Branches()
	return c
}

type lateConn struct{ upstream.Branches }

func (c *composites) target(t testing.TB, kind string, sd protoreflect.ServiceDescriptor) upstream.Target {
	t.Helper()
	desc := c.describe(sd)
	if kind == "inprocess" {
		return upstream.InProcess(upstream.Host{Name: string(sd.Name()), Logger: slog.New(slog.DiscardHandler), Register: func(r grpc.ServiceRegistrar) { r.RegisterService(desc, c) }})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	server.RegisterService(desc, c)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	target, err := upstream.Remote(upstream.RemoteOptions{Target: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := target.Close()
		server.Stop()
		if err := errors.Join(err, <-done); err != nil {
			t.Error(err)
		}
	})
	return target
}

// describe is the service as bytes: each unary method answers what it was told to.
func (c *composites) describe(sd protoreflect.ServiceDescriptor) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: string(sd.FullName()), HandlerType: (*any)(nil)}
	for i := range sd.Methods().Len() {
		name := string(sd.Methods().Get(i).Name())
		handle := func(_ context.Context, _ any) (any, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			b, ok := c.answers["/"+string(sd.FullName())+"/"+name]
			if !ok {
				return nil, status.Error(codes.Unavailable, "not told what to answer")
			}
			return &wire.Frame{Data: b}, nil
		}
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, decode func(any) error, unary grpc.UnaryServerInterceptor) (any, error) {
			in := &wire.Frame{}
			if err := decode(in); err != nil || unary == nil {
				if err == nil {
					return handle(ctx, in)
				}
				return nil, err
			}
			return unary(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + string(sd.FullName()) + "/" + name}, handle)
		}})
	}
	return desc
}

// admit returns a context in which ada may call the method.
func (c *composites) admit(t testing.TB, method string) context.Context {
	t.Helper()
	call := &policy.Call{Method: c.table.Method(method).Method, RequestID: "r-1", Principal: policy.NewPrincipal("ada", "", []string{"users.read", "orders.read"}, time.Time{})}
	ctx, err := policy.Chain{}.Admit(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// call sends typed and as bytes, as the two edges do, receives both ways, and
// holds the outcomes to be one.
func (c *composites) call(t testing.TB, method string, in, out proto.Message) error {
	t.Helper()
	err := c.Invoke(c.admit(t, method), method, in, out)
	b, _ := proto.Marshal(in)
	var f wire.Frame
	asBytes := c.Invoke(c.admit(t, method), method, &wire.Frame{Data: b}, &f)
	if !proto.Equal(status.Convert(err).Proto(), status.Convert(asBytes).Proto()) {
		t.Fatalf("%s: %v typed, %v as bytes", method, err, asBytes)
	}
	if err != nil {
		return err
	}
	again := out.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(f.Data, again); err != nil || !proto.Equal(out, again) {
		t.Fatalf("%s: typed %v\nas bytes %v (%v)", method, out, again, err)
	}
	return nil
}
