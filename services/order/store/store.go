// Package store keeps orders and their history in SQLite or PostgreSQL, with one
// text of SQL. Rows are domain.Order; errors are gRPC statuses where a caller
// caused them.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/database"
	"github.com/sluice-gateway/sluice/services/order/domain"
)

// Service is the name under which the schema is versioned and tables are named.
const Service = "order"

//go:embed migrations/*.sql
var migrations embed.FS

const columns = `order_id, user_id, lines, total_currency, total_units, total_nanos, note, state, revision, create_time, update_time`

// Store keeps orders. It is safe for concurrent use, by several processes too.
type Store struct {
	db                *database.DB
	get, list, events *sql.Stmt
}

// Open opens and migrates the database named by dsn.
func Open(ctx context.Context, dsn string) (*Store, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := database.Open(ctx, dsn, Service, dir)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.get, `SELECT ` + columns + ` FROM orders WHERE order_id = $1`},
		{&s.list, `SELECT ` + columns + ` FROM orders WHERE user_id = $1 AND (create_time, order_id) < ($2, $3)
ORDER BY create_time DESC, order_id DESC LIMIT $4`},
		{&s.events, `SELECT revision, state, update_time FROM order_events WHERE order_id = $1 AND revision > $2
ORDER BY revision LIMIT $3`},
	} {
		if *p.stmt, err = db.Read.PrepareContext(ctx, p.query); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare: %w", err), db.Close())
		}
	}
	return s, nil
}

// DB returns the database, for transactions and health checks.
func (s *Store) DB() *database.DB { return s.db }

// Close closes the database.
func (s *Store) Close() error {
	return errors.Join(s.get.Close(), s.list.Close(), s.events.Close(), s.db.Close())
}

// Get returns an order, or NOT_FOUND.
func (s *Store) Get(ctx context.Context, id string) (domain.Order, error) {
	o, err := scan(s.get.QueryRowContext(ctx, id))
	return o, failed("get", id, err)
}

// NotFound is what a missing order answers, and an order of somebody else.
func NotFound(id string) error { return kit.NotFound("order %q not found", id) }

// Insert adds o and its first event within tx.
func (s *Store) Insert(ctx context.Context, tx *sql.Tx, o domain.Order) error {
	lines, err := marshalLines(o.Lines)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO orders (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		o.ID, o.UserID, lines, o.Total.Currency, o.Total.Units, o.Total.Nanos, o.Note,
		o.State, o.Revision, o.Created.UnixMicro(), o.Updated.UnixMicro())
	if database.IsUnique(err) {
		return kit.AlreadyExists("order %q already exists", o.ID)
	}
	if err != nil {
		return fmt.Errorf("insert order: %w", err)
	}
	return insertEvent(ctx, tx, o)
}

// Decide names the state that follows, or refuses.
type Decide func(domain.Order) (domain.State, error)

// Move locks the order, lets decide name its next state, and stores that as the
// next revision, with its event. The state that it has already changes nothing.
func (s *Store) Move(ctx context.Context, id string, now time.Time, decide Decide) (domain.Order, error) {
	var o domain.Order
	err := s.db.Tx(ctx, func(tx *sql.Tx) (err error) {
		o, err = s.MoveIn(ctx, tx, id, now, decide)
		return err
	})
	if errors.Is(err, errUnchanged) {
		return o, nil
	}
	return o, failed("move", id, err)
}

// MoveIn is Move within tx, which the caller must undo when it fails.
func (s *Store) MoveIn(ctx context.Context, tx *sql.Tx, id string, now time.Time, decide Decide) (domain.Order, error) {
	// The row is held from here on, and read as it was before.
	o, err := scan(tx.QueryRowContext(ctx, `UPDATE orders SET revision = revision + 1 WHERE order_id = $1 RETURNING `+columns, id))
	if err != nil {
		return o, err
	}
	o.Revision--
	state, err := decide(o)
	if err != nil {
		return o, err
	}
	if state == o.State {
		return o, errUnchanged
	}
	o.State, o.Revision = state, o.Revision+1
	if now.After(o.Updated) { // Time must not run backwards with the clock.
		o.Updated = now
	}
	_, err = tx.ExecContext(ctx, `UPDATE orders SET state = $2, update_time = $3 WHERE order_id = $1`, id, o.State, o.Updated.UnixMicro())
	if err != nil {
		return o, err
	}
	return o, insertEvent(ctx, tx, o)
}

// errUnchanged undoes the transaction that found nothing to do.
var errUnchanged = errors.New("nothing to change")

func insertEvent(ctx context.Context, tx *sql.Tx, o domain.Order) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO order_events (order_id, revision, state, update_time) VALUES ($1, $2, $3, $4)`,
		o.ID, o.Revision, o.State, o.Updated.UnixMicro())
	if err != nil {
		return fmt.Errorf("insert event: %w", err)
	}
	return nil
}

// failed turns the errors of a statement about one order into the caller's.
func failed(what, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return NotFound(id)
	}
	return database.Unreachable(fmt.Errorf("%s order: %w", what, err))
}
