// Package database opens the stores of the services: SQLite, embedded, or
// PostgreSQL, shared by several processes. Both speak database/sql and are given
// the same SQL and the same migrations; what differs stays in this package.
//
// Its neighbours: services/*/store hold the SQL, kit/idempotency adds a table of
// its own to theirs, kit/dbtest runs a test over both engines.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	_ "modernc.org/sqlite"             // driver "sqlite"
)

const (
	// postgresConns bounds the connections of one service to PostgreSQL, whose
	// default is 100 for everybody.
	postgresConns    = 16
	postgresConnIdle = 5 * time.Minute
	// sqliteBusyMillis is how long a statement waits for another process's write.
	sqliteBusyMillis = 5000
)

// DB is one service's database. It is safe for concurrent use.
//
// SQLite has one writer at a time: Write has one connection there, so that
// writers queue in order instead of spinning on a lock, and Read has several
// that see the last commit while a write goes on (WAL). On PostgreSQL both are
// the same pool.
type DB struct {
	// Read serves queries; on SQLite it refuses to write.
	Read *sql.DB
	// Write serves transactions. One that is open must not wait for another.
	Write *sql.DB
}

// Open opens dsn, "sqlite:FILE" or "postgres://…", and applies the migrations,
// which are kept count of under the service's name: several services may share
// one PostgreSQL database. A file and its directory are made, for their owner
// alone, where they are missing.
func Open(ctx context.Context, dsn, service string, migrations fs.FS) (*DB, error) {
	var (
		db  *DB
		err error
	)
	file, isFile := strings.CutPrefix(dsn, "sqlite:")
	switch {
	case isFile:
		db, err = openSQLite(file)
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		db, err = openPostgres(dsn)
	default:
		return nil, errors.New("database must be sqlite:FILE or postgres://…")
	}
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, db.Write, isFile, service, migrations); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func openPostgres(dsn string) (*DB, error) {
	pool, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	pool.SetMaxOpenConns(postgresConns)
	pool.SetMaxIdleConns(postgresConns)
	pool.SetConnMaxIdleTime(postgresConnIdle)
	return &DB{Read: pool, Write: pool}, nil
}

func openSQLite(file string) (*DB, error) {
	if file == "" {
		return nil, errors.New("sqlite: no file is named")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := makeFile(file); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	// synchronous=FULL: an acknowledged write is on the disk.
	write, err := sql.Open("sqlite", sqliteSource(file, "immediate", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"))
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", sqliteSource(file, "deferred", "query_only(1)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: %w", err), write.Close())
	}
	conns := max(4, runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(conns)
	read.SetMaxIdleConns(conns)
	return &DB{Read: read, Write: write}, nil
}

// makeFile makes the file where there is none, for its owner alone. SQLite gives
// its mode to the files beside it (-wal, -shm).
func makeFile(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // The operator names the file.
	if err != nil {
		return err
	}
	return f.Close()
}

// sqliteSource names file as a URI, in which its own ? and # must not count.
// busy_timeout comes first: the pragmas after it may already have to wait. SQLite
// never makes the file (mode=rw): everyone could read it.
func sqliteSource(file, txLock string, pragmas ...string) string {
	path := (&url.URL{Path: file}).EscapedPath()
	source := fmt.Sprintf("file:%s?mode=rw&_txlock=%s&_pragma=busy_timeout(%d)", path, txLock, sqliteBusyMillis)
	for _, p := range pragmas {
		source += "&_pragma=" + p
	}
	return source
}

// Check reports whether the database can be reached.
func (db *DB) Check(ctx context.Context) error {
	var one int
	if err := db.Read.QueryRowContext(ctx, "SELECT 1").Scan(&one); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// Close closes the database. What is running fails.
func (db *DB) Close() error {
	err := db.Read.Close()
	if db.Write != db.Read {
		err = errors.Join(err, db.Write.Close())
	}
	return err
}

// Tx runs do in a transaction, which is committed when do returns nil and undone
// when it fails or panics. What do changed outside of the transaction is its own
// business. Both engines hold the rows that do writes until then: a statement
// `UPDATE … SET revision = revision + 1 … RETURNING` is how a row is locked and
// read at once, in SQL that both know.
func (db *DB) Tx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := db.Write.BeginTx(ctx, nil)
	if err != nil {
		return Unreachable(fmt.Errorf("begin: %w", err))
	}
	defer func() { _ = tx.Rollback() }() // After a commit it does nothing.
	if err := do(tx); err != nil {
		return Unreachable(err)
	}
	if err := tx.Commit(); err != nil {
		return Unreachable(fmt.Errorf("commit: %w", err))
	}
	return nil
}
