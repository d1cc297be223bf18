package resilience

import (
	"sync"
	"time"
)

// Outlier leaves out single backends that fail while others of the same service do
// not. It is safe for concurrent use, and independent of Service.
type Outlier struct {
	mu    sync.Mutex
	o     OutlierOptions
	clock func() time.Time
}

// NewOutlier returns one without backends. A nil clock means time.Now.
func NewOutlier(o OutlierOptions, clock func() time.Time) *Outlier {
	return &Outlier{o: o, clock: clock}
}

// Configure changes the settings; what is known of the backends stays.
func (o *Outlier) Configure(options OutlierOptions) {}

// Update sets which backends there are. What is known of those that stay is kept.
func (o *Outlier) Update(ids []string) {}

// Report tells that a call of a backend succeeded or failed (by the backend's fault:
// a caller that went away is not reported). Unknown backends are ignored. It returns
// true where this made the backend be left out: the caller may pick anew.
func (o *Outlier) Report(id string, ok bool) (ejected bool) { return false }

// Ejected says whether a backend is to be left out now.
func (o *Outlier) Ejected(id string) bool { return false }

// Backends says how they are, ordered by id, for the admin page.
func (o *Outlier) Backends() []OutlierState { return nil }

// OutlierState is one backend.
type OutlierState struct {
	ID string
	// Failures in a row.
	Failures int
	// EjectedUntil is zero where the backend is not left out.
	EjectedUntil time.Time
	// Ejections is how often it was left out.
	Ejections uint64
}
