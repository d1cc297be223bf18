package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/services/kit/database"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var schema = fstest.MapFS{"00001_t.sql": {Data: []byte(`-- +goose Up
CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, data BYTEA NOT NULL);
CREATE TABLE test_done (name TEXT NOT NULL PRIMARY KEY, done_at BIGINT NOT NULL);
`)}}

func open(t *testing.T, dsn string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), dsn, "test", schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func insert(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO counters (name, revision, data) VALUES ($1, 0, $2)`, name, []byte{0, 255})
	return err
}

func count(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	if err := db.Read.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM counters`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDatabase(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		t.Run("a transaction is all or nothing", func(t *testing.T) { allOrNothing(t, open(t, e.DSN(t))) })
		t.Run("locked rows lose no update", func(t *testing.T) { noLostUpdate(t, e) })
		t.Run("several may open at once", func(t *testing.T) { openAtOnce(t, e) })
		t.Run("once is once", func(t *testing.T) { once(t, open(t, e.DSN(t))) })
		t.Run("errors are told apart", func(t *testing.T) { errorKinds(t, open(t, e.DSN(t))) })
	})
}

func allOrNothing(t *testing.T, db *database.DB) {
	ctx := t.Context()
	boom := errors.New("boom")
	err := db.Tx(ctx, func(tx *sql.Tx) error { return errors.Join(insert(ctx, tx, "a"), boom) })
	if !errors.Is(err, boom) || count(t, db) != 0 {
		t.Fatalf("after a failure: %v, %d rows", err, count(t, db))
	}
	func() {
		defer func() { _ = recover() }()
		_ = db.Tx(ctx, func(tx *sql.Tx) error { _ = insert(ctx, tx, "a"); panic("boom") })
	}()
	if count(t, db) != 0 {
		t.Fatal("after a panic a row is left")
	}
	if err := db.Tx(ctx, func(tx *sql.Tx) error { return insert(ctx, tx, "a") }); err != nil || count(t, db) != 1 {
		t.Fatalf("after a commit: %v, %d rows", err, count(t, db))
	}
	var data []byte
	if err := db.Read.QueryRowContext(ctx, `SELECT data FROM counters`).Scan(&data); err != nil || string(data) != "\x00\xff" {
		t.Fatalf("bytes came back as %x, %v", data, err)
	}
}

// noLostUpdate counts up from two databases opened on one, as two processes would.
func noLostUpdate(t *testing.T, e dbtest.Engine) {
	dsn := e.DSN(t)
	dbs := []*database.DB{open(t, dsn), open(t, dsn)}
	ctx := t.Context()
	if err := dbs[0].Tx(ctx, func(tx *sql.Tx) error { return insert(ctx, tx, "c") }); err != nil {
		t.Fatal(err)
	}
	const each = 20
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for range each {
				err := dbs[i%2].Tx(ctx, func(tx *sql.Tx) error {
					var revision int64
					if err := tx.QueryRowContext(ctx, `UPDATE counters SET revision = revision + 1 WHERE name = 'c' RETURNING revision`).Scan(&revision); err != nil {
						return err
					}
					_, err := tx.ExecContext(ctx, `UPDATE counters SET revision = $1 WHERE name = 'c'`, revision)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var revision int64
	if err := dbs[1].Read.QueryRowContext(ctx, `SELECT revision FROM counters`).Scan(&revision); err != nil || revision != 6*each {
		t.Fatalf("counted to %d, %v, want %d", revision, err, 6*each)
	}
}

func openAtOnce(t *testing.T, e dbtest.Engine) {
	dsn := e.DSN(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			db, err := database.Open(t.Context(), dsn, "test", schema)
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if db := open(t, dsn); db.Check(t.Context()) != nil || count(t, db) != 0 {
		t.Error("the schema is not there")
	}
}

func once(t *testing.T, db *database.DB) {
	ctx := t.Context()
	boom := errors.New("boom")
	if err := db.Once(ctx, "test", "seed", func(*sql.Tx) error { return boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	ran := 0
	for range 3 {
		if err := db.Once(ctx, "test", "seed", func(tx *sql.Tx) error { ran++; return insert(ctx, tx, "a") }); err != nil {
			t.Fatal(err)
		}
	}
	if ran != 1 || count(t, db) != 1 {
		t.Fatalf("ran %d times after the failure, want once", ran)
	}
}

func errorKinds(t *testing.T, db *database.DB) {
	ctx := t.Context()
	add := func() error { return db.Tx(ctx, func(tx *sql.Tx) error { return insert(ctx, tx, "a") }) }
	if err := add(); err != nil {
		t.Fatal(err)
	}
	if err := add(); !database.IsUnique(err) || status.Code(err) != codes.Unknown {
		t.Errorf("a second row: %v, want a unique violation without a status", err)
	}
	if _, err := db.Write.ExecContext(ctx, `SELECT nonsense`); err == nil || database.IsUnique(err) || status.Code(database.Unreachable(err)) == codes.Unavailable {
		t.Errorf("nonsense: %v, want neither unique nor unreachable", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := db.Check(gone); !errors.Is(err, context.Canceled) || status.Code(database.Unreachable(err)) == codes.Unavailable {
		t.Errorf("a check of one who left: %v, want Canceled", err)
	}
}

// A server that crashes closes connections of the pool between the pool's look at
// them and their use.
func TestClosedConnectionIsUnavailable(t *testing.T) {
	pg := dbtest.StartPostgres(t)
	conn, err := pgx.Connect(t.Context(), pg.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Begin(t.Context())
	if err == nil || status.Code(database.Unreachable(fmt.Errorf("begin: %w", err))) != codes.Unavailable {
		t.Errorf("begin on a closed connection: %v, want UNAVAILABLE", err)
	}
}

func TestBusySQLiteIsUnavailable(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "busy.db")
	holder, other := open(t, dsn), open(t, dsn)
	tx, err := holder.Write.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	// Readers go on while another process writes.
	if n := count(t, other); n != 0 {
		t.Fatal(n)
	}
	// A writer who cannot wait is told so in time.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = other.Tx(ctx, func(tx *sql.Tx) error { return insert(ctx, tx, "a") })
	if !errors.Is(err, context.DeadlineExceeded) { // Not what SQLite says when its own wait, busy_timeout, is over.
		t.Errorf("a waiting writer got %v, want its deadline", err)
	}
	if _, err := other.Write.ExecContext(t.Context(), "PRAGMA busy_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	err = other.Tx(t.Context(), func(tx *sql.Tx) error { return insert(t.Context(), tx, "a") })
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a busy database: %v, want UNAVAILABLE", err)
	}
}

func TestSQLiteFile(t *testing.T) {
	// A name with what a URI would take for its own, in a directory to be made.
	file := filepath.Join(t.TempDir(), "new", "a?mode=memory&x=%41#b c.db")
	for range 2 {
		db, err := database.Open(t.Context(), "sqlite:"+file, "test", schema)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Tx(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO counters (name, revision, data) VALUES ('a', 1, '') ON CONFLICT DO NOTHING`)
			return err
		}); err != nil || count(t, db) != 1 {
			t.Fatal(err, count(t, db))
		}
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
			var got string
			if err := db.Write.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s = %q, %v, want %q", pragma, got, err, want)
			}
		}
		if _, err := db.Read.ExecContext(t.Context(), `DELETE FROM counters`); err == nil {
			t.Error("the read pool writes")
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(found) != 1 || found[0] != file {
		t.Errorf("files = %q, want %q alone", found, file)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, dsn := range map[string]string{
		"nothing":         "",
		"another engine":  "mysql://localhost/x",
		"no file":         "sqlite:",
		"no server there": "postgres://nobody@127.0.0.1:1/x?connect_timeout=1",
		"a directory":     "sqlite:" + t.TempDir(),
	} {
		t.Run(name, func(t *testing.T) {
			db, err := database.Open(t.Context(), dsn, "test", schema)
			if err == nil {
				t.Fatal("opened", db.Close())
			}
			if strings.Contains(err.Error(), "password") {
				t.Error(err)
			}
		})
	}
}
