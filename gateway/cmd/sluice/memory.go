package main

import (
	"errors"
	"log/slog"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// How the garbage collector of a gateway runs, where the operator does not say
// (docs/decisions/0017-observing.md has the measurements).
const (
	// gcPercent is GOGC: the heap may grow by so much of what lives in it before it is
	// collected.
	gcPercent = 200
	// memoryShare is how much of the container's memory the Go runtime may take. The
	// rest is for what it does not count: SQLite's pages, the program itself, and what
	// is allocated while the collector runs.
	memoryShare = 0.85
)

// memorySettings are GOGC and GOMEMLIMIT, decided.
type memorySettings struct {
	percent int   // 0 leaves it to the environment
	limit   int64 // bytes; 0 means that there is none, or that the environment has one
	// container is the container's memory in bytes; 0 means unlimited or unknown.
	container int64
	// problem is why it is unknown.
	problem error
}

// decideMemory leaves alone what the environment sets. The container is asked for
// its memory in bytes.
func decideMemory(getenv func(string) string, container memlimit.Provider) (s memorySettings) {
	if getenv("GOGC") == "" { // As the runtime reads it.
		s.percent = gcPercent
	}
	if getenv("GOMEMLIMIT") != "" {
		return s
	}
	bytes, err := container()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
		// No container, or one without a limit.
	case err != nil:
		s.problem = err
	case bytes > 0 && bytes <= math.MaxInt64:
		s.container, s.limit = int64(bytes), int64(float64(bytes)*memoryShare)
	}
	return s
}

// apply sets the runtime of this process.
func (s memorySettings) apply() {
	if s.percent > 0 {
		debug.SetGCPercent(s.percent)
	}
	if s.limit > 0 {
		debug.SetMemoryLimit(s.limit)
	}
}

// log says what was decided. What holds is in go_gc_gogc_percent and
// go_gc_gomemlimit_bytes.
func (s memorySettings) log(l *slog.Logger) {
	if s.problem != nil {
		l.Warn("the container's memory limit cannot be read; set GOMEMLIMIT", "error", s.problem)
	}
	l.Debug("garbage collection", "gogc", s.percent, "gomemlimit", s.limit, "container_bytes", s.container)
}
