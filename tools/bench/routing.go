package main

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// routing is what finding a route costs, with few and with many.
type routing struct {
	Few   float64 `json:"ns_at_10_routes"`
	Many  float64 `json:"ns_at_5000_routes"`
	Ratio float64 `json:"ratio"`
	Must  float64 `json:"must"`
	// Verdict holds the ratio to Must.
	Verdict verdict `json:"verdict"`
}

const routingMust = 1.2

// measureRouting runs the route index's own benchmark.
func measureRouting(ctx context.Context) (*routing, error) {
	cmd := exec.CommandContext(ctx, "go", "test", module+"/gateway/route", "-run", "^$", "-bench", "^BenchmarkLookup$/^hit$", "-count", "5")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("the benchmark of routing: %w\n%s", err, out)
	}
	return parseRouting(string(out))
}

var lookupLine = regexp.MustCompile(`^BenchmarkLookup/hit/routes=(\d+)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)

// parseRouting reads what go test prints; of each size it takes the median.
func parseRouting(out string) (*routing, error) {
	times := map[string][]float64{}
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		if m := lookupLine.FindStringSubmatch(lines.Text()); m != nil {
			ns, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return nil, err
			}
			times[m[1]] = append(times[m[1]], ns)
		}
	}
	if len(times["10"]) == 0 || len(times["5000"]) == 0 {
		return nil, fmt.Errorf("the benchmark of routing has no figures of 10 and 5000 routes:\n%s", out)
	}
	r := &routing{Few: median(times["10"]), Many: median(times["5000"]), Must: routingMust}
	r.Ratio = r.Many / r.Few
	r.Verdict = judge(r.Ratio, r.Must, 0)
	return r, lines.Err()
}
