package resilience

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
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
	name, variant string
	clock         func() time.Time
	start         time.Time
	registry      prometheus.Registerer
	metrics       *collector
	options       atomic.Pointer[Options]
	limiter       limiter
	budget        budget

	// methods is copied for each new one: calls look theirs up without a lock.
	methods atomic.Pointer[map[methodKey]*Method]

	mu      sync.Mutex
	classes []*Class
}

// NewService returns a service and registers its metrics. The only error is that
// these are registered already: there is one Service for a name and variant.
func NewService(o Options) (*Service, error) {
	o = o.withDefaults()
	s := &Service{name: o.Name, variant: o.Variant, clock: o.Clock, registry: o.Metrics}
	if s.clock == nil {
		s.start = time.Now()
	} else {
		s.start = s.clock()
	}
	s.options.Store(&o)
	s.limiter.knee.limit = float64(o.Concurrency.Initial)
	s.limiter.set(&o.Concurrency)
	s.limiter.knee.offset = time.Duration(s.start.UnixNano() % int64(probeEvery))
	s.metrics = newCollector(s)
	if s.registry != nil {
		if err := s.registry.Register(s.metrics); err != nil {
			return nil, fmt.Errorf("metrics of service %q, variant %q: %w", o.Name, o.Variant, err)
		}
	}
	return s, nil
}

// now is the time since the service was made.
func (s *Service) now() time.Duration {
	if s.clock == nil {
		return time.Since(s.start)
	}
	return max(s.clock().Sub(s.start), 0) // Buckets are numbered from there.
}

// Update changes the settings, as a reload does; what is known of the service stays.
// Name, Variant, Clock and Metrics cannot be changed and are ignored. A breaker that
// is switched off closes, unless Force holds it.
func (s *Service) Update(o Options) {
	o = o.withDefaults()
	s.options.Store(&o)
	s.limiter.fit(&o.Concurrency)
	if !o.Breaker.Off {
		return
	}
	for _, c := range s.all() {
		s.tell(&o, c, c.breaker.off(s.now()))
	}
}

// Close takes the service's metrics out of the registry. Permits may still be done.
func (s *Service) Close() {
	if s.registry != nil {
		s.registry.Unregister(s.metrics)
	}
}

// Class returns the breaker of a class of calls ("read", "write", "other"), the same
// for the same name. It is for start-up: it takes a lock.
func (s *Service) Class(name string) *Class {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearchFunc(s.classes, name, func(c *Class, name string) int { return cmp.Compare(c.name, name) })
	if found {
		return s.classes[i]
	}
	c := &Class{service: s, name: name}
	c.latency.of = c
	c.breaker.since = s.now()
	s.classes = slices.Insert(slices.Clone(s.classes), i, c) // A copy: all gives the old one away.
	s.limiter.add(&c.latency)
	return c
}

// methodKey names a method.
type methodKey struct{ class, method string }

// Method returns a method of a class, the same for the same names. It allocates
// only for a new one.
func (s *Service) Method(class, method string) *Method {
	key := methodKey{class, method}
	if known := s.methods.Load(); known != nil {
		if m := (*known)[key]; m != nil {
			return m
		}
	}
	c := s.Class(class)
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[methodKey]*Method{}
	if known := s.methods.Load(); known != nil {
		if m := (*known)[key]; m != nil {
			return m
		}
		maps.Copy(all, *known)
	}
	m := &Method{Class: c}
	m.latency.of = c
	all[key] = m
	s.methods.Store(&all)
	s.limiter.add(&m.latency)
	return m
}

// all returns the classes, ordered by name.
func (s *Service) all() []*Class {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.classes
}

// TryRetry takes one retry out of the budget, and says whether there was one. Ask it
// before every attempt but the first, and then AcquireAgain.
func (s *Service) TryRetry() bool { return s.budget.take(s.now(), &s.options.Load().Budget) }

// ReturnRetry gives a retry back that TryRetry granted and that was not sent: its caller
// went away, or it was refused. Otherwise callers who do that could use up all retries.
func (s *Service) ReturnRetry() { s.budget.giveBack(s.now()) }

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

// States says how the breakers are, ordered by class.
func (s *Service) States() []State {
	o, now := s.options.Load(), s.now()
	var out []State
	for _, c := range s.all() {
		state := State{Service: s.name, Variant: s.variant, Class: c.name, InFlight: int(s.limiter.inFlight.Load())}
		if !o.Concurrency.Off {
			state.Limit = int(s.limiter.limit.Load())
		}
		word, since := c.breaker.shown()
		state.State, state.Forced, state.Since = stateNames[c.breaker.looks(word, now)], forced(word), s.start.Add(since)
		total, failures := c.breaker.window.sum(now, o.Breaker.Window)
		state.Requests, state.Failures = int(total), int(failures)
		out = append(out, state)
	}
	return out
}

// Force holds the breaker of a class in a state: "closed" (calls whatever happens) or
// "open" (refuses), until "auto" lets it decide again, from closed. It fails for an
// unknown class or state.
func (s *Service) Force(class, state string) error {
	i := slices.IndexFunc(s.all(), func(c *Class) bool { return c.name == class })
	if i < 0 {
		return fmt.Errorf("service %q has no breaker of class %q", s.name, class)
	}
	c := s.all()[i]
	to, hold := uint64(closed), true
	switch state {
	case "closed":
	case "open":
		to = open
	case "auto":
		hold = false
	default:
		return fmt.Errorf("a breaker cannot be set to %q: closed, open or auto", state)
	}
	s.tell(s.options.Load(), c, c.breaker.force(to, hold, s.now()))
	return nil
}

// tell tells of a change of state, if it is one.
func (s *Service) tell(o *Options, c *Class, change step) {
	if change.from != change.to && o.OnChange != nil {
		o.OnChange(Change{Service: s.name, Variant: s.variant, Class: c.name, From: stateNames[change.from], To: stateNames[change.to]})
	}
}
