// Package shop opens the shop's services by name, for programs that run one of
// them (services/cmd/shop) or all in one process (the gateway).
package shop

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/order"
	"github.com/sluice-gateway/sluice/services/profile"
	"github.com/sluice-gateway/sluice/services/user"
)

// Names returns the names that Open knows.
func Names() []string { return []string{"user", "order", "profile"} }

// Open opens "user", "order" or "profile" on dsn ("sqlite:FILE" or "postgres://…"),
// migrated. Three services may share one PostgreSQL database; files are one each.
// A nil log means slog.Default().
func Open(ctx context.Context, name, dsn string, log *slog.Logger) (*kit.Service, error) {
	if log == nil {
		log = slog.Default()
	}
	var (
		s   *kit.Service
		err error
	)
	switch name {
	case "user":
		s, err = user.Open(ctx, dsn, log)
	case "order":
		s, err = order.Open(ctx, dsn, log)
	case "profile":
		s, err = profile.Open(ctx, dsn, log)
	default:
		return nil, fmt.Errorf("no service %q: there are %s", name, strings.Join(Names(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("open %s service: %w", name, err)
	}
	return s, nil
}
