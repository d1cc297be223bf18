package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// TestMain lets a test start this very program.
func TestMain(m *testing.M) {
	if os.Getenv("SLUICE_TEST_MAIN") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// served is a gateway in a process of its own.
type served struct {
	cmd        *exec.Cmd
	url, admin string
	stderr     *output
}

// output is what a process writes.
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

// startServe runs `sluice serve --demo` until it is ready.
func startServe(t *testing.T, env ...string) *served {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &served{cmd: exec.Command(exe, "serve", "--demo"), stderr: &output{}} //nolint:noctx // stopped below
	s.cmd.Dir, s.cmd.Stderr = t.TempDir(), s.stderr
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SLUICE_") && !strings.HasPrefix(kv, "GO") && !strings.HasPrefix(kv, "OTEL_") {
			s.cmd.Env = append(s.cmd.Env, kv)
		}
	}
	for _, name := range []string{"HTTP", "GRPC", "ADMIN"} {
		s.cmd.Env = append(s.cmd.Env, "SLUICE_"+name+"_ADDR=127.0.0.1:0")
	}
	s.cmd.Env = append(s.cmd.Env, append([]string{"SLUICE_TEST_MAIN=1"}, env...)...)
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Log(s.stderr.String())
		}
	})
	lines := bufio.NewScanner(stdout)
	for s.admin == "" && lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) > 1 && f[0] == "REST" {
			s.url = f[1]
		} else if len(f) > 1 && f[0] == "admin" {
			s.admin = f[1]
		}
	}
	if s.admin == "" {
		t.Fatalf("it does not say where it is: %v", lines.Err())
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return s
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return res.StatusCode, string(b)
}

// gauge is a metric without labels.
func (s *served) gauge(t *testing.T, name string) float64 {
	t.Helper()
	_, metrics := get(t, s.admin+"/metrics")
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(metrics)
	if found == nil {
		t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestServeSetsTheCollector as the operator says, or else as was measured.
func TestServeSetsTheCollector(t *testing.T) {
	container := float64(math.MaxInt64)
	if n, err := memlimit.FromCgroup(); err == nil {
		container = math.Floor(float64(n) * memoryShare)
	}
	for _, tc := range []struct {
		env            []string
		percent, limit float64
	}{
		{nil, gcPercent, container},
		{[]string{"GOGC=50"}, 50, container},
		{[]string{"GOMEMLIMIT=300MiB"}, gcPercent, 300 << 20},
		{[]string{"GOGC=150", "GOMEMLIMIT=off"}, 150, math.MaxInt64},
	} {
		t.Run(fmt.Sprint(tc.env), func(t *testing.T) {
			s := startServe(t, tc.env...)
			if p, l := s.gauge(t, "go_gc_gogc_percent"), s.gauge(t, "go_gc_gomemlimit_bytes"); p != tc.percent || math.Abs(l-tc.limit) > 1 {
				t.Errorf("GOGC %v, GOMEMLIMIT %v, want %v, %v", p, l, tc.percent, tc.limit)
			}
		})
	}
}

// TestServeLosesNoLine: what was answered is in the log soon, and all of it when
// the gateway was asked to end, right after the last answer included.
func TestServeLosesNoLine(t *testing.T) {
	s := startServe(t)
	codes := map[string]int{}
	ask := func() {
		status, _ := get(t, s.url+"/v1/users/ada/profile") // 200, and 429 after some.
		codes[strconv.Itoa(status)]++
	}
	lines := func() map[string]int {
		n := map[string]int{}
		for l := range strings.Lines(s.stderr.String()) {
			var line struct{ Msg, Route, Status string }
			if !strings.HasSuffix(l, "\n") {
				continue // In the writing.
			}
			if err := json.Unmarshal([]byte(l), &line); err != nil {
				t.Fatalf("%v: %q", err, l)
			}
			if line.Msg == "request" && line.Route == "/v1/users/{user_id}/profile" {
				n[line.Status]++
			}
		}
		return n
	}
	ask()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(lines()) == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("the line of a request is not written while the gateway runs")
		case <-time.After(5 * time.Millisecond):
		}
	}
	for range 300 {
		ask()
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if n := lines(); !maps.Equal(n, codes) || codes["200"] == 0 {
		t.Errorf("lines %v, answers %v", n, codes)
	}
}
