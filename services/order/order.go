// Package order opens the order service: domain, store, watch and server put
// together.
package order

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/idempotency"
	"github.com/sluice-gateway/sluice/services/order/server"
	"github.com/sluice-gateway/sluice/services/order/store"
	"github.com/sluice-gateway/sluice/services/order/watch"
)

// purgeInterval is how often expired idempotency keys are deleted.
const purgeInterval = 10 * time.Minute

// Open opens the service on dsn, migrated.
func Open(ctx context.Context, dsn string, log *slog.Logger) (*kit.Service, error) {
	s, err := store.Open(ctx, dsn)
	if err != nil {
		return nil, err
	}
	keys := idempotency.New(s.DB(), store.Service, nil)
	stopPurge := keys.PurgeEvery(purgeInterval, func(err error) { log.Warn("idempotency keys", "service", store.Service, "error", err) })
	hub := watch.New(watch.Options{Source: s, Logger: log})
	srv := server.New(s, keys, hub)
	return &kit.Service{
		Name:     orderv1.OrderService_ServiceDesc.ServiceName,
		Register: func(r grpc.ServiceRegistrar) { orderv1.RegisterOrderServiceServer(r, srv) },
		Seed:     func(ctx context.Context) error { return seed(ctx, s) },
		Check:    s.DB().Check,
		Drain:    hub.Drain,
		Close:    func() error { hub.Close(); stopPurge(); return s.Close() },
	}, nil
}
