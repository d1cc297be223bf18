package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Plain against plain is the whole benchmark but for Sluice: it must run without
// an error, find both equal in what they answer and alike in what they cost.
func TestComparePlainWithItself(t *testing.T) {
	file := filepath.Join(t.TempDir(), "raw.json")
	s, err := parse([]string{"-gateway", "plain", "-duration", "400ms", "-warmup", "100ms", "-rounds", "2", "-conns", "4", "-json", file})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), s, &out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Paths) != len(paths) {
		t.Fatalf("%d paths, want %d", len(r.Paths), len(paths))
	}
	for _, p := range r.Paths {
		if len(p.Pairs) != s.rounds {
			t.Errorf("%s: %d pairs, want %d", p.Path, len(p.Pairs), s.rounds)
		}
		// Short runs on a busy machine: only nonsense is caught here.
		if p.CPU.Median < 0.3 || p.CPU.Median > 3 {
			t.Errorf("%s: plain costs %v of itself", p.Path, p.CPU)
		}
		if !strings.Contains(out.String(), p.Path) {
			t.Errorf("the report lacks %s:\n%s", p.Path, out.String())
		}
	}
}

func TestSoakOfPlain(t *testing.T) {
	s, err := parse([]string{"-gateway", "plain", "-soak", "-soak-requests", "1200", "-conns", "4"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), s, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if n := strings.Count(out.String(), "goroutines"); n != soakPoints {
		t.Errorf("%d points, want %d:\n%s", n, soakPoints, out.String())
	}
}

func TestLevel(t *testing.T) {
	const m = 1 << 20
	first := footprint{RSS: 40 * m, Heap: 8 * m, Goroutines: 50}
	for _, tc := range []struct {
		name string
		last footprint
		want string // in the error; empty: level
	}{
		{"the same", first, ""},
		{"less", footprint{RSS: 30 * m, Heap: 4 * m, Goroutines: 40}, ""},
		{"a little more", footprint{RSS: 50 * m, Heap: 9 * m, Goroutines: 60}, ""},
		{"goroutines", footprint{RSS: 40 * m, Heap: 8 * m, Goroutines: 133}, "133 goroutines"},
		{"heap", footprint{RSS: 40 * m, Heap: 16 * m, Goroutines: 50}, "bytes of heap"},
		{"memory", footprint{RSS: 80 * m, Heap: 8 * m, Goroutines: 50}, "bytes resident"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := level([]footprint{first, first, tc.last})
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// Anything but 200 ends a run, with what was answered.
func TestMeasureFailsOnErrors(t *testing.T) {
	var n atomic.Int64
	g := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || n.Add(1) > 20 {
			http.Error(w, "too many", http.StatusTooManyRequests)
		}
	}))
	defer g.Close()
	p := &process{name: "test", addr: strings.TrimPrefix(g.URL, "http://"), token: "secret", cmd: self()}
	m, err := measure(t.Context(), p, "/", 2, 10, time.Minute)
	if err != nil || m.Requests != 10 {
		t.Fatalf("%d requests, error %v; want 10", m.Requests, err)
	}
	if _, err := measure(t.Context(), p, "/", 2, 10, time.Minute); err == nil || !strings.Contains(err.Error(), "429") || !strings.Contains(err.Error(), "too many") {
		t.Errorf("error %v, want the 429 and its body", err)
	}
}

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

func TestParseCPU(t *testing.T) {
	got, err := parseCPU("4242 (a (strange) name) S 1 4242 4242 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0 100 0 0")
	if want := 1750 * time.Millisecond; err != nil || got != want {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x) S 1", "1 (x) S 1 1 1 0 -1 1 1 2 3 4 many 25 0"} {
		if got, err := parseCPU(bad); err == nil {
			t.Errorf("%q gives %v, want an error", bad, got)
		}
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

func TestStatistics(t *testing.T) {
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("median of three: %v", got)
	}
	if got := median([]float64{9, 1, 5, 7}); got != 6 {
		t.Errorf("median of four: %v", got)
	}
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for p, want := range map[int]time.Duration{0: 1, 50: 50, 99: 99, 100: 100} {
		if got := percentile(hundred, p); got != want {
			t.Errorf("p%d: %d, want %d", p, got, want)
		}
	}
	if got := percentile([]time.Duration{7}, 99); got != 7 {
		t.Errorf("p99 of one: %v", got)
	}
	cost := func(us int) measurement {
		return measurement{Requests: 1, CPU: time.Duration(us) * time.Microsecond, Elapsed: time.Second}
	}
	got := ratioOf([]pair{{cost(10), cost(20)}, {cost(30), cost(20)}, {cost(12), cost(40)}}, measurement.cpuPerRequest)
	if want := (ratio{Median: 0.6, Min: 0.3, Max: 1.5}); got != want {
		t.Errorf("ratio %v, want %v", got, want)
	}
}

func TestVerify(t *testing.T) {
	serve := func(status int, body string) *process {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return &process{name: "test", addr: strings.TrimPrefix(s.URL, "http://")}
	}
	user := path{"/v1/users/ada", func(a map[string]any) bool { return a["userId"] == "ada" }}
	base := serve(200, `{"userId":"ada","lines":[{"n":1,"price":null}],"phone":null}`)
	for _, tc := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"another order, nulls left out", `{"lines": [{"n": 1}], "userId": "ada"}`, 200, ""},
		{"another value", `{"lines":[{"n":2}],"userId":"ada"}`, 200, "differently"},
		{"a member more", `{"lines":[{"n":1}],"userId":"ada","x":""}`, 200, "differently"},
		{"not the whole", `{}`, 200, "not the whole"},
		{"refused", `{"userId":"ada"}`, 403, "403"},
		{"no JSON", `hello`, 200, "invalid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := verify(t.Context(), user, base, serve(tc.status, tc.body))
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{{"-gateway", "other"}, {"-rounds", "0"}, {"-conns", "-1"}, {"-duration", "0s"}, {"-soak-requests", "1"}, {"more"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// A program that does not come up is reported with what it said, at once.
func TestStartReportsWhatDied(t *testing.T) {
	l, err := newLab()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	p := &process{name: "broken", addr: "127.0.0.1:1"}
	if err := os.WriteFile(l.program(p), []byte("#!/bin/sh\necho no such option >&2\nexit 3\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	err = l.start(context.Background(), p, nil)
	if err == nil || !strings.Contains(err.Error(), "no such option") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v, want the program's complaint", err)
	}
}

func TestFreeAddrsDiffer(t *testing.T) {
	addrs, err := freeAddrs(5)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addrs)
	if n := len(slices.Compact(addrs)); n != 5 {
		t.Errorf("%d different addresses, want 5", n)
	}
}
