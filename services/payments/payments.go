// Package payments is a small service that speaks plain HTTP, to show what the gateway
// does for one (docs/http.md). It keeps payments as its neighbours keep their things
// (services/kit/database), and believes nobody but the gateway's assertion
// (services/kit), as they do.
package payments

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/database"
)

// Name is the service's: its upstream's in the gateway, and the audience of assertions.
const Name = "payments"

//go:embed migrations/*.sql
var migrations embed.FS

// Payment is that an order was paid.
type Payment struct {
	PaymentID  string    `json:"paymentId"`
	UserID     string    `json:"userId"`
	OrderID    string    `json:"orderId"`
	Currency   string    `json:"currency"`
	Cents      int64     `json:"cents,string"`
	CreateTime time.Time `json:"createTime"`
}

// Service is the payments, opened. Safe for concurrent use.
type Service struct {
	db       *database.DB
	verifier *kit.Verifier
	log      *slog.Logger
	mux      *http.ServeMux

	mu      sync.Mutex
	changed chan struct{} // closed when there is a payment more
	drained chan struct{}
	once    sync.Once
}

// Open opens the service on dsn ("sqlite:FILE" or "postgres://…"), migrated.
func Open(ctx context.Context, dsn string, v *kit.Verifier, log *slog.Logger) (*Service, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := database.Open(ctx, dsn, Name, dir)
	if err != nil {
		return nil, err
	}
	s := &Service{db: db, verifier: v, log: log, changed: make(chan struct{}), drained: make(chan struct{})}
	s.mux = s.routes()
	return s, nil
}

// Seed writes the demo data, once.
func (s *Service) Seed(ctx context.Context) error {
	return s.db.Once(ctx, Name, "seed", func(tx *sql.Tx) error {
		return insert(ctx, tx, Payment{PaymentID: "ada-0001", UserID: "ada", OrderID: "ada-0001", Currency: "EUR", Cents: 4999,
			CreateTime: time.Date(2026, time.January, 9, 9, 0, 0, 0, time.UTC)})
	})
}

// Check says whether the database can be reached.
func (s *Service) Check(ctx context.Context) error { return s.db.Check(ctx) }

// Drain ends the streams that are open, and those opened later.
func (s *Service) Drain() { s.once.Do(func() { close(s.drained) }) }

// Close drains and closes the database.
func (s *Service) Close() error {
	s.Drain()
	return s.db.Close()
}

var (
	errPaid  = errors.New("the order is paid already")
	validID  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
)

func (p *Payment) check() error {
	switch {
	case !validID.MatchString(p.OrderID):
		return errors.New("orderId must be 1 to 63 of a-z, 0-9, - and _")
	case !currency.MatchString(p.Currency):
		return errors.New("currency must be three letters, such as EUR")
	case p.Cents <= 0 || p.Cents > 1_000_000_000:
		return errors.New("cents must be from 1 to 1000000000")
	}
	return nil
}

func insert(ctx context.Context, tx *sql.Tx, p Payment) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO payments (payment_id, user_id, order_id, currency, cents, create_time)
VALUES ($1, $2, $3, $4, $5, $6)`, p.PaymentID, p.UserID, p.OrderID, p.Currency, p.Cents, p.CreateTime.UnixMicro())
	if database.IsUnique(err) {
		return errPaid
	}
	return err
}

func (s *Service) add(ctx context.Context, p Payment) error {
	if err := s.db.Tx(ctx, func(tx *sql.Tx) error { return insert(ctx, tx, p) }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// next is closed when there is a payment more.
func (s *Service) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// maxList bounds a list.
const maxList = 100

// list returns the newest payments of a user.
func (s *Service) list(ctx context.Context, user string) (_ []Payment, err error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT payment_id, user_id, order_id, currency, cents, create_time
FROM payments WHERE user_id = $1 ORDER BY create_time DESC, payment_id LIMIT $2`, user, maxList)
	if err != nil {
		return nil, fmt.Errorf("list payments: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out := []Payment{}
	for rows.Next() {
		var p Payment
		var at int64
		if err := rows.Scan(&p.PaymentID, &p.UserID, &p.OrderID, &p.Currency, &p.Cents, &at); err != nil {
			return nil, err
		}
		p.CreateTime = time.UnixMicro(at).UTC()
		out = append(out, p)
	}
	return out, rows.Err()
}
