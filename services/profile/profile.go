// Package profile opens the profile service: domain, store and server put
// together.
package profile

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"

	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/profile/server"
	"github.com/sluice-gateway/sluice/services/profile/store"
)

// Open opens the service on dsn, migrated.
func Open(ctx context.Context, dsn string, _ *slog.Logger) (*kit.Service, error) {
	s, err := store.Open(ctx, dsn)
	if err != nil {
		return nil, err
	}
	srv := server.New(s)
	return &kit.Service{
		Name:     profilev1.ProfileService_ServiceDesc.ServiceName,
		Register: func(r grpc.ServiceRegistrar) { profilev1.RegisterProfileServiceServer(r, srv) },
		Seed:     func(ctx context.Context) error { return seed(ctx, s) },
		Check:    s.DB().Check,
		Drain:    func() {},
		Close:    s.Close,
	}, nil
}
