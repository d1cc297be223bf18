package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that runs until the test ends, or is ended by it.
type process struct {
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	exited chan struct{} // closed when it has ended
}

// start runs one of the built programs.
func start(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{
		cmd:    exec.Command(filepath.Join(programs, program), args...),
		stdout: &output{}, stderr: &output{}, exited: make(chan struct{}),
	}
	p.cmd.Env, p.cmd.Dir = append(cleanEnv(), env...), t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // Its state is kept in cmd.
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s:\n%s", program, strings.Join(args, " "), p.stderr.tail())
		}
	})
	return p
}

// cleanEnv is the environment without what would change how the programs run.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SLUICE_") && !strings.HasPrefix(kv, "OTEL_") {
			env = append(env, kv)
		}
	}
	return env
}

// ready waits until the program has printed what matches, and returns the groups.
func (p *process) ready(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var groups []string
	eventually(t, patience, func() error {
		if groups = re.FindStringSubmatch(p.stdout.String()); groups != nil {
			return nil
		}
		select {
		case <-p.exited:
			t.Fatalf("%s has ended: %v\n%s", p.cmd.Path, p.cmd.ProcessState, p.stderr.tail())
		default:
		}
		return errors.New(p.cmd.Path + " does not say that it is ready")
	})
	return groups[1:]
}

// kill ends the process without warning, as the kernel does when memory is out.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // It may have ended.
	<-p.exited
}

// signal sends a signal to a process that is running.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// stop halts the process where it is, and waits until the kernel has done so.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	eventually(t, patience, func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			return err
		}
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return fmt.Errorf("it is not stopped: %.80s", stat)
		}
		return nil
	})
}

// exitCode waits until the process ends by itself.
func (p *process) exitCode(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		t.Fatalf("still running after %v", within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// output keeps what a process writes. Safe for concurrent use.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) tail() string {
	s := o.String()
	return s[max(0, len(s)-4096):]
}

// eventually asks until the answer is nil.
func eventually(t *testing.T, within time.Duration, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
