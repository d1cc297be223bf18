package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
)

// database is PostgreSQL with one database a service.
type database struct {
	*part
	dir, initdb string
	attr        *syscall.SysProcAttr
}

func (c *cluster) newDatabase() (*database, error) {
	const debian = "/usr/lib/postgresql/*/bin/"
	initdb, err := find("initdb", "postgresql", debian+"initdb")
	if err != nil {
		return nil, err
	}
	server, err := find("postgres", "postgresql", debian+"postgres")
	if err != nil {
		return nil, err
	}
	d := &database{dir: filepath.Join(c.dir, "postgres"), initdb: initdb, attr: &syscall.SysProcAttr{}}
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root.
		if d.attr, err = unprivileged(); err != nil {
			return nil, err
		}
	}
	d.part = c.part("postgres", d.answers, server)
	d.command = func() *exec.Cmd {
		cmd := exec.Command(server, "-D", filepath.Join(d.dir, "data"), "-k", d.dir, "-c", "listen_addresses=", "-c", "max_connections=300") //nolint:gosec // A program of this machine.
		cmd.Dir, cmd.SysProcAttr = d.dir, d.attr
		return cmd
	}
	return d, nil
}

func unprivileged() (*syscall.SysProcAttr, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// prepare makes an empty cluster of databases.
func (d *database) prepare(ctx context.Context) error {
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	if cred := d.attr.Credential; cred != nil {
		if err := os.Chown(d.dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, d.initdb, "-D", filepath.Join(d.dir, "data"), "-A", "trust", "-U", "shop", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8") //nolint:gosec // A program of this machine.
	cmd.Dir, cmd.SysProcAttr = d.dir, d.attr
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (d *database) dsn(name string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=shop&sslmode=disable", name, d.dir)
}

func (d *database) exec(ctx context.Context, query string) error {
	db, err := sql.Open("pgx", d.dsn("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, query)
	return err
}

// query calls each with every row of two columns of text.
func (d *database) query(ctx context.Context, name, query string, each func(a, b string)) error {
	db, err := sql.Open("pgx", d.dsn(name))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var a, b string
		if err := rows.Scan(&a, &b); err != nil {
			return err
		}
		each(a, b)
	}
	return rows.Err()
}

func (d *database) answers(ctx context.Context) error { return d.exec(ctx, "SELECT 1") }

func (d *database) createDatabases(ctx context.Context) error {
	for _, s := range shop {
		if err := d.exec(ctx, "CREATE DATABASE shop_"+s.short); err != nil {
			return err
		}
	}
	return nil
}

// crash ends the server at once, without a word to its clients' transactions.
func (d *database) crash() error {
	if err := d.signal(syscall.SIGQUIT); err != nil {
		return err
	}
	<-d.gone
	return nil
}
