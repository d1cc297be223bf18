// Command bench says what a request costs the gateway, in CPU time of its
// process, beside others over the same backend.
//
// Processes run side by side: the backend (tools/bench/backend), the gateway as
// it is shipped (gateway/cmd/sluice, its whole chain on), plain grpc-gateway with
// nothing added (tools/bench/plain), net/http and grpc-go passing bytes on
// (tools/bench/floor), and for gRPC the gateway's edge (tools/bench/edge) beside
// a proxy of generated code (tools/bench/proxy). One is driven at a time, in
// turns, so that what else the machine does meets all. The load comes from this
// process and is not counted: CPU per request is the gateway process's user and
// system time, read before and after a run.
//
//	go run ./tools/bench                      compare, and print
//	go run ./tools/bench -out docs/benchmarks … and write it down (make bench)
//	go run ./tools/bench -works user,list20   some of it
//	go run ./tools/bench -gateway plain       compare plain with itself: the noise
//	go run ./tools/bench -mixed -duration 10m a mix at 80% of capacity: memory and
//	                                          goroutines must stay level
//	go run ./tools/bench -soak                100,000 requests, every tenth aborted:
//	                                          likewise
//
// Every work is measured twice: in a closed loop, where each connection asks again
// as soon as it is answered, which shows what the process can do; and in an open
// one at a constant rate, where a latency counts from when the request was due,
// so that a stall is seen by all who would have come meanwhile (a closed loop
// leaves them out: coordinated omission).
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
	"strings"
	"syscall"
	"time"
)

// settings are the command line.
type settings struct {
	gateway   string // what is measured: sluice or plain
	works     []*work
	all       bool // works
	duration  time.Duration
	requests  int
	warmup    time.Duration
	rounds    int
	conns     int
	accessLog bool
	jsonFile  string
	out       string // directory

	mixed      bool
	mixedConns int

	soak         bool
	soakRequests int
}

// published is where `make bench` writes.
const published = "docs/benchmarks"

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
	fs.StringVar(&s.gateway, "gateway", "sluice", "what to measure: sluice, or plain to see the noise")
	names := fs.String("works", "", "what to ask, of "+strings.Join(workNames(), ",")+"; empty means all")
	fs.DurationVar(&s.duration, "duration", 0, "longest time of a run (0: 5s; of -mixed: 10m)")
	fs.IntVar(&s.requests, "requests", 1_000_000, "most requests of a run in a closed loop")
	fs.DurationVar(&s.warmup, "warmup", time.Second, "time of the unmeasured run of each process before its rounds")
	fs.IntVar(&s.rounds, "rounds", 3, "runs of each work, process and loop")
	fs.IntVar(&s.conns, "conns", 16, "connections, each with one request at a time")
	fs.BoolVar(&s.accessLog, "access-log", true, "let Sluice write its access log, as it does by default (to a file)")
	fs.StringVar(&s.jsonFile, "json", "", "file to write every run's numbers to")
	fs.StringVar(&s.out, "out", "", "directory to write numbers, chart and page to (make bench: "+published+"); empty means to print only")
	fs.BoolVar(&s.mixed, "mixed", false, "hold the gateway under a mix of requests at a constant rate, and look for leaks")
	fs.IntVar(&s.mixedConns, "mixed-conns", 64, "connections of -mixed")
	fs.BoolVar(&s.soak, "soak", false, "look for leaks with requests that are given up")
	fs.IntVar(&s.soakRequests, "soak-requests", 100_000, "requests of -soak")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return s, s.complete(*names)
}

// complete fills in what depends on other flags, and refuses what cannot be.
func (s *settings) complete(names string) error {
	if s.duration == 0 {
		s.duration = 5 * time.Second
		if s.mixed {
			s.duration = 10 * time.Minute
		}
	}
	if s.gateway != "sluice" && s.gateway != "plain" {
		return fmt.Errorf("-gateway is sluice or plain, not %q", s.gateway)
	}
	if s.duration <= 0 || s.requests <= 0 || s.rounds <= 0 || s.conns <= 0 || s.mixedConns <= 0 || s.soakRequests < soakPoints {
		return errors.New("-duration, -requests, -rounds, -conns, -mixed-conns and -soak-requests must be positive")
	}
	if s.mixed && s.soak {
		return errors.New("-mixed and -soak are two things")
	}
	if s.gateway != "sluice" && s.out != "" {
		return errors.New("-out is for what Sluice does: plain against itself is noise")
	}
	if s.all = names == ""; s.all {
		names = strings.Join(workNames(), ",")
	}
	for name := range strings.SplitSeq(names, ",") {
		w := workNamed(name)
		if w == nil {
			return fmt.Errorf("-works are of %s, not %q", strings.Join(workNames(), ","), name)
		}
		s.works = append(s.works, w)
	}
	return nil
}

func workNames() (names []string) {
	for _, w := range works {
		names = append(names, w.name)
	}
	return names
}

// command is the command line that does the same again, without what is the
// machine's own.
func (s settings) command() string {
	c := "go run ./tools/bench"
	if s.mixed {
		c += fmt.Sprintf(" -mixed -mixed-conns %d", s.mixedConns)
	} else {
		c += fmt.Sprintf(" -rounds %d -conns %d", s.rounds, s.conns)
	}
	c += fmt.Sprintf(" -duration %v", s.duration)
	if s.gateway != "sluice" {
		c += " -gateway " + s.gateway
	}
	if !s.accessLog {
		c += " -access-log=false"
	}
	if !s.all {
		var names []string
		for _, w := range s.works {
			names = append(names, w.name)
		}
		c += " -works " + strings.Join(names, ",")
	}
	if s.out == published {
		c += " -out " + published
	}
	return c
}

func run(ctx context.Context, s settings, out io.Writer) (err error) {
	lab, err := newLab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.close()) }()
	spans, err := newSink(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spans.close()) }()
	b := bench{s: s, lab: lab, spans: spans, out: out}
	switch {
	case s.soak:
		return b.soak(ctx)
	case s.mixed:
		return b.mixed(ctx)
	}
	return b.compare(ctx)
}
