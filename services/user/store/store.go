// Package store keeps users in SQLite or PostgreSQL, with one text of SQL. Rows
// are domain.User; errors are gRPC statuses where a caller caused them.
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
	"github.com/sluice-gateway/sluice/services/user/domain"
)

// Service is the name under which the schema is versioned and tables are named.
const Service = "user"

//go:embed migrations/*.sql
var migrations embed.FS

const columns = `user_id, email, display_name, phone, revision, create_time, update_time`

// Store keeps users. It is safe for concurrent use, by several processes too.
type Store struct {
	db  *database.DB
	get *sql.Stmt
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
	get, err := db.Read.PrepareContext(ctx, `SELECT `+columns+` FROM users WHERE user_id = $1`)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare: %w", err), db.Close())
	}
	return &Store{db: db, get: get}, nil
}

// DB returns the database, for transactions and health checks.
func (s *Store) DB() *database.DB { return s.db }

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.get.Close(), s.db.Close()) }

// Get returns a user, or NOT_FOUND.
func (s *Store) Get(ctx context.Context, id string) (domain.User, error) {
	u, err := scan(s.get.QueryRowContext(ctx, id))
	return u, failed("get", id, err)
}

// Insert adds u within tx. It is ALREADY_EXISTS when its id or its e-mail address
// is taken.
func (s *Store) Insert(ctx context.Context, tx *sql.Tx, u domain.User) error {
	added, err := insert(ctx, tx, u)
	if err != nil || added {
		return err
	}
	var sameID int
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM users WHERE user_id = $1`, u.ID).Scan(&sameID)
	switch {
	case err != nil:
		return fmt.Errorf("insert user: %w", err)
	case sameID > 0:
		return kit.AlreadyExists("user %q already exists", u.ID)
	}
	return emailTaken()
}

// InsertIfAbsent adds u within tx, unless its id or its e-mail address is taken.
func (s *Store) InsertIfAbsent(ctx context.Context, tx *sql.Tx, u domain.User) error {
	_, err := insert(ctx, tx, u)
	return err
}

func insert(ctx context.Context, tx *sql.Tx, u domain.User) (added bool, err error) {
	res, err := tx.ExecContext(ctx, `INSERT INTO users
(user_id, email, email_key, display_name, name_key, phone, revision, create_time, update_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
		u.ID, u.Email, domain.Fold(u.Email), u.DisplayName, domain.Fold(u.DisplayName), u.Phone,
		u.Revision, u.Created.UnixMicro(), u.Updated.UnixMicro())
	if err != nil {
		return false, fmt.Errorf("insert user: %w", err)
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// Update locks the user, lets change decide and stores what it returns as the
// next revision. What change returns unchanged is left alone.
func (s *Store) Update(ctx context.Context, id string, now time.Time, change func(domain.User) (domain.User, error)) (domain.User, error) {
	var out domain.User
	err := s.db.Tx(ctx, func(tx *sql.Tx) error {
		old, err := lock(ctx, tx, id)
		if err != nil {
			return err
		}
		if out, err = change(old); err != nil {
			return err
		}
		if out == old {
			return errUnchanged
		}
		out.Revision, out.Updated = old.Revision+1, later(old.Updated, now)
		_, err = tx.ExecContext(ctx, `UPDATE users SET email = $2, email_key = $3, display_name = $4, name_key = $5,
phone = $6, update_time = $7 WHERE user_id = $1`,
			id, out.Email, domain.Fold(out.Email), out.DisplayName, domain.Fold(out.DisplayName), out.Phone, out.Updated.UnixMicro())
		if database.IsUnique(err) {
			return emailTaken()
		}
		return err
	})
	if errors.Is(err, errUnchanged) {
		return out, nil
	}
	return out, failed("update", id, err)
}

// errUnchanged undoes the transaction that found nothing to do.
var errUnchanged = errors.New("nothing to change")

// Delete deletes a user, if allow has nothing against it.
func (s *Store) Delete(ctx context.Context, id string, allow func(domain.User) error) error {
	return failed("delete", id, s.db.Tx(ctx, func(tx *sql.Tx) error {
		old, err := lock(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := allow(old); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM users WHERE user_id = $1`, id)
		return err
	}))
}

// lock holds the user's row until the transaction ends, and returns it as it was.
func lock(ctx context.Context, tx *sql.Tx, id string) (domain.User, error) {
	u, err := scan(tx.QueryRowContext(ctx, `UPDATE users SET revision = revision + 1 WHERE user_id = $1 RETURNING `+columns, id))
	u.Revision--
	return u, err
}

func scan(row interface{ Scan(...any) error }) (domain.User, error) {
	var (
		u                domain.User
		created, updated int64
	)
	err := row.Scan(&u.ID, &u.Email, &u.DisplayName, &u.Phone, &u.Revision, &created, &updated)
	u.Created, u.Updated = time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	return u, err
}

// failed turns the errors of a statement about one user into the caller's.
func failed(what, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return kit.NotFound("user %q not found", id)
	}
	return database.Unreachable(fmt.Errorf("%s user: %w", what, err))
}

func emailTaken() error { return kit.AlreadyExists("the e-mail address belongs to another user") }

// later keeps time from running backwards with the clock.
func later(before, now time.Time) time.Time {
	if now.Before(before) {
		return before
	}
	return now
}
