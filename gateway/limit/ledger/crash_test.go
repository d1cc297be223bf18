package ledger_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
)

// childFile names the ledger that a child process of the test uses up.
const childFile = "SLUICE_TEST_LEDGER"

const crashSize = 100_000

// child takes for ever, and says so: a byte for each token, after it was given.
func child(file string) {
	l, err := ledger.Open(context.Background(), ledger.Options{File: file})
	if err != nil {
		panic(err)
	}
	for {
		answers := make([]limit.Answer, 1)
		ok, err := l.Take(context.Background(), []limit.Ask{month("ada", 1, crashSize)}, answers)
		if err != nil {
			panic(err)
		}
		if !ok {
			select {} // Never in a test that works: killed long before.
		}
		if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
			panic(err)
		}
	}
}

// TestKill9 kills processes in the middle of their work. Over all lives no more
// than the quota is admitted, and each death loses a block at most.
func TestKill9(t *testing.T) {
	file := filepath.Join(t.TempDir(), "quotas.db")
	const lives = 5
	var before int64
	for life := range lives {
		before += live(t, file, 2000+70*life)
	}
	l := open(t, ledger.Options{File: file})
	after := drain(t, l, month("ada", 1, crashSize))
	// A child may die between a token and the byte that tells of it.
	most := int64(lives) * (ledger.BlockOf(crashSize) + 1)
	lost := crashSize - before - after
	t.Logf("admitted %d in %d lives, %d after them; lost %d of %d, at most %d", before, lives, after, lost, crashSize, most)
	if lost < 0 || lost > most {
		t.Errorf("lost %d", lost)
	}
}

// live runs a child until it has taken n tokens, kills it, and returns how many
// it said it took.
func live(t *testing.T, file string, n int) (said int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this test
	cmd.Env = append(os.Environ(), childFile+"="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for range n {
		if _, err := r.ReadByte(); err != nil {
			t.Fatal(err)
		}
		said++
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.Copy(io.Discard, r)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // Killed.
	return said + rest
}

// TestFullDisk lets no file grow, as on a full disk, and then lets them again.
func TestFullDisk(t *testing.T) {
	h := &logs{}
	l := open(t, ledger.Options{Log: slog.New(h)})
	take(t, l, day("ada", 1, 1_000_000))
	full := fillDisk(t)
	for range 50 {
		refused(t, l)
	}
	if ok, _ := take(t, l, day("ada", 1, 1_000_000)); !ok {
		t.Error("who has a lease is refused")
	}
	if got := h.lines(); got != "ERROR" {
		t.Errorf("logged %q", got)
	}
	full()
	recovers(t, l, day("bob", 1, 1000))
	if got := h.lines(); got != "ERROR INFO" {
		t.Errorf("logged %q", got)
	}
	if got := drain(t, l, day("bob", 1, 1000)); got != 999 {
		t.Errorf("then admitted %d, want 999", got)
	}
}

// fillDisk limits the size of all files of the process to one byte.
func fillDisk(t *testing.T) (free func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	set := func(cur uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: cur, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	free = sync.OnceFunc(func() { set(was.Cur); signal.Reset(syscall.SIGXFSZ) })
	t.Cleanup(free)
	return free
}

// TestBrokenFile puts another file in the ledger's place, which it sees when it
// opens it anew, and then puts the ledger back.
func TestBrokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "quotas.db")
	l := open(t, ledger.Options{File: file, Log: slog.New(&logs{})})
	take(t, l, day("ada", 60, 100))
	free := fillDisk(t)
	refused(t, l)
	away := filepath.Join(t.TempDir(), "away")
	move(t, file, away)
	free()
	if err := os.WriteFile(file, []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		time.Sleep(ledger.RestAfter) // Else it would not even look.
		refused(t, l)
	}
	move(t, away, file)
	recovers(t, l, day("bob", 1, 100))
	if got := drain(t, l, day("ada", 1, 100)); got != 40 {
		t.Errorf("then admitted %d, want 40", got)
	}
}

// move moves a database with the files beside it.
func move(t *testing.T, from, to string) {
	t.Helper()
	for _, part := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(from+part, to+part); err != nil && (part == "" || !errors.Is(err, fs.ErrNotExist)) {
			t.Fatal(err)
		}
	}
}

func refused(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	if ok, err := l.Take(t.Context(), []limit.Ask{day("bob", 1, 100)}, make([]limit.Answer, 1)); ok || err == nil {
		t.Fatalf("admitted %v, %v", ok, err)
	}
}

// recovers waits until an ask is admitted.
func recovers(t *testing.T, l *ledger.Ledger, ask limit.Ask) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		ok, err := l.Take(t.Context(), []limit.Ask{ask}, make([]limit.Answer, 1))
		if ok {
			return
		}
		last = err
	}
	t.Fatalf("no recovery: %v", last)
}
