package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
)

const startTimeout = 60 * time.Second

// Postgres is a throw-away PostgreSQL server. It listens on a socket in its own
// directory only, so that no port can be taken twice.
type Postgres struct {
	dir       string
	server    *exec.Cmd
	stopOnce  sync.Once
	stopped   atomic.Bool
	databases atomic.Int64
}

// StartPostgres starts a server that stops when the test ends. Where PostgreSQL is
// not installed, the test fails if CI=true, and is skipped on a developer's
// machine: a test that did not run proves nothing.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg") // Not t.TempDir: the server's user cannot enter that.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	attr := unprivileged(t, dir)
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(t.Context(), binary(t, "initdb"), //nolint:gosec // a program found on this machine
		"-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	var log bytes.Buffer
	server := exec.Command(binary(t, "postgres"), "-D", data, "-k", dir, //nolint:gosec // likewise
		"-c", "listen_addresses=", "-c", "max_connections=300",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	server.SysProcAttr, server.Dir, server.Stdout, server.Stderr = attr, dir, &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Postgres{dir: dir, server: server}
	t.Cleanup(p.Stop)
	if err := p.await(t.Context()); err != nil {
		p.Stop()
		t.Fatalf("postgres does not answer: %v\n%s", err, log.String())
	}
	return p
}

// Stop stops the server at once, as a crash would.
func (p *Postgres) Stop() {
	p.stopOnce.Do(func() {
		p.stopped.Store(true)
		_ = p.server.Process.Signal(syscall.SIGQUIT)
		_ = p.server.Wait()
	})
}

// Database makes a new database and returns its name as a DSN.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", p.databases.Add(1))
	if err := p.exec(context.Background(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.stopped.Load() {
			return
		}
		if err := p.exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return p.dsn(name)
}

func (p *Postgres) dsn(database string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: url.Values{
		"host": {p.dir}, "user": {"postgres"}, "sslmode": {"disable"},
	}.Encode()}
	return "postgres://" + u.Path + "?" + u.RawQuery
}

func (p *Postgres) exec(ctx context.Context, query string) error {
	db, err := sql.Open("pgx", p.dsn("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, query)
	return err
}

func (p *Postgres) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := p.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unprivileged gives dir to the postgres user where the test runs as root, which
// PostgreSQL refuses to.
func unprivileged(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		missing(t, "user postgres")
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		t.Fatalf("user postgres has the ids %s and %s", u.Uid, u.Gid)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// binary finds a program of PostgreSQL, which Debian keeps off the PATH.
func binary(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, _ := filepath.Glob(filepath.Join("/usr/lib/postgresql", "*", "bin", name))
	if len(found) == 0 {
		missing(t, name)
	}
	return found[len(found)-1]
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("PostgreSQL is not installed: no %s", what)
	}
	t.Skipf("PostgreSQL is not installed: no %s", what)
}
