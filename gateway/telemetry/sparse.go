package telemetry

import (
	"sync"
	"time"
)

// sparseLines is how many lines of a flood are written in a second: enough to
// see whose it is, and at some 400 bytes each nothing that fills a disk.
const sparseLines = 10

// sparse lets a few lines a second through, and counts the others.
type sparse struct {
	mu    sync.Mutex
	since time.Time // when the present second began
	lines int       // in it
	left  int       // left out since the last line
}

// line says whether a line may be written now, and how many were left out before
// it. Safe for concurrent use.
func (s *sparse) line(now time.Time) (left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.since) >= time.Second {
		s.since, s.lines = now, 0
	}
	if s.lines == sparseLines {
		s.left++
		return 0, false
	}
	s.lines++
	left, s.left = s.left, 0
	return left, true
}
