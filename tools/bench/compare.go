package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// result is a whole comparison.
type result struct {
	When     time.Time    `json:"when"`
	Go       string       `json:"go"`
	CPUs     int          `json:"cpus"`
	Conns    int          `json:"connections"`
	Subject  string       `json:"subject"`
	Baseline string       `json:"baseline"`
	Paths    []pathResult `json:"paths"`
}

// pathResult is the runs of one path, in pairs.
type pathResult struct {
	Path       string `json:"path"`
	Pairs      []pair `json:"pairs"`
	CPU        ratio  `json:"cpu_ratio"`
	Throughput ratio  `json:"throughput_ratio"`
	P50        ratio  `json:"p50_ratio"`
	P99        ratio  `json:"p99_ratio"`
}

// pair is one run of each gateway, one straight after the other.
type pair struct {
	Subject  measurement `json:"subject"`
	Baseline measurement `json:"baseline"`
}

// ratio is subject to baseline: of the medians of all runs, and the least and
// most of any pair.
type ratio struct {
	Median float64 `json:"of_medians"`
	Min    float64 `json:"min_pair"`
	Max    float64 `json:"max_pair"`
}

// compare measures every path in turns: subject and baseline, then baseline and
// subject, so that neither always comes first.
func compare(ctx context.Context, s settings, subject, baseline *process, out io.Writer) (*result, error) {
	r := &result{
		When: time.Now().UTC(), Go: runtime.Version(), CPUs: runtime.NumCPU(), Conns: s.conns,
		Subject: subject.name, Baseline: baseline.name,
	}
	for _, p := range paths {
		pr := pathResult{Path: p.path}
		for _, g := range []*process{subject, baseline} {
			if _, err := measure(ctx, g, p.path, s.conns, s.requests, max(s.warmup, time.Millisecond)); err != nil {
				return nil, err
			}
		}
		for round := range s.rounds {
			var both pair
			runs := []struct {
				p    *process
				into *measurement
			}{{subject, &both.Subject}, {baseline, &both.Baseline}}
			if round%2 == 1 {
				slices.Reverse(runs)
			}
			for _, run := range runs {
				m, err := measure(ctx, run.p, p.path, s.conns, s.requests, s.duration)
				if err != nil {
					return nil, err
				}
				*run.into = m
				if _, err := fmt.Fprintf(out, "%-34s %-14s %7.1f CPU µs/request %8.0f requests/s  p50 %-8v p99 %v\n", p.path, m.Gateway,
					m.cpuPerRequest(), m.throughput(), m.P50.Round(time.Microsecond), m.P99.Round(time.Microsecond)); err != nil {
					return nil, err
				}
			}
			pr.Pairs = append(pr.Pairs, both)
		}
		pr.summarize()
		r.Paths = append(r.Paths, pr)
	}
	return r, nil
}

func (pr *pathResult) summarize() {
	pr.CPU = ratioOf(pr.Pairs, measurement.cpuPerRequest)
	pr.Throughput = ratioOf(pr.Pairs, measurement.throughput)
	pr.P50 = ratioOf(pr.Pairs, func(m measurement) float64 { return m.P50.Seconds() })
	pr.P99 = ratioOf(pr.Pairs, func(m measurement) float64 { return m.P99.Seconds() })
}

func ratioOf(pairs []pair, of func(measurement) float64) ratio {
	var each []float64
	for _, p := range pairs {
		each = append(each, of(p.Subject)/of(p.Baseline))
	}
	subject, baseline := medians(pairs, of)
	return ratio{Median: subject / baseline, Min: slices.Min(each), Max: slices.Max(each)}
}

func medians(pairs []pair, of func(measurement) float64) (subject, baseline float64) {
	var a, b []float64
	for _, p := range pairs {
		a, b = append(a, of(p.Subject)), append(b, of(p.Baseline))
	}
	return median(a), median(b)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// percentile is by nearest rank, of sorted values.
func percentile(sorted []time.Duration, p int) time.Duration {
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

func (r *result) print(out io.Writer) {
	_, _ = fmt.Fprintf(out, "\n%s against %s: %s, %d CPUs, %d connections; ratios of medians (least–most of a pair)\n",
		r.Subject, r.Baseline, r.Go, r.CPUs, r.Conns)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "GET\tCPU µs\t%s\tCPU ratio\tthroughput\tp50\tp99\n", r.Baseline)
	for _, p := range r.Paths {
		subject, baseline := medians(p.Pairs, measurement.cpuPerRequest)
		_, _ = fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%v\t%v\t%v\t%v\n", p.Path, subject, baseline, p.CPU, p.Throughput, p.P50, p.P99)
	}
	_ = w.Flush()
}

func (r ratio) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Median, r.Min, r.Max) }

func (r *result) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644) //nolint:gosec // a report
}
