package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("of three: %v", got)
	}
	if got := median([]float64{9, 1, 5, 7}); got != 6 {
		t.Errorf("of four: %v", got)
	}
}

func TestRatio(t *testing.T) {
	cost := func(us ...int) (out []measurement) {
		for _, n := range us {
			out = append(out, measurement{Requests: 2, CPU: time.Duration(2*n) * time.Microsecond, Elapsed: time.Second})
		}
		return out
	}
	got := ratioOf(cost(10, 30, 12), cost(20, 20, 40), measurement.cpuPerRequest)
	if want := (ratio{Median: 0.6, Min: 0.3, Max: 1.5}); got != want {
		t.Errorf("ratio %v, want %v", got, want)
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		got, must, aim float64
		want           verdict
	}{
		{0.1, 0, 0, ""},
		{0.19, 0.25, 0.2, passAim}, {0.2, 0.25, 0.2, passAim},
		{0.201, 0.25, 0.2, passMust}, {0.25, 0.25, 0.2, passMust},
		{0.2501, 0.25, 0.2, miss}, {9, 0.25, 0.2, miss},
		{1.2, 1.2, 0, passMust},
	} {
		if got := judge(tc.got, tc.must, tc.aim); got != tc.want {
			t.Errorf("%v of must %v, aim %v: %q, want %q", tc.got, tc.must, tc.aim, got, tc.want)
		}
	}
}

// Over n rounds each peer has each turn once; two peers take turns at being first.
func TestOrder(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for turn := range n {
			var had []int
			for round := range n {
				had = append(had, order(n, round)[turn])
			}
			slices.Sort(had)
			if len(slices.Compact(had)) != n {
				t.Errorf("%d peers: turn %d went to %v", n, turn, had)
			}
		}
	}
	if a, b := order(3, 1), order(3, 4); slices.Equal(a, b) || slices.Index(b, a[0]) == 1 {
		t.Errorf("orders %v and %v: each has the same predecessor again", a, b)
	}
}

func TestParseRouting(t *testing.T) {
	const out = `goos: linux
BenchmarkLookup/hit/routes=10-2         	 1000	       150.0 ns/op	 16 B/op	 1 allocs/op
BenchmarkLookup/hit/routes=5000-2       	 1000	       170 ns/op
BenchmarkLookup/hit/routes=10-2         	 1000	       200 ns/op
BenchmarkLookup/hit/routes=10           	 1000	       100 ns/op
BenchmarkLookup/hit/routes=5000-2       	 1000	       190 ns/op
BenchmarkLookup/miss/routes=5000-2      	 1000	       9000 ns/op
PASS
`
	r, err := parseRouting(out)
	if want := (routing{Few: 150, Many: 180, Ratio: 1.2, Must: routingMust, Verdict: passMust}); err != nil || *r != want {
		t.Errorf("%+v, error %v; want %+v", r, err, want)
	}
	if r, err := parseRouting(strings.ReplaceAll(out, "routes=5000", "routes=4999")); err == nil {
		t.Errorf("%+v without figures of 5,000 routes", r)
	}
}

func TestCPUModel(t *testing.T) {
	if got := cpuModel("processor\t: 0\nmodel name\t: A Fine: CPU\nflags\t: x\nmodel name\t: another\n"); got != "A Fine: CPU" {
		t.Errorf("%q", got)
	}
	if got := cpuModel("nothing\n"); got != "" {
		t.Errorf("%q of nothing", got)
	}
}
