// Package redistest runs a real Redis for the length of a test, and lets the
// test stop it, as machines and networks do. Its users are the tests of
// gateway/limit/redis and of the gateway.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/tools/freeport"
)

const startTimeout = 30 * time.Second

// Server is a throw-away Redis on a port of 127.0.0.1. It keeps nothing on disk.
// Its methods are safe for concurrent use; they fail the test, so call them from
// the test's own goroutine.
type Server struct {
	bin  string
	port int
	args []string
	dir  string

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
	out  *output
}

// Start starts a server that ends with the test. args are further options of
// redis-server, such as `--requirepass`, `secret`. Where redis-server is not
// installed, the test fails if CI=true, and is skipped on a developer's machine:
// a test that did not run proves nothing.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed; tools/deps.sh installs it")
		}
		t.Skip("redis-server is not installed; tools/deps.sh installs it")
	}
	s := &Server{bin: bin, args: args, dir: t.TempDir()}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.kill()
	})
	// Between finding a free port and Redis taking it, someone else may.
	for range 5 {
		s.port = freePort(t)
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// Addr is the server's host:port. It stays the same over Restart.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is the server's redis:// URL, without a password.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Pause stops the process where it is: connections stay open and nothing
// answers.
func (s *Server) Pause(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (s *Server) Resume(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

// Kill ends the process at once, as a crash would. Its data is gone.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

// Restart starts a killed server again, empty, on the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	deadline := time.Now().Add(startTimeout)
	for {
		err := s.start()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Client connects an operator's client, which lasts until the test ends. The
// function it returns sends a command and returns the answer as redis-cli would
// show a text; an error fails the test.
func (s *Server) Client(t testing.TB) func(command ...string) string {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return func(command ...string) string {
		t.Helper()
		m, err := client.Do(t.Context(), client.B().Arbitrary(command...).Build()).ToMessage()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		text, err := m.ToString()
		if err != nil {
			return m.String()
		}
		return text
	}
}

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		t.Fatal("redis does not run")
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) start() error {
	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no",
		"--save", "", "--appendonly", "no",
	}, s.args...)
	cmd := exec.Command(s.bin, args...) //nolint:gosec // a program found on this machine
	out := &output{}
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("redis-server: %w", err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait() // It is always killed; what it had to say is in out.
	}()
	s.cmd, s.gone, s.out = cmd, gone, out
	if err := s.await(); err != nil {
		s.kill()
		return err
	}
	return nil
}

// await waits until the process says that it listens: a port that answers may be
// somebody else's.
func (s *Server) await() error {
	deadline := time.Now().Add(startTimeout)
	for !strings.Contains(s.out.String(), "Ready to accept connections") {
		select {
		case <-s.gone:
			return fmt.Errorf("redis-server ended:\n%s", s.out)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("redis-server does not get ready:\n%s", s.out)
		}
	}
	return nil
}

func (s *Server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // It ends stopped processes, too.
	<-s.gone
	s.cmd = nil
}

func freePort(t testing.TB) int {
	t.Helper()
	free, err := freeport.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return int(netip.MustParseAddrPort(free[0]).Port())
}

// output is what the process prints, while it prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
