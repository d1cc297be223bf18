package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeep(t *testing.T) {
	for line, want := range map[string][2]bool{ // in the first run, later
		"goos: linux\n":                     {true, false},
		"pkg: example.com/x\n":              {true, false},
		"BenchmarkX-2   100   12.5 ns/op\n": {true, true},
		"BenchmarkX\n":                      {false, false},
		"PASS\n":                            {false, false},
		"some log line\n":                   {false, false},
	} {
		if got := [2]bool{keep(line, true), keep(line, false)}; got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-count", "0"}, {"more"}, {"-base", "--upload-pack=x"}, {"-packages", "../x"}, {"-packages", "/etc"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
	s, err := parse([]string{"-base", "main"})
	if err != nil || s.base != "main" || len(s.packages) != len(packages) {
		t.Errorf("%+v, error %v", s, err)
	}
}

// The packages are there, and have benchmarks or at least could.
func TestPackagesExist(t *testing.T) {
	for _, p := range packages {
		if _, err := os.Stat(filepath.Join("../../..", p)); err != nil {
			t.Error(err)
		}
	}
}

// repository is a module in git with two commits: p's benchmark is in both, that
// of q in the second only, and r does not compile in the first.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	bench := func(pkg, body string) string {
		return "package " + pkg + "\n\nimport \"testing\"\n\nfunc BenchmarkIt(b *testing.B) {\n\tfor b.Loop() {\n" + body + "\t}\n}\n"
	}
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q")
	write("go.mod", "module example.com/m\n\ngo 1.26.0\n")
	write("p/p_test.go", bench("p", ""))
	write("r/r_test.go", bench("r", "\t\tmissing()\n"))
	git("add", "-A")
	git("commit", "-q", "-m", "one")
	git("tag", "one")
	write("q/q_test.go", bench("q", ""))
	write("r/r_test.go", bench("r", ""))
	git("add", "-A")
	git("commit", "-q", "-m", "two")
	return dir
}

func worktrees(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("git", "worktree", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(out), "\n")
}

func TestSidesInTurns(t *testing.T) {
	t.Chdir(repository(t))
	s, err := parse([]string{"-base", "one", "-count", "2", "-benchtime", "1x", "-packages", "p,q,r"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	// The last step wants tools/benchstat, which that repository lacks.
	err = run(t.Context(), s, &out)
	if err == nil || !strings.Contains(err.Error(), "benchstat") {
		t.Fatalf("error %v, want that benchstat is missing\n%s", err, out.String())
	}
	var order []string
	for line := range strings.Lines(out.String()) {
		if side, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, "Benchmark") {
			order = append(order, side)
		}
	}
	if got := strings.Join(order, " "); got != "base head head base" {
		t.Errorf("turns %q\n%s", got, out.String())
	}
	for _, want := range []string{"base: q has no tests", "base: r is left out", "undefined: missing", "q is in this checkout only", "head pkg: example.com/m/p"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if n := worktrees(t); n != 1 {
		t.Errorf("%d worktrees are left, want the repository alone", n)
	}
}

func TestRecords(t *testing.T) {
	dir := repository(t)
	t.Chdir(dir)
	file := filepath.Join(dir, "micro.txt")
	s, err := parse([]string{"-out", file, "-count", "3", "-benchtime", "1x", "-packages", "p,r"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), s, &out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil || strings.Count(string(b), " ns/op") != 6 || strings.Count(string(b), "pkg: ") != 2 {
		t.Errorf("error %v, file:\n%s", err, b)
	}
}

func TestNoSuchCommitAndInterrupt(t *testing.T) {
	t.Chdir(repository(t))
	s, err := parse([]string{"-base", "nowhere", "-packages", "p"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), s, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("error %v, want one about nowhere", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.base = "one"
	out := &interrupting{cancel: cancel}
	if err := run(ctx, s, out); err == nil {
		t.Error("an interrupt is not noticed")
	}
	if n := worktrees(t); n != 1 {
		t.Errorf("%d worktrees are left after an interrupt", n)
	}
}

// interrupting ends the run at the first result.
type interrupting struct{ cancel context.CancelFunc }

func (i *interrupting) Write(b []byte) (int, error) {
	i.cancel()
	return len(b), nil
}
