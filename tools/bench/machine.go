package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is where the figures are from. No host name: nobody needs it.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_bytes"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	// Load is the average number of runnable tasks in the minute before: what else
	// the machine did.
	Load string `json:"load_average_before"`
	// Commit that was measured, with a + when files had changed since.
	Commit string `json:"commit"`
}

// thisMachine leaves empty what the system does not tell.
func thisMachine(ctx context.Context) machine {
	m := machine{
		Cores: runtime.NumCPU(), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		CPU: cpuModel(readFile("/proc/cpuinfo")), Commit: commit(ctx),
	}
	if kib, err := numberAfter(readFile("/proc/meminfo"), "MemTotal:"); err == nil {
		m.Memory = kib * 1024
	}
	m.Load, _, _ = strings.Cut(readFile("/proc/loadavg"), " ")
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return m
}

func readFile(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}

func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return ""
	}
	id := strings.TrimSpace(string(out))
	// Of the code alone: writing the figures down changes files too.
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--", "*.go", "go.mod").Output()
	if err == nil && len(changed) > 0 {
		id += "+"
	}
	return id
}
