package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of /proc/PID/stat: 100 on every Linux that
// Go runs on.
const ticksPerSecond = 100

// cpu is the user and system time that the process has used, all threads and
// those that have ended included. It moves in steps of 10 ms, so a run should
// take seconds.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return parseCPU(string(b))
}

// parseCPU reads utime and stime, fields 14 and 15 of proc_pid_stat(5). The
// second field is the command in parentheses and may hold spaces.
func parseCPU(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3 // the first field here is the third
	if len(fields) <= stime {
		return 0, fmt.Errorf("/proc/PID/stat is too short: %q", stat)
	}
	var ticks int64
	for _, f := range []string{fields[utime], fields[stime]} {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / ticksPerSecond), nil
}

// footprint is what a process holds.
type footprint struct {
	RSS        int64 `json:"rss_bytes"`        // resident memory
	Heap       int64 `json:"heap_bytes"`       // in use, after a collection
	Goroutines int64 `json:"goroutines"`       // once calls have ended
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
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return f, err
	}
	kib, err := numberAfter(string(b), "VmRSS:")
	f.RSS = kib * 1024
	return f, err
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
