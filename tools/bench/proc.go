package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is the user and system time that the process has used, all threads and
// those that have ended included, in nanoseconds: /proc/PID/stat knows but
// hundredths of a second.
func (p *process) cpu() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(cpuClock(p.cmd.Process.Pid), &t); err != nil {
		return 0, fmt.Errorf("CPU time of %s: %w", p.name, err)
	}
	return time.Duration(t.Nano()), nil
}

// cpuClock is the clock of a process's CPU time, as clock_getcpuclockid(3) makes
// its number: the complement of the id above three bits that say which clock.
func cpuClock(pid int) int32 {
	const scheduled = 2               // CPUCLOCK_SCHED
	return int32(^pid<<3 | scheduled) //nolint:gosec // the kernel's own arithmetic
}

// meter is what a process's runtime had allocated at some moment.
type meter struct {
	mallocs, bytes int64
	// What looking costs the process itself.
	lookMallocs, lookBytes int64
}

// readMeter looks twice, to know what looking costs.
func (p *process) readMeter(ctx context.Context) (meter, error) {
	var at [2]meter
	for i := range at {
		if err := p.runtimeFigures(ctx, map[string]*int64{"# Mallocs = ": &at[i].mallocs, "# TotalAlloc = ": &at[i].bytes}); err != nil {
			return meter{}, err
		}
	}
	at[1].lookMallocs, at[1].lookBytes = at[1].mallocs-at[0].mallocs, at[1].bytes-at[0].bytes
	return at[1], nil
}

// since is what has been allocated from then on, looking not counted.
func (m meter) since(ctx context.Context, p *process) (mallocs, bytes int64, err error) {
	err = p.runtimeFigures(ctx, map[string]*int64{"# Mallocs = ": &mallocs, "# TotalAlloc = ": &bytes})
	return max(mallocs-m.mallocs-m.lookMallocs, 0), max(bytes-m.bytes-m.lookBytes, 0), err
}

// footprint is what a process holds.
type footprint struct {
	RSS        int64 `json:"rss_bytes"`        // resident memory
	Heap       int64 `json:"heap_bytes"`       // in use, after a collection
	Goroutines int64 `json:"goroutines"`       // once calls have ended, in a soak at rest
	Requests   int   `json:"requests_by_then"` // sent before
}

// footprint looks at the process through /proc and its admin listener. Looking
// at the heap collects garbage first, so that only what is held is counted.
func (p *process) footprint(ctx context.Context) (footprint, error) {
	var f footprint
	var err error
	if f.Heap, err = p.adminNumber(ctx, "/debug/pprof/heap?gc=1&debug=1", "# HeapInuse = "); err != nil {
		return f, err
	}
	if f.Goroutines, err = p.adminNumber(ctx, "/debug/pprof/goroutine?debug=1", "goroutine profile: total "); err != nil {
		return f, err
	}
	f.RSS, err = p.rss()
	return f, err
}

// rss is the resident memory of the process in bytes.
func (p *process) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	kib, err := numberAfter(string(b), "VmRSS:")
	return kib * 1024, err
}

// runtimeFigures reads figures of runtime.MemStats by their labels.
func (p *process) runtimeFigures(ctx context.Context, into map[string]*int64) error {
	body, err := get(ctx, "http://"+p.admin+"/debug/pprof/heap?debug=1", "")
	if err != nil {
		return fmt.Errorf("%s: figures of its runtime: %w", p.name, err)
	}
	for label, n := range into {
		if *n, err = numberAfter(string(body), label); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) adminNumber(ctx context.Context, path, label string) (int64, error) {
	body, err := get(ctx, "http://"+p.admin+path, "")
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return numberAfter(string(body), label)
}

// numberAfter is the number that follows label at the start of a line.
func numberAfter(text, label string) (int64, error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), label); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				return strconv.ParseInt(words[0], 10, 64)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("no line starts with %q and a number", label)
}
