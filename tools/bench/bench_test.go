package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/tools/freeport"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// Peers against themselves are the whole benchmark but for Sluice: it must run
// without an error, find all equal in what they answer, and write everything down.
func TestComparePeersWithThemselves(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "raw.json")
	s, err := parse([]string{"-gateway", "plain", "-duration", "100ms", "-warmup", "20ms", "-rounds", "2", "-conns", "4", "-json", file})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), s, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Works) != len(works) {
		t.Fatalf("%d works, want %d", len(r.Works), len(works))
	}
	for _, w := range r.Works {
		for _, p := range w.Peers {
			for _, m := range slices.Concat(p.Closed, p.Open) {
				if m.Requests == 0 || m.CPU <= 0 || m.P50 <= 0 || m.P99 < m.P50 || m.P999 < m.P99 || m.RSS <= 0 || m.Mallocs <= 0 || m.Bytes <= 0 {
					t.Errorf("%s of %s: %+v", w.Name, p.Name, m)
				}
			}
			if len(p.Closed) != s.rounds || len(p.Open) != s.rounds || p.Closed[0].Rate != 0 || p.Open[0].Rate <= 0 {
				t.Errorf("%s of %s: %d closed and %d open rounds", w.Name, p.Name, len(p.Closed), len(p.Open))
			}
		}
		if !strings.Contains(out.String(), w.Title) {
			t.Errorf("the report lacks %s:\n%s", w.Title, out.String())
		}
	}
	if err := r.save(dir); err != nil {
		t.Fatal(err)
	}
}

func TestMixedOfPlain(t *testing.T) {
	s, err := parse([]string{"-gateway", "plain", "-mixed", "-duration", "1500ms", "-mixed-conns", "4"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	// So short a run says nothing of memory: it is the answers that count.
	if err := run(t.Context(), s, &out); err != nil && !strings.Contains(err.Error(), "third") {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if n := strings.Count(out.String(), "goroutines\n"); n != 6 {
		t.Errorf("%d samples, want 6:\n%s", n, out.String())
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

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{{"-mixed", "-soak"}, {"-works", "user,nothing"}, {"-gateway", "plain", "-out", "x"}, {"-mixed-conns", "0"}, {"-duration", "-1s"}, {"-gateway", "other"}, {"-rounds", "0"}, {"-conns", "-1"}, {"-soak-requests", "1"}, {"more"}} {
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
	p := &process{name: "broken", program: "broken", addr: "127.0.0.1:1"}
	if err := os.WriteFile(l.file(p), []byte("#!/bin/sh\necho no such option >&2\nexit 3\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	err = l.start(context.Background(), p, nil)
	if err == nil || !strings.Contains(err.Error(), "no such option") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v, want the program's complaint", err)
	}
}

func TestFreeAddrsDiffer(t *testing.T) {
	addrs, err := freeport.Addrs(5)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addrs)
	if n := len(slices.Compact(addrs)); n != 5 {
		t.Errorf("%d different addresses, want 5", n)
	}
}
