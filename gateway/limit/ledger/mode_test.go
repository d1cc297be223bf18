//go:build unix

package ledger_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
)

// TestFilesAreTheirOwners: also in a directory that others can read.
func TestFilesAreTheirOwners(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // As a data directory may be.
		t.Fatal(err)
	}
	open(t, ledger.Options{File: filepath.Join(dir, "quotas.db")})
	for _, name := range []string{"quotas.db", "quotas.db-wal", "quotas.db-shm"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", name, mode)
		}
	}
}
