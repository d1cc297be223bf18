//go:build unix

package database_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFilesAreTheirOwners: also in a directory that others can read.
func TestFilesAreTheirOwners(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // As a data directory may be.
		t.Fatal(err)
	}
	open(t, "sqlite:"+filepath.Join(dir, "test.db"))
	for _, name := range []string{"test.db", "test.db-wal", "test.db-shm"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", name, mode)
		}
	}
}
