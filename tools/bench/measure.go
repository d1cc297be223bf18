package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/tools/bench/load"
)

// measurement is one run: one process, one work, one loop.
type measurement struct {
	Rate     float64       `json:"rate,omitempty"` // requests a second that were due; none in a closed loop
	Requests int           `json:"requests"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	CPU      time.Duration `json:"cpu_ns"` // of the gateway's process
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	P999     time.Duration `json:"p999_ns"`
	// LateP99 is how late the load itself was, of an open loop.
	LateP99 time.Duration `json:"late_p99_ns,omitempty"`
	RSS     int64         `json:"rss_bytes"`   // afterwards
	Mallocs int64         `json:"mallocs"`     // of the process, meanwhile
	Bytes   int64         `json:"alloc_bytes"` // likewise
}

// The figures that runs are compared by.

// cpuPerRequest is in microseconds.
func (m measurement) cpuPerRequest() float64 {
	return float64(m.CPU.Nanoseconds()) / 1e3 / float64(m.Requests)
}

// throughput is in requests a second.
func (m measurement) throughput() float64 { return float64(m.Requests) / m.Elapsed.Seconds() }

func (m measurement) allocsPerRequest() float64 { return float64(m.Mallocs) / float64(m.Requests) }
func (m measurement) bytesPerRequest() float64  { return float64(m.Bytes) / float64(m.Requests) }
func (m measurement) rssMiB() float64           { return mib(m.RSS) }
func (m measurement) p50() float64              { return micros(m.P50) }
func (m measurement) p99() float64              { return micros(m.P99) }
func (m measurement) p999() float64             { return micros(m.P999) }

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// runner drives one work of one process.
type runner struct {
	p     *process
	w     *work
	conns int
}

// closed measures as many requests as are answered in the time.
func (r runner) closed(ctx context.Context, b load.Bounds) (measurement, error) {
	return r.measure(ctx, func(callers []load.Caller) (load.Run, error) { return load.Closed(ctx, callers, b) })
}

// open measures at a constant rate.
func (r runner) open(ctx context.Context, rate float64, d time.Duration) (measurement, error) {
	m, err := r.measure(ctx, func(callers []load.Caller) (load.Run, error) { return load.Open(ctx, callers, 0, rate, d) })
	m.Rate = rate
	return m, err
}

func (r runner) measure(ctx context.Context, drive func([]load.Caller) (load.Run, error)) (m measurement, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %v: %w", r.p.name, r.w, errors.Join(err, r.p.dead()))
		}
	}()
	callers, err := r.w.callers(ctx, r.p, r.conns)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, closeAll(callers)) }()
	// The connections are made before the clock starts, and both sides have their
	// buffers.
	if _, err := load.Closed(ctx, callers, load.Bounds{Requests: 4 * len(callers), For: time.Second}); err != nil {
		return m, err
	}
	before, err := r.p.readMeter(ctx)
	if err != nil {
		return m, err
	}
	cpu, err := r.p.cpu()
	if err != nil {
		return m, err
	}
	run, err := drive(callers)
	if err != nil {
		return m, err
	}
	after, err := r.p.cpu()
	if err != nil {
		return m, err
	}
	m = measurement{
		Requests: len(run.Latencies), Elapsed: run.Elapsed, CPU: after - cpu, LateP99: load.Percentile(run.Late, 99),
		P50: load.Percentile(run.Latencies, 50), P99: load.Percentile(run.Latencies, 99), P999: load.Percentile(run.Latencies, 99.9),
	}
	if m.Mallocs, m.Bytes, err = before.since(ctx, r.p); err != nil {
		return m, err
	}
	m.RSS, err = r.p.rss()
	return m, errors.Join(err, r.p.trimLog())
}
