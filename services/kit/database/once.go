package database

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Once runs do in a transaction the first time it is called with name, and never
// again on this database. It needs a table `{service}_done (name, done_at)`.
func (db *DB) Once(ctx context.Context, service, name string, do func(*sql.Tx) error) error {
	return db.Tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO "+service+"_done (name, done_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
			name, time.Now().UnixMicro())
		if err != nil {
			return fmt.Errorf("once %s: %w", name, err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return do(tx)
	})
}
