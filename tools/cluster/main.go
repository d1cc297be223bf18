// Command cluster runs Sluice as several machines would: two gateways, every
// service twice, PostgreSQL, Redis and etcd, as plain processes of this machine.
//
//	go run ./tools/cluster          until Ctrl-C; prints where everything is
//	go run ./tools/cluster -break   breaks each part in turn under load, prints what clients saw
//
// It exits with 1 when a client saw a failure that a retry was allowed to prevent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	breakIt := f.Bool("break", false, "break each part in turn under load, then end")
	bin := f.String("bin", "bin", "directory of the programs sluice and shop (make build)")
	only := f.String("only", "", "with -break: the faults whose name has one of these in it, separated by commas")
	rate := f.Int("rate", 200, "with -break: requests a second")
	out := f.String("out", "", "with -break: page to put the table into")
	keep := f.Bool("keep", false, "keep the directory with the logs")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if err := takeOrphans(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sluice-cluster")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL runs as another user, and must get through.
		return err
	}
	programs, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	c, err := newCluster(dir, programs)
	if err != nil {
		return err
	}
	defer func() {
		c.stop()
		if *keep || (err != nil && !errors.Is(err, context.Canceled)) {
			fmt.Fprintln(os.Stderr, "cluster: logs are in", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	started := time.Now()
	if err := c.start(ctx); err != nil {
		return err
	}
	fmt.Printf("the cluster is ready after %.1f s\n", time.Since(started).Seconds())
	if *breakIt {
		return c.breakAll(ctx, breakOptions{faults: named(c.faults(), *only), rate: *rate, out: *out,
			timing: timing{before: time.Second, during: 3 * time.Second, after: 3 * time.Second}})
	}
	c.welcome()
	<-ctx.Done()
	return nil
}
