package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

// sqliteMigrateTries is how often a migration of SQLite is tried: of two
// processes that open a new file at once, one finds the other's tables.
const sqliteMigrateTries = 5

// migrate brings the schema up to date, also when several processes try at once.
func migrate(ctx context.Context, pool *sql.DB, isFile bool, service string, migrations fs.FS) (err error) {
	dialect := goose.DialectPostgres
	if isFile {
		dialect = goose.DialectSQLite3
	}
	p, err := goose.NewProvider(dialect, pool, migrations,
		goose.WithTableName(service+"_schema_version"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", service, err)
	}
	up := func() error {
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("migrate %s: %w", service, err)
		}
		return nil
	}
	if !isFile {
		return locked(ctx, pool, service, up)
	}
	for try := 1; ; try++ {
		if err = up(); err == nil || try == sqliteMigrateTries || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Duration(try) * 20 * time.Millisecond)
	}
}

// locked runs do while holding PostgreSQL's advisory lock of the service's name.
// The lock belongs to the session, hence the connection of its own.
func locked(ctx context.Context, pool *sql.DB, service string, do func() error) (err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	h := fnv.New64a()
	_, _ = h.Write([]byte("sluice migrate " + service))
	id := int64(h.Sum64()) //nolint:gosec // any 64 bits will do
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", id); err != nil {
		return fmt.Errorf("lock migrations of %s: %w", service, err)
	}
	defer func() {
		// Not ctx: the lock must go even when the caller has given up.
		_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", id)
		err = errors.Join(err, unlockErr)
	}()
	return do()
}
