package telemetry

import (
	"slices"
	"sync"
	"time"
)

// Failure is a request that the gateway or a service failed, as operators see it.
type Failure struct {
	Time time.Time
	// ID is the request id, Route the template (or the RPC), Code as in the access log.
	ID, Route, Code string
	// Upstream and Variant say where it was sent, Why what refused it.
	Upstream, Variant, Why string
}

// Recent keeps the last failures. Safe for concurrent use.
type Recent struct {
	mu   sync.Mutex
	ring []Failure
	next int
}

// NewRecent keeps the last n failures.
func NewRecent(n int) *Recent { return &Recent{ring: make([]Failure, 0, n)} }

// Last returns them, the latest first.
func (r *Recent) Last() []Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Failure, 0, len(r.ring))
	out = append(append(out, r.ring[r.next:]...), r.ring[:r.next]...)
	slices.Reverse(out)
	return out
}

func (r *Recent) add(f Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, f)
		return
	}
	r.ring[r.next] = f
	r.next = (r.next + 1) % len(r.ring)
}

// failure is the request as Recent keeps it.
func (r *Request) failure(code string, end time.Time) Failure {
	f := Failure{Time: end, ID: r.ID, Route: r.Route, Code: code}
	if f.Route == "" {
		f.Route = r.RPC
	}
	if c := r.Call; c != nil {
		f.Upstream, f.Variant, f.Why = c.Upstream, c.Variant, c.DeniedBy
		if c.Breaker != "" {
			f.Why = c.Breaker
		}
	}
	return f
}
