// Package dbtest runs a test over the two engines that a store must work on: a
// SQLite file and a real PostgreSQL server, started for the test.
package dbtest

import (
	"path/filepath"
	"testing"
)

// Engine makes databases of one kind.
type Engine struct {
	// Name is "sqlite" or "postgres".
	Name string
	dsn  func(testing.TB) string
}

// DSN returns the name of a new, empty database, which lasts until the test ends.
func (e Engine) DSN(t testing.TB) string {
	t.Helper()
	return e.dsn(t)
}

// Each runs test once an engine, as subtests. It starts a PostgreSQL server: call
// it once a package, around all that needs an engine.
func Each(t *testing.T, test func(*testing.T, Engine)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		test(t, Engine{Name: "sqlite", dsn: func(t testing.TB) string {
			return "sqlite:" + filepath.Join(t.TempDir(), "test.db")
		}})
	})
	t.Run("postgres", func(t *testing.T) {
		server := StartPostgres(t)
		test(t, Engine{Name: "postgres", dsn: server.Database})
	})
}
