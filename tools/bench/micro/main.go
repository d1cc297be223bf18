// Command micro runs the benchmarks of the packages on the request path.
//
//	go run ./tools/bench/micro -out docs/benchmarks/micro.txt    write them down (make bench-micro)
//	go run ./tools/bench/micro -base main                        compare with another commit (make bench-compare)
//
// A comparison checks the other commit out into a git worktree of its own, outside
// the tree, and runs both sides' benchmarks in turns, so that what else the
// machine does meets both. benchstat (tools/benchstat) says what differs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// packages are those whose benchmarks count, as folders of the module.
var packages = []string{
	"gateway", "gateway/auth", "gateway/httpedge", "gateway/limit", "gateway/policy", "gateway/rest", "gateway/route", "gateway/rpc",
	"gateway/telemetry", "gateway/transcode", "gateway/upstream", "aggregator",
}

// settings are the command line.
type settings struct {
	out       string
	base      string
	count     int
	benchtime string
	bench     string
	packages  []string
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
		fmt.Fprintln(os.Stderr, "micro:", err)
		os.Exit(1)
	}
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("micro", flag.ContinueOnError)
	fs.StringVar(&s.out, "out", "", "file to write the results to, beside printing them")
	fs.StringVar(&s.base, "base", "", "commit to compare with; empty means to compare with nothing")
	fs.IntVar(&s.count, "count", 6, "runs of each benchmark")
	fs.StringVar(&s.benchtime, "benchtime", "100ms", "time of a run, as go test takes it")
	fs.StringVar(&s.bench, "bench", ".", "which benchmarks, as go test takes it")
	list := fs.String("packages", strings.Join(packages, ","), "packages, as folders of the module")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	s.packages = strings.Split(*list, ",")
	switch {
	case fs.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case s.count < 1:
		return s, errors.New("-count must be positive")
	case strings.HasPrefix(s.base, "-"):
		return s, fmt.Errorf("-base %q is no commit", s.base)
	}
	for _, p := range s.packages {
		if !filepath.IsLocal(p) {
			return s, fmt.Errorf("package %q is not a folder of the module", p)
		}
	}
	return s, nil
}

// run measures the checkout, and the other commit in turns with it.
func run(ctx context.Context, s settings, out io.Writer) (err error) {
	root, err := output(ctx, "", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sluice-micro-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	sides := []*side{{name: "head", root: root, dir: dir}}
	if s.base != "" {
		base, remove, err := checkout(ctx, root, s.base, dir)
		if err != nil {
			return err
		}
		defer remove()
		sides = []*side{{name: "base", root: base, dir: dir}, sides[0]}
	}
	for _, one := range sides {
		if err := one.build(ctx, s.packages, out); err != nil {
			return err
		}
	}
	if s.base != "" {
		sides[0].packages = both(sides[0], sides[1], out)
		sides[1].packages = sides[0].packages
	}
	if len(sides[0].packages) == 0 {
		return errors.New("no package has benchmarks")
	}
	if err := turns(ctx, s, sides, out); err != nil {
		return err
	}
	if s.base != "" {
		return compare(ctx, root, sides, s.out, out)
	}
	return finish(sides[0], s.out)
}

// checkout makes a worktree of a commit under dir, and how to remove it.
func checkout(ctx context.Context, root, ref, dir string) (tree string, remove func(), err error) {
	id, err := output(ctx, root, "git", "rev-parse", "--verify", "--quiet", ref+"^{commit}")
	if err != nil {
		return "", nil, fmt.Errorf("%s is no commit: %w", ref, err)
	}
	tree = filepath.Join(dir, "base-tree")
	if _, err := output(ctx, root, "git", "worktree", "add", "--detach", "--quiet", tree, id); err != nil {
		return "", nil, err
	}
	return tree, func() {
		// Also after an interrupt, which has ended ctx.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if _, err := output(ctx, root, "git", "worktree", "remove", "--force", tree); err != nil {
			fmt.Fprintln(os.Stderr, "micro:", err)
		}
	}, nil
}

// side is one commit's benchmarks.
type side struct {
	name     string
	root     string // of its tree
	dir      string // for its programs and results
	packages []string
	results  strings.Builder
}

