// Package shop registers the shop's services with the gateway, one line a
// service, and says how each runs inside the gateway's process. It is the one
// place that knows both the gateway and the services.
package shop

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/aggregator"
	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/rest"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/shop"
)

// Services are the shop's services and its composites.
func Services() []gateway.Service {
	return []gateway.Service{
		{Descriptor: service(userv1.File_shop_user_v1_user_proto), Handlers: rest.Handlers(userv1.RegisterUserServiceHandlerClient, userv1.NewUserServiceClient), Embed: stored("user")},
		{Descriptor: service(orderv1.File_shop_order_v1_order_proto), Handlers: rest.Handlers(orderv1.RegisterOrderServiceHandlerClient, orderv1.NewOrderServiceClient), Embed: stored("order")},
		{Descriptor: service(profilev1.File_shop_profile_v1_profile_proto), Handlers: rest.Handlers(profilev1.RegisterProfileServiceHandlerClient, profilev1.NewProfileServiceClient), Embed: stored("profile")},
		{Descriptor: service(bffv1.File_shop_bff_v1_bff_proto), Handlers: rest.Handlers(bffv1.RegisterBffServiceHandlerClient, bffv1.NewBffServiceClient), Embed: composites, Composite: true},
	}
}

// service is the only service of a file.
func service(f protoreflect.FileDescriptor) protoreflect.ServiceDescriptor {
	return f.Services().Get(0)
}

// stored runs a service with a database of its own in this process.
func stored(name string) func(context.Context, gateway.Embedding) (upstream.Host, error) {
	return func(ctx context.Context, e gateway.Embedding) (upstream.Host, error) {
		dsn := e.Config.GetDatabases()[name].GetDsn()
		if dsn == "" {
			dsn = "sqlite:" + filepath.Join(e.Config.GetDataDir(), name+".db")
		}
		svc, err := shop.Open(ctx, name, dsn, e.Logger)
		if err != nil {
			return upstream.Host{}, fmt.Errorf("open its database: %w", err)
		}
		h, err := host(name, svc.Register, svc.Close, e)
		if err == nil && e.Demo {
			if err = svc.Seed(ctx); err != nil {
				err = fmt.Errorf("write the demo data: %w", err)
			}
		}
		if err != nil {
			return upstream.Host{}, errors.Join(err, svc.Close())
		}
		return h, nil
	}
}

// composites run here by their nature: their backend is this process.
func composites(_ context.Context, e gateway.Embedding) (upstream.Host, error) {
	srv, err := aggregator.New(aggregator.Options{Users: e.Branches, Orders: e.Branches, Profiles: e.Branches, Logger: e.Logger})
	if err != nil {
		return upstream.Host{}, err
	}
	h, err := host("bff", func(r grpc.ServiceRegistrar) { bffv1.RegisterBffServiceServer(r, srv) }, nil, e)
	h.Prompt = true // All that a composite waits for is calls of e.Branches.
	return h, err
}

// host puts the services' own interceptors in front: a service checks the
// gateway's assertion wherever it runs.
func host(name string, register func(grpc.ServiceRegistrar), closer func() error, e gateway.Embedding) (upstream.Host, error) {
	verifier, err := kit.NewVerifierFunc(e.AssertionKeys)
	if err != nil {
		return upstream.Host{}, err
	}
	o := kit.InterceptorOptions{Verifier: verifier, Logger: e.Logger, Tracer: e.Tracer}
	unary, err := kit.Unary(o)
	if err != nil {
		return upstream.Host{}, err
	}
	stream, err := kit.Stream(o)
	if err != nil {
		return upstream.Host{}, err
	}
	return upstream.Host{Name: name, Register: register, Unary: unary, Stream: stream, Close: closer, Logger: e.Logger}, nil
}
