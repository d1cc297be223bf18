// Package e2e shows Sluice working as its users meet it: the programs as they
// are built, as processes of their own, and the clients people have: HTTP, the
// real grpcurl, a browser. What is killed here is killed by the kernel, and what
// is on the wire has been there. What one request means is the business of
// gateway's scenarios; here it is that everything holds together.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience is how long anything that should happen soon may take on a machine
// with other work. Nothing waits for it in vain but a test that fails.
const patience = 30 * time.Second

// programs is the directory of what TestMain has built.
var programs string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if programs, err = os.MkdirTemp("", "e2e"); err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(programs) }()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", programs+string(filepath.Separator),
		"../../gateway/cmd/sluice", "../../services/cmd/shop", "github.com/fullstorydev/grpcurl/cmd/grpcurl")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	// A module of its own: its dependencies are nothing to the product's.
	build = exec.Command("go", "build", "-buildvcs=false", "-o", programs+string(filepath.Separator), "github.com/summerwind/h2spec/cmd/h2spec")
	build.Dir = "../h2spec"
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build of h2spec: %w\n%s", err, out)
	}
	return m.Run(), nil
}
