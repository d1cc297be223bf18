package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// programs is the directory of what TestMain has built.
var programs string

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func testMain(m *testing.M) (code int, err error) {
	if err := takeOrphans(); err != nil {
		return 1, err
	}
	if programs, err = os.MkdirTemp("", "cluster-test"); err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(programs) }()
	for dir, packages := range map[string][]string{".": {"../../gateway/cmd/sluice", "../../services/cmd/shop"}, "../manifests": {"."}} {
		build := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", programs + string(filepath.Separator)}, packages...)...)
		build.Dir = dir
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("go build in %s: %w\n%s", dir, err, out)
		}
	}
	return m.Run(), nil
}

// startCluster runs everything. Where a server is not installed the test is
// skipped, but for CI, where that is a failure.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster") // Short: a socket's path has 107 bytes.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			for _, log := range logs {
				raw, _ := os.ReadFile(log)
				t.Logf("%s:\n%s", filepath.Base(log), raw[max(0, len(raw)-2048):])
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user.
		t.Fatal(err)
	}
	c, err := newCluster(dir, programs)
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	if err := c.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestBreak breaks some of what make cluster-test breaks, for shorter: a failure
// that a retry was allowed to prevent fails it.
func TestBreak(t *testing.T) {
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	faults := named(c.faults(), "one of two user services killed,one of two profile services restarted,one of two order services hangs,"+
		"etcd killed,Redis killed,upgraded in place,a gateway killed,changes of the configuration,a canary")
	if len(faults) != 10 {
		t.Fatalf("%d faults have these names, want 10", len(faults))
	}
	o := breakOptions{faults: faults, rate: 100, timing: timing{before: 200 * time.Millisecond, during: time.Second, after: 800 * time.Millisecond}, patience: 15 * time.Second}
	if err := c.breakAll(ctx, o); err != nil {
		t.Error(err)
	}
}
