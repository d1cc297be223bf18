// Package user opens the user service: domain, store and server put together.
package user

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/idempotency"
	"github.com/sluice-gateway/sluice/services/user/domain"
	"github.com/sluice-gateway/sluice/services/user/server"
	"github.com/sluice-gateway/sluice/services/user/store"
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
	srv := server.New(s, keys)
	return &kit.Service{
		Name:     userv1.UserService_ServiceDesc.ServiceName,
		Register: func(r grpc.ServiceRegistrar) { userv1.RegisterUserServiceServer(r, srv) },
		Seed:     func(ctx context.Context) error { return seed(ctx, s) },
		Check:    s.DB().Check,
		Drain:    func() {},
		Close:    func() error { stopPurge(); return s.Close() },
	}, nil
}

// seed writes the demo's users. One whose id or e-mail address is taken by then
// is left out.
func seed(ctx context.Context, s *store.Store) error {
	return s.DB().Once(ctx, store.Service, "seed", func(tx *sql.Tx) error {
		for _, u := range demoUsers() {
			if err := s.InsertIfAbsent(ctx, tx, u); err != nil {
				return err
			}
		}
		return nil
	})
}

func demoUsers() []domain.User {
	at := func(day int) time.Time { return time.Date(2026, time.January, day, 9, 0, 0, 0, time.UTC) }
	return []domain.User{
		{ID: "ada", Email: "ada@example.com", DisplayName: "Ada Lovelace", Phone: "+441632960001", Revision: 1, Created: at(5), Updated: at(5)},
		{ID: "grace", Email: "grace@example.com", DisplayName: "Grace Hopper", Phone: "+12025550101", Revision: 1, Created: at(6), Updated: at(6)},
		{ID: "alan", Email: "alan@example.com", DisplayName: "Alan Turing", Revision: 1, Created: at(7), Updated: at(7)},
	}
}