func (s *side) program(pkg string) string {
	return filepath.Join(s.dir, s.name+"-"+strings.ReplaceAll(pkg, "/", "-")+".test")
}

// build compiles the tests of the packages that there are. One that does not
// compile is left out and said so: another commit may lack what it needs.
func (s *side) build(ctx context.Context, all []string, out io.Writer) error {
	for _, pkg := range all {
		if tests, _ := filepath.Glob(filepath.Join(s.root, pkg, "*_test.go")); len(tests) == 0 { // The pattern is good.
			_, _ = fmt.Fprintf(out, "# %s: %s has no tests\n", s.name, pkg)
			continue
		}
		_, err := output(ctx, s.root, "go", "test", "-c", "-o", s.program(pkg), "./"+pkg)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			_, _ = fmt.Fprintf(out, "# %s: %s is left out: %v\n", s.name, pkg, err)
		default:
			s.packages = append(s.packages, pkg)
		}
	}
	return nil
}

// both are the packages that either side has, as the second has them.
func both(base, head *side, out io.Writer) (common []string) {
	for _, pkg := range head.packages {
		if slices.Contains(base.packages, pkg) {
			common = append(common, pkg)
		} else {
			_, _ = fmt.Fprintf(out, "# %s is in this checkout only\n", pkg)
		}
	}
	return common
}

// turns runs every package count times: each time one side after the other, and
// the other first the next time.
func turns(ctx context.Context, s settings, sides []*side, out io.Writer) error {
	for _, pkg := range sides[0].packages {
		for n := range s.count {
			order := slices.Clone(sides)
			if n%2 == 1 {
				slices.Reverse(order)
			}
			for _, one := range order {
				if err := one.run(ctx, s, pkg, n == 0, out); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// run runs a package's benchmarks once, where its test data lie. Of the first
// run the heading is kept too, which benchstat reads.
func (s *side) run(ctx context.Context, o settings, pkg string, heading bool, out io.Writer) error {
	text, err := output(ctx, filepath.Join(s.root, pkg), s.program(pkg), "-test.run", "^$", "-test.bench", o.bench, "-test.benchmem", "-test.benchtime", o.benchtime)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", s.name, pkg, err)
	}
	for line := range strings.Lines(text + "\n") {
		if !keep(line, heading) {
			continue
		}
		s.results.WriteString(line)
		if _, err := fmt.Fprintf(out, "%s %s", s.name, line); err != nil {
			return err
		}
	}
	return nil
}

// keep says whether a line of go test's is a result, or part of the heading.
func keep(line string, heading bool) bool {
	if strings.HasPrefix(line, "Benchmark") {
		return strings.Contains(line, " ns/op")
	}
	if !heading {
		return false
	}
	for _, key := range []string{"goos: ", "goarch: ", "pkg: ", "cpu: "} {
		if strings.HasPrefix(line, key) {
			return true
		}
	}
	return false
}

// compare has benchstat hold the sides against each other.
func compare(ctx context.Context, root string, sides []*side, file string, out io.Writer) error {
	args := []string{"tool", "-modfile=tools/benchstat/go.mod", "benchstat"}
	for _, s := range sides {
		f := filepath.Join(s.dir, s.name+".txt")
		if err := os.WriteFile(f, []byte(s.results.String()), 0o600); err != nil {
			return err
		}
		args = append(args, s.name+"="+f)
	}
	text, err := output(ctx, root, "go", args...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "\n"+text)
	if file != "" {
		err = errors.Join(err, os.WriteFile(file, []byte(text+"\n"), 0o644)) //nolint:gosec // a report
	}
	return err
}

func finish(s *side, file string) error {
	if file == "" {
		return nil
	}
	return os.WriteFile(file, []byte(s.results.String()), 0o644) //nolint:gosec // a report
}

// output is what a command prints, without the last line's end. It has the
// command's complaint in its error. An interrupt ends the command with those it
// started, for it has a process group of its own.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // fixed names, and our own programs
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		said := complaint.String() + string(out[max(0, len(out)-2048):])
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args[:min(len(args), 2)], " "), err, said)
	}
	return strings.TrimRight(string(out), "\n"), nil
}
