package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/tools/freeport"
)

// line is a line of processes that follow each other: their sockets, their files.
type line struct {
	dir, binary, config, pidFile string
	http, grpc, admin            string
	out                          *os.File
}

// newLine starts the first of a line. More environment and configuration may be
// given; before is a shell command in front of the program.
func newLine(t *testing.T, config object, env ...string) *line {
	t.Helper()
	l := prepareLine(t, config)
	l.begin(t, env, l.binary)
	return l
}

func prepareLine(t *testing.T, config object) *line {
	t.Helper()
	dir := t.TempDir()
	l := &line{dir: dir, binary: filepath.Join(dir, "sluice"), config: filepath.Join(dir, "sluice.yaml"), pidFile: filepath.Join(dir, "sluice.pid")}
	l.install(t, filepath.Join(programs, "sluice"))
	writeJSON(t, l.config, setup{config: config}.file())
	addrs, err := freeport.Addrs(3)
	if err != nil {
		t.Fatal(err)
	}
	l.http, l.grpc, l.admin = addrs[0], addrs[1], addrs[2]
	// A file, not a pipe: whoever waits for the first process must not wait for all
	// that have its output.
	if l.out, err = os.Create(filepath.Join(dir, "output")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pid := l.pid(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if t.Failed() {
			s := l.output()
			t.Logf("the line's output:\n%s", s[max(0, len(s)-6000):])
		}
		_ = l.out.Close()
	})
	return l
}

// install puts a program in the line's place, as packages do: by a rename.
func (l *line) install(t *testing.T, program string) {
	t.Helper()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.binary+".new", b, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(l.binary+".new", l.binary); err != nil {
		t.Fatal(err)
	}
}

func (l *line) args() []string {
	return []string{"serve", "--demo", "--config", l.config, "--pid-file", l.pidFile, "--upgrade-timeout", "5s"}
}

func (l *line) begin(t *testing.T, env []string, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, append(args, l.args()...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.dir, l.out, l.out
	cmd.Env = append(append(cleanEnv(), "SLUICE_HTTP_ADDR="+l.http, "SLUICE_GRPC_ADDR="+l.grpc, "SLUICE_ADMIN_ADDR="+l.admin, "SLUICE_DATA_DIR="+filepath.Join(l.dir, "data")), env...)
	l.start(t, cmd)
}

func (l *line) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	eventually(t, patience, func() error {
		select {
		case <-ended:
			t.Fatalf("the process has ended:\n%s", l.output())
		default:
		}
		if l.pid() == 0 {
			return errors.New("no process has written its number")
		}
		return nil
	})
}

