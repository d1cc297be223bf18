package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/tools/bench/load"
)

// self is this process as a command, for its id.
func self() *exec.Cmd {
	p, _ := os.FindProcess(os.Getpid()) // never fails on Linux
	return &exec.Cmd{Process: p}
}

func TestCPUOfThisProcess(t *testing.T) {
	p := &process{cmd: self()}
	before, err := p.cpu()
	if err != nil {
		t.Fatal(err)
	}
	for burnt := time.Duration(0); burnt < 50*time.Millisecond; {
		for i := range 1_000_000 {
			_ = i * i
		}
		now, err := p.cpu()
		if err != nil {
			t.Fatal(err)
		}
		burnt = now - before
	}
}

func TestCPUOfNoProcess(t *testing.T) {
	p, _ := os.FindProcess(1 << 22) // above what Linux gives out
	if got, err := (&process{name: "gone", cmd: &exec.Cmd{Process: p}}).cpu(); err == nil {
		t.Errorf("%v, want an error", got)
	}
}

// scripted is a process whose admin listener counts what it says it has
// allocated: so much for each look, and so much for each request.
type scripted struct{ looks, requests atomic.Int64 }

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/debug/"):
		n := 1000 + s.looks.Add(1)*300 + s.requests.Load()*7
		fmt.Fprintf(w, "# Mallocs = %d\n# TotalAlloc = %d\n", n, 10*n)
	case s.requests.Add(1) > 50:
		http.Error(w, "too many", http.StatusTooManyRequests)
	}
}

func TestMeasure(t *testing.T) {
	s := &scripted{}
	server := httptest.NewServer(s)
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	exited := make(chan struct{})
	p := &process{name: "test", addr: addr, admin: addr, cmd: self(), exited: exited, stderr: os.DevNull}
	r := runner{p: p, w: workNamed("user"), conns: 2}
	m, err := r.closed(t.Context(), load.Bounds{Requests: 10, For: time.Minute})
	if err != nil || m.Requests != 10 {
		t.Fatalf("%d requests, error %v; want 10", m.Requests, err)
	}
	if m.allocsPerRequest() != 7 || m.bytesPerRequest() != 70 {
		t.Errorf("%v allocations and %v bytes a request, want 7 and 70: what looking costs is not the requests'", m.allocsPerRequest(), m.bytesPerRequest())
	}
	// Anything but the status that is wanted ends a run, with what was answered.
	if _, err := r.open(t.Context(), 10_000, time.Second); err == nil || !strings.Contains(err.Error(), "429") || !strings.Contains(err.Error(), "too many") {
		t.Errorf("error %v, want the 429 and its body", err)
	}
}

func TestNumberAfter(t *testing.T) {
	text := "Name:\tbench\nVmRSS:\t  22800 kB\ngoroutine profile: total 29\n"
	for label, want := range map[string]int64{"VmRSS:": 22800, "goroutine profile: total ": 29} {
		if got, err := numberAfter(text, label); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", label, got, err, want)
		}
	}
	for _, label := range []string{"VmHWM:", "Name:"} {
		if got, err := numberAfter(text, label); err == nil {
			t.Errorf("%q gives %d, want an error", label, got)
		}
	}
}

func TestTrimLog(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &process{stderr: f.Name()}
	for _, tc := range []struct {
		size, logged, left int64
	}{{1000, 1000, 1000}, {64 << 20, 64 << 20, 0}} {
		if err := f.Truncate(tc.size); err != nil {
			t.Fatal(err)
		}
		if err := p.trimLog(); err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil || info.Size() != tc.left || p.logged() != tc.logged {
			t.Errorf("of %d bytes %d are left, %d were logged (error %v); want %d, %d", tc.size, info.Size(), p.logged(), err, tc.left, tc.logged)
		}
	}
}
