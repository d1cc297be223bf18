package ledger

import (
	"context"
	"database/sql"
	"testing"
)

// RestAfter is how long the file is left alone after a failure.
const RestAfter = restAfter

// BlockOf is what a crash may lose.
func BlockOf(size int64) int64 { return blockOf(size) }

// Grant is the pure decision of how much to lease.
func Grant(used, size, want, lease int64) int64 { return grant(used, size, want, lease) }

// Keys is how many keys are in memory.
func (l *Ledger) Keys() int { return l.table.len() }

// Rows is how many rows the file has.
func (l *Ledger) Rows(t testing.TB) (n int) {
	t.Helper()
	if err := l.store.read.QueryRowContext(t.Context(), `SELECT count(*) FROM quotas`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Sweep drops the keys that are idle now.
func (l *Ledger) Sweep() { l.table.sweep(l.now().Add(-idleAfter)) }

// LockFile holds the file's write lock, as another process would, until unlock.
func (l *Ledger) LockFile(t testing.TB, file string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", source(file, "immediate"))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
