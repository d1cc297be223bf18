package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // driver "sqlite"
)

// busyMillis is how long a statement waits for another process's write.
const busyMillis = 5000

// version of the schema, kept in the file as user_version.
const version = 1

// The primary key begins with the period's end, so that rows of past periods lie
// together. used counts what is leased, whether it was used or not.
const schema = `CREATE TABLE IF NOT EXISTS quotas (
	ends INTEGER NOT NULL, period INTEGER NOT NULL, limit_name TEXT NOT NULL, who TEXT NOT NULL,
	used INTEGER NOT NULL, size INTEGER NOT NULL,
	PRIMARY KEY (ends, period, limit_name, who)
) WITHOUT ROWID`

const (
	selectUsed = `SELECT used FROM quotas WHERE ends = ? AND period = ? AND limit_name = ? AND who = ?`
	upsertUsed = `INSERT INTO quotas (ends, period, limit_name, who, used, size) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET used = excluded.used, size = excluded.size`
	returnUsed = `UPDATE quotas SET used = max(used - ?, 0) WHERE ends = ? AND period = ? AND limit_name = ? AND who = ?`
	present    = `SELECT ends, period, limit_name, who, used, size FROM quotas WHERE ends IN (?, ?)`
	presentOf  = `SELECT ends, period, limit_name, who, used, size FROM quotas
		WHERE ends = ? AND period = ? AND limit_name = ? ORDER BY who LIMIT ?`
	deletePast = `DELETE FROM quotas WHERE (ends, period, limit_name, who) IN
		(SELECT ends, period, limit_name, who FROM quotas WHERE ends < ? LIMIT 1000)`
)

// store is the file.
type store struct {
	// write has one connection, so that writers queue in order instead of spinning
	// on a lock; read sees the last commit while a write goes on (WAL).
	write, read *sql.DB
	file        string
	// failed says that the last transaction did: the file may be another now.
	failed atomic.Bool
}

func openStore(ctx context.Context, file string) (*store, error) {
	if file == "" {
		return nil, errors.New("ledger: no file is named")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	// synchronous=FULL: a lease is on the disk before a token of it is given.
	write, err := sql.Open("sqlite", source(file, "immediate", "journal_mode(WAL)", "synchronous(FULL)"))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", source(file, "deferred", "query_only(1)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: %w", err), write.Close())
	}
	read.SetMaxOpenConns(2)
	st := &store{write: write, read: read, file: file}
	if err := st.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: %s: %w", file, err), st.close())
	}
	return st, nil
}

// source names file as a URI, in which its own ? and # must not count.
// busy_timeout comes first: the pragmas after it may already have to wait. SQLite
// never makes the file (mode=rw): everyone could read it.
func source(file, txLock string, pragmas ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "file:%s?mode=rw&_txlock=%s&_pragma=busy_timeout(%d)", (&url.URL{Path: file}).EscapedPath(), txLock, busyMillis)
	for _, p := range pragmas {
		b.WriteString("&_pragma=" + p)
	}
	return b.String()
}

// makeFile makes the file where there is none, for its owner alone: it tells who
// called how often. SQLite gives its mode to the files beside it (-wal, -shm).
func makeFile(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // The operator names the file.
	if err != nil {
		return err
	}
	return f.Close()
}

func (st *store) migrate(ctx context.Context) error {
	if err := makeFile(st.file); err != nil {
		return err
	}
	return st.tx(ctx, func(tx *sql.Tx) error {
		var have int
		if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&have); err != nil {
			return err
		}
		if have > version {
			return fmt.Errorf("its schema is version %d, newer than %d", have, version)
		}
		if have == version {
			return nil
		}
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, version))
		return err
	})
}

// granted is a flight's share of a transaction: what it wants, and what it got.
type granted struct {
	flight      *flight
	want, lease int64
	tokens, row int64
}

// lease counts returns and grants in one transaction, and sets tokens and row of
// the grants. When it fails, nothing may be used of them.
func (st *store) lease(ctx context.Context, grants []granted, returns []ret) error {
	if st.failed.Load() {
		if err := st.migrate(ctx); err != nil {
			return err
		}
	}
	return st.tx(ctx, func(tx *sql.Tx) error {
		for _, r := range returns {
			if _, err := tx.ExecContext(ctx, returnUsed, r.tokens, r.ends, r.key.period, r.key.limit, r.key.who); err != nil {
				return err
			}
		}
		if len(grants) == 0 {
			return nil
		}
		look, err := tx.PrepareContext(ctx, selectUsed)
		if err != nil {
			return err
		}
		defer func() { _ = look.Close() }() // It ends with the transaction anyway.
		set, err := tx.PrepareContext(ctx, upsertUsed)
		if err != nil {
			return err
		}
		defer func() { _ = set.Close() }()
		for i := range grants {
			if err := grants[i].count(ctx, look, set); err != nil {
				return err
			}
		}
		return nil
	})
}

func (g *granted) count(ctx context.Context, look, set *sql.Stmt) error {
	f, used := g.flight, int64(0)
	err := look.QueryRowContext(ctx, f.ends, f.key.period, f.key.limit, f.key.who).Scan(&used)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	g.tokens = grant(used, f.size, g.want, g.lease)
	g.row = used + g.tokens
	if g.tokens <= 0 {
		g.tokens, g.row = 0, used
		return nil
	}
	_, err = set.ExecContext(ctx, f.ends, f.key.period, f.key.limit, f.key.who, g.row, f.size)
	return err
}

// each calls do with the rows of a query. It does not hold up writers.
func (st *store) each(ctx context.Context, do func(row), query string, args ...any) error {
	rows, err := st.read.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.ends, &r.key.period, &r.key.limit, &r.key.who, &r.used, &r.size); err != nil {
			return err
		}
		do(r)
	}
	return rows.Err()
}

type row struct {
	key              key
	ends, used, size int64
}

// purge deletes rows of periods that ended before then, some at a time, so that
// leases get their turn.
func (st *store) purge(ctx context.Context, before time.Time) error {
	for {
		var n int64
		err := st.tx(ctx, func(tx *sql.Tx) error {
			result, err := tx.ExecContext(ctx, deletePast, before.Unix())
			if err != nil {
				return err
			}
			n, err = result.RowsAffected()
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// tx runs do in a transaction. A connection on which something failed is not used
// again: the file may be mended or replaced meanwhile, and the next connection
// sees it as it is.
func (st *store) tx(ctx context.Context, do func(*sql.Tx) error) error {
	conn, err := st.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	err = func() error {
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // After a commit it does nothing.
		if err := do(tx); err != nil {
			return err
		}
		return tx.Commit()
	}()
	st.failed.Store(err != nil)
	if err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		return errors.Join(fmt.Errorf("ledger: %w", err), ignoreDone(conn.Close()))
	}
	return conn.Close()
}

// ignoreDone drops what closing a connection says that was given up already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn) {
		return nil
	}
	return err
}

func (st *store) close() error { return errors.Join(st.read.Close(), st.write.Close()) }
