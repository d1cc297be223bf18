// Command shop runs one of the shop's services as a process of its own:
//
//	shop --service user --addr 127.0.0.1:7001 --db sqlite:user.db --assertion-keys gateway.pub
//
// It prints one line when it is ready, and drains on SIGTERM. Traces go out over
// OTLP where the OTEL_* environment variables name an endpoint.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends; the ready line goes to stdout, the log to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil)).With("service", o.service)
	tracer, flush, err := tracing(ctx, o.service, os.Getenv)
	if err != nil {
		return err
	}
	defer func() {
		if err := flush(); err != nil { // A collector that is away is no failure of ours.
			log.Warn("not all traces could be sent", "error", err)
		}
	}()
	p, err := newProcess(ctx, o, tracer, log)
	if err != nil {
		return err
	}
	return p.serve(ctx, stdout)
}
