package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/tools/bench/load"
)

// workResult is the runs of one work.
type workResult struct {
	Name    string  `json:"name"`
	Title   string  `json:"title"`
	Request string  `json:"request"`
	Must    float64 `json:"must,omitempty"`
	Aim     float64 `json:"aim,omitempty"`
	// Peers: what is measured, what it is held against, then the others.
	Peers []peerResult `json:"peers"`
	// CPU per request of the first peer to that of the second, closed loop.
	CPU     ratio   `json:"cpu_ratio"`
	Verdict verdict `json:"verdict,omitempty"`
}

// peerResult is the runs of one process, a round each.
type peerResult struct {
	Name   string        `json:"name"`
	Closed []measurement `json:"closed"`
	Open   []measurement `json:"open"`
}

// ratio is subject to baseline: of the medians of all rounds, and the least and
// most of any round.
type ratio struct {
	Median float64 `json:"of_medians"`
	Min    float64 `json:"min_round"`
	Max    float64 `json:"max_round"`
}

func (r ratio) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Median, r.Min, r.Max) }

// verdict is what a target says of a ratio.
type verdict string

const (
	passAim  verdict = "PASS, aim met" //nolint:gosec // no password
	passMust verdict = "PASS"
	miss     verdict = "MISS"
)

// judge holds a ratio against its targets; without any it says nothing.
func judge(got, must, aim float64) verdict {
	switch {
	case must == 0:
		return ""
	case got <= aim:
		return passAim
	case got <= must:
		return passMust
	}
	return miss
}

// openShare is the rate of the open loop, as a share of what the slower of
// subject and baseline answers in the closed one.
const openShare = 0.6

// comparison measures works one after another.
type comparison struct {
	s   settings
	out io.Writer
}

// work measures one work: first what each peer can do at most, then all of them
// at one rate.
func (c comparison) work(ctx context.Context, w *work, peers []*process) (workResult, error) {
	r := workResult{Name: w.name, Title: w.title, Request: w.String(), Must: w.must, Aim: w.aim}
	var runners []runner
	for _, p := range peers {
		one := runner{p: p, w: w, conns: c.s.conns}
		runners = append(runners, one)
		r.Peers = append(r.Peers, peerResult{Name: p.name})
		if _, err := one.closed(ctx, load.Bounds{Requests: c.s.requests, For: max(c.s.warmup, time.Millisecond)}); err != nil {
			return r, err
		}
	}
	err := c.rounds(runners, func(i int) error {
		m, err := runners[i].closed(ctx, load.Bounds{Requests: c.s.requests, For: c.s.duration})
		r.Peers[i].Closed = append(r.Peers[i].Closed, m)
		return c.report(w, runners[i].p, m, err)
	})
	if err != nil {
		return r, err
	}
	rate := openShare * min(r.Peers[0].closed(measurement.throughput), r.Peers[1].closed(measurement.throughput))
	err = c.rounds(runners, func(i int) error {
		m, err := runners[i].open(ctx, rate, c.s.duration)
		r.Peers[i].Open = append(r.Peers[i].Open, m)
		return c.report(w, runners[i].p, m, err)
	})
	if err != nil {
		return r, err
	}
	r.CPU = ratioOf(r.Peers[0].Closed, r.Peers[1].Closed, measurement.cpuPerRequest)
	r.Verdict = judge(r.CPU.Median, r.Must, r.Aim)
	return r, nil
}

// rounds gives every peer its turn in each round, and another one the first, so
// that what else the machine does meets all alike.
func (c comparison) rounds(runners []runner, turn func(i int) error) error {
	for round := range c.s.rounds {
		for _, i := range order(len(runners), round) {
			if err := turn(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// order is the turns of n peers in a round.
func order(n, round int) []int {
	turns := make([]int, n)
	for i := range turns {
		turns[i] = (i + round) % n
	}
	if round/n%2 == 1 { // Then each meets another predecessor.
		slices.Reverse(turns)
	}
	return turns
}

func (c comparison) report(w *work, p *process, m measurement, err error) error {
	if err != nil {
		return err
	}
	loop := "closed"
	if m.Rate > 0 {
		loop = "open"
	}
	_, err = fmt.Fprintf(c.out, "%-9s %-14s %-6s %7.1f CPU µs/request %7.0f requests/s  p50 %-8v p99 %-8v p99.9 %v\n", w.name, p.name, loop,
		m.cpuPerRequest(), m.throughput(), round(m.P50), round(m.P99), round(m.P999))
	return err
}

func round(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

// closed and open are the medians over the rounds.
func (p peerResult) closed(of func(measurement) float64) float64 {
	return median(figures(p.Closed, of))
}
func (p peerResult) open(of func(measurement) float64) float64 { return median(figures(p.Open, of)) }

func figures(runs []measurement, of func(measurement) float64) []float64 {
	var out []float64
	for _, m := range runs {
		out = append(out, of(m))
	}
	return out
}

func ratioOf(subject, baseline []measurement, of func(measurement) float64) ratio {
	a, b := figures(subject, of), figures(baseline, of)
	var each []float64
	for i := range a {
		each = append(each, a[i]/b[i])
	}
	return ratio{Median: median(a) / median(b), Min: slices.Min(each), Max: slices.Max(each)}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