// pid is the process that serves; 0 means none.
func (l *line) pid() int {
	b, err := os.ReadFile(l.pidFile)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

func (l *line) output() string {
	b, _ := os.ReadFile(l.out.Name())
	return string(b)
}

func (l *line) kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// upgrade replaces the process that serves, and waits until the old one is gone.
func (l *line) upgrade(t *testing.T) {
	t.Helper()
	old := l.pid()
	l.kill(t, old, syscall.SIGUSR2)
	eventually(t, patience, func() error {
		if l.pid() == old {
			return errors.New("nobody has taken over")
		}
		return gone(old)
	})
}

// gone says whether a process has ended. One that nobody has waited for counts.
func gone(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	if _, after, ok := strings.Cut(string(b), ") "); ok && (after[0] == 'Z' || after[0] == 'X') {
		return nil
	}
	return fmt.Errorf("process %d goes on", pid)
}

// TestUpgrades: twenty processes follow each other under load, and nobody
// notices: no request fails, no connection is refused.
func TestUpgrades(t *testing.T) {
	l := newLine(t, object{"shutdown": object{"grace": "2s"}})
	first := l.pid()
	load := startLoad(t, func() string { return l.http }, func() string { return l.grpc }, nil)
	for range 20 {
		l.upgrade(t)
	}
	load.end(t, 1000)
	if l.pid() == first {
		t.Error("still the first process")
	}
	l.kill(t, l.pid(), syscall.SIGTERM)
	eventually(t, patience, func() error {
		if l.pid() != 0 {
			return errors.New("the last process has not removed its number")
		}
		return nil
	})
}

// TestBrokenUpgrade: a new process that does not start, or does not get ready,
// changes nothing; the log says why, and the next upgrade is tried as ever.
func TestBrokenUpgrade(t *testing.T) {
	l := newLine(t, object{"shutdown": object{"grace": "1s"}})
	old := l.pid()
	load := startLoad(t, func() string { return l.http }, func() string { return l.grpc }, nil)
	script := filepath.Join(t.TempDir(), "program")
	refused := func(n int, why string) {
		t.Helper()
		l.kill(t, old, syscall.SIGUSR2)
		eventually(t, patience, func() error {
			if strings.Count(l.output(), "not replaced") < n {
				return errors.New("no upgrade has failed")
			}
			return nil
		})
		if l.pid() != old || gone(old) == nil {
			t.Fatal("the old process is not the one that serves")
		}
		if !strings.Contains(l.output(), why) {
			t.Errorf("the log does not say %q", why)
		}
	}
	for i, body := range []string{"not a program", "#!/bin/sh\nexit 3\n", "#!/bin/sh\nexec sleep 60\n"} {
		if err := os.WriteFile(script, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		l.install(t, script)
		refused(i+1, []string{"exec format error", "exit status 3", "timed out"}[i])
	}
	l.install(t, filepath.Join(programs, "sluice"))
	if err := os.WriteFile(l.config, []byte("nonsense: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(4, "nonsense")
	writeJSON(t, l.config, setup{config: object{"shutdown": object{"grace": "1s"}}}.file())
	l.upgrade(t)
	load.end(t, 100)
}

// TestStopUnderLoad: two gateways behind a balancer that follows /readyz; one is
// stopped. No request fails.
func TestStopUnderLoad(t *testing.T) {
	for _, name := range []string{"plaintext", "TLS"} {
		t.Run(name, func(t *testing.T) { stopUnderLoad(t, name == "TLS") })
	}
}

func stopUnderLoad(t *testing.T, overTLS bool) {
	config := object{"shutdown": object{"grace": "4s", "not_ready_for": "1s"}}
	roots := tlsOf(t, overTLS, config)
	a, b := newLine(t, config), newLine(t, config)
	var sound atomic.Bool
	sound.Store(true)
	watching := make(chan struct{})
	go func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
		for sound.Load() {
			res, err := client.Get("http://" + a.admin + "/readyz")
			if err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			sound.Store(err == nil && res.StatusCode == http.StatusOK)
			time.Sleep(50 * time.Millisecond)
		}
		close(watching)
	}()
	choose := func(first, second string) func() string {
		return func() string {
			if sound.Load() {
				return first
			}
			return second
		}
	}
	load := startLoad(t, choose(a.http, b.http), choose(a.grpc, b.grpc), roots)
	time.Sleep(500 * time.Millisecond)
	pid := a.pid()
	a.kill(t, pid, syscall.SIGTERM)
	eventually(t, patience, func() error { return gone(pid) })
	<-watching
	time.Sleep(200 * time.Millisecond)
	load.end(t, 200)
}

// TestActivation: sockets come from systemd, by name, and it is told what the
// process does.
func TestActivation(t *testing.T) {
	notified := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notified, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	said := make(chan string, 1000)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := systemd.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	}()
	hears := func(what ...string) string {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case s := <-said:
				ok := true
				for _, w := range what {
					ok = ok && strings.Contains(s, w)
				}
				if ok {
					return s
				}
			case <-late:
				t.Fatalf("systemd is not told %q", what)
			}
		}
	}
	l := prepareLine(t, object{"shutdown": object{"grace": "1s"}})
	var files []*os.File
	var at []string
	for range 2 {
		s, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		files, at = append(files, f), append(at, s.Addr().String())
	}
	begin := func(names string) *exec.Cmd {
		cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" "$@"`, l.binary}, l.args()...)...)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = l.dir, l.out, l.out, files
		cmd.Env = append(cleanEnv(), "SLUICE_ADMIN_ADDR="+l.admin, "SLUICE_HTTP_ADDR=127.0.0.1:1", "SLUICE_DATA_DIR="+filepath.Join(l.dir, "data"),
			"LISTEN_FDS=2", "LISTEN_FDNAMES="+names, "NOTIFY_SOCKET="+notified, "WATCHDOG_USEC=1000000")
		return cmd
	}
	for names, complaint := range map[string]string{
		"http:admin": `none named "grpc"`, "http:web": `socket named "web"`, "http:http": "two sockets named",
	} {
		if err := begin(names).Run(); err == nil || !strings.Contains(l.output(), strings.ReplaceAll(complaint, `\"`, `"`)) {
			t.Errorf("%s: %v; want the complaint %q", names, err, complaint)
		}
	}
	l.start(t, begin("http:grpc"))
	hears("READY=1")
	hears("WATCHDOG=1")
	answers := func() {
		t.Helper()
		res, err := http.Get("http://" + at[0] + "/v1/users/ada/profile")
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		_ = res.Body.Close()
	}
	answers()
	load := startLoad(t, func() string { return at[0] }, func() string { return at[1] }, nil)
	for range 2 {
		l.upgrade(t)
		hears("READY=1", "MAINPID="+strconv.Itoa(l.pid()))
		hears("WATCHDOG=1")
	}
	l.kill(t, l.pid(), syscall.SIGHUP)
	hears("RELOADING=1", "MONOTONIC_USEC=")
	hears("READY=1", "STATUS=serving")
	load.end(t, 50)
	l.kill(t, l.pid(), syscall.SIGTERM)
	hears("STOPPING=1")
}
