// Command bench says what a request costs the gateway, in CPU time of its
// process, beside a plain grpc-gateway over the same backend.
//
// Three processes run: the backend (tools/bench/backend), the gateway as it is
// shipped (gateway/cmd/sluice, with a token, its checks and its access log) and
// plain grpc-gateway with nothing added (tools/bench/plain). One is driven at a
// time, the two gateways in turns, so that what else the machine does meets both.
// The load comes from this process and is not counted: CPU per request is the
// gateway process's user and system time, read before and after a run.
//
//	go run ./tools/bench                      compare Sluice with plain
//	go run ./tools/bench -gateway plain       compare plain with itself: the noise
//	go run ./tools/bench -soak                100,000 requests, every tenth aborted:
//	                                          memory and goroutines must stay level
//
// It reads /proc, so it needs Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// settings are the command line.
type settings struct {
	gateway   string // what is measured: sluice or plain
	duration  time.Duration
	requests  int
	warmup    time.Duration
	rounds    int
	conns     int
	accessLog bool
	jsonFile  string

	soak         bool
	soakRequests int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, s, os.Stdout)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&s.gateway, "gateway", "sluice", "what to measure against plain: sluice, or plain to see the noise")
	fs.DurationVar(&s.duration, "duration", 5*time.Second, "longest time of a run")
	fs.IntVar(&s.requests, "requests", 1_000_000, "most requests of a run")
	fs.DurationVar(&s.warmup, "warmup", time.Second, "time of the unmeasured run before each path's rounds")
	fs.IntVar(&s.rounds, "rounds", 3, "pairs of runs of each path")
	fs.IntVar(&s.conns, "conns", 16, "connections, each with one request at a time")
	fs.BoolVar(&s.accessLog, "access-log", true, "let Sluice write its access log, as it does by default (to a file)")
	fs.StringVar(&s.jsonFile, "json", "", "file to write every run's numbers to")
	fs.BoolVar(&s.soak, "soak", false, "look for leaks instead of measuring")
	fs.IntVar(&s.soakRequests, "soak-requests", 100_000, "requests of the soak")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if s.gateway != "sluice" && s.gateway != "plain" {
		return s, fmt.Errorf("-gateway is sluice or plain, not %q", s.gateway)
	}
	if s.duration <= 0 || s.requests <= 0 || s.rounds <= 0 || s.conns <= 0 || s.soakRequests < soakPoints {
		return s, errors.New("-duration, -requests, -rounds, -conns and -soak-requests must be positive")
	}
	return s, nil
}

func run(ctx context.Context, s settings, out io.Writer) (err error) {
	lab, err := newLab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.close()) }()
	if err := lab.build(ctx, s.gateway == "sluice"); err != nil {
		return err
	}
	backend, err := lab.startBackend(ctx)
	if err != nil {
		return err
	}
	subject, err := lab.startGateway(ctx, s, backend.addr)
	if err != nil {
		return err
	}
	if s.soak {
		return soak(ctx, s, subject, out)
	}
	plain, err := lab.startPlain(ctx, "plain", backend.addr)
	if err != nil {
		return err
	}
	plain.token = subject.token // the same request to both
	for _, p := range paths {
		if err := verify(ctx, p, subject, plain); err != nil {
			return err
		}
	}
	result, err := compare(ctx, s, subject, plain, out)
	if err != nil {
		return err
	}
	result.print(out)
	if s.jsonFile != "" {
		return result.write(s.jsonFile)
	}
	return nil
}
