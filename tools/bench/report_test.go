package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sampleResult is a result whose figures are made up.
func sampleResult() *result {
	run := func(us, rate float64) []measurement {
		const n = 1000
		return []measurement{{
			Requests: n, Elapsed: time.Second, CPU: time.Duration(us * n * 1e3), Rate: rate, P50: 500 * time.Microsecond, P99: 2 * time.Millisecond,
			P999: 9 * time.Millisecond, LateP99: 60 * time.Microsecond, RSS: 30 << 20, Mallocs: 90 * n, Bytes: 8192 * n,
		}}
	}
	peer := func(name string, us float64) peerResult { return peerResult{name, run(us, 0), run(us*1.5, 600)} }
	r := &result{
		When: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Command: "go run ./tools/bench -rounds 1", Conns: 16, Rounds: 1, Duration: time.Second,
		Machine: machine{CPU: "A <fine> CPU & more", Cores: 2, Memory: 4 << 30, Kernel: "Linux 6", Go: "go1.26 linux/amd64", Load: "0.10", Commit: "0123abc"},
		Works: []workResult{
			{Title: "GET one user", Must: 0.85, Aim: 0.7, Peers: []peerResult{peer("sluice", 60), peer("plain", 75), peer("floor", 40)}, CPU: ratio{0.8, 0.78, 0.83}},
			{Title: "a miss, off the scale", Must: 0.25, Aim: 0.2, Peers: []peerResult{peer("sluice", 300), peer("plain", 100), peer("floor", 40)}, CPU: ratio{3, 2.9, 3.1}},
			{Title: "gRPC", Must: 0.7, Aim: 0.5, Peers: []peerResult{peer("edge", 20), peer("proxy", 50)}, CPU: ratio{0.4, 0.4, 0.4}},
			{Title: "without targets", Peers: []peerResult{peer("sluice", 60), peer("plain", 75), peer("floor", 40)}, CPU: ratio{0.8, 0.8, 0.8}},
		},
		Routing: &routing{Few: 150, Many: 160, Ratio: 160.0 / 150, Must: 1.2, Verdict: passMust},
	}
	for i := range r.Works {
		w := &r.Works[i]
		w.Verdict = judge(w.CPU.Median, w.Must, w.Aim)
	}
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed (go test ./tools/bench -update):\n%s", file, got)
	}
}

func TestChart(t *testing.T) {
	svg, err := sampleResult().chart()
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not XML: %v", err)
		}
	}
	golden(t, "chart.svg", svg)
}

func TestReadme(t *testing.T) {
	dir := t.TempDir()
	if err := sampleResult().save(dir); err != nil {
		t.Fatal(err)
	}
	soak := &mixedResult{
		When: time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC), Command: "go run ./tools/bench -mixed", Mix: mixText, Machine: sampleResult().Machine,
		Capacity: 5000, Share: 80, Rate: 4000, Duration: 10 * time.Minute, Requests: 2_400_000, P50: time.Millisecond, P99: 5 * time.Millisecond, P999: 9 * time.Millisecond,
		Samples: []sample{{footprint: footprint{RSS: 60 << 20, Heap: 20 << 20, Goroutines: 90, Requests: 60_000}, At: 15 * time.Second}}, Verdict: levelVerdict,
	}
	if err := soak.save(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, readmeFile))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "README.md", page)
}

// A soak may be the first that is written down.
func TestReadmeOfASoakAlone(t *testing.T) {
	dir := t.TempDir()
	if err := (&mixedResult{Verdict: "2 goroutines more"}).save(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, readmeFile))
	if err != nil || strings.Contains(string(page), "## Comparison") || !strings.Contains(string(page), "**2 goroutines more**") {
		t.Errorf("error %v, page:\n%s", err, page)
	}
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	if err := sampleResult().print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"A <fine> CPU", "0.80 (0.78–0.83)  0.85", "MISS", "PASS, aim met", "75.0 µs plain", "routing, 5,000 routes", "9.00 ms", "600/s", "8.0 KiB", "30 MiB"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
