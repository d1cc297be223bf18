package limit

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Options make a Limiter.
type Options struct {
	Classes []Class
	// Address is what one address may send before anything else is known of it;
	// its Per is not looked at, its Burst is twice its Requests when zero. Nil
	// means no such limit.
	Address *Rate
	// Store keeps the budgets of the classes. It must not use what it was given
	// after it has answered.
	Store Store
	// Arrivals keeps the budgets of addresses: in memory by its type, for a flood
	// that has shown no credential must not reach what gateways share.
	Arrivals *Memory
	// InFlight counts the calls in flight. A Limiter that takes the place of
	// another is given the same, so that calls of the one before count on. Nil
	// means one of its own.
	InFlight *InFlight
	// Metrics is where sluice_limit_decisions_total is registered. Nil means
	// nowhere.
	Metrics prometheus.Registerer
}

// Limiter holds callers to the limit classes. It is safe for concurrent use, and
// does not change.
type Limiter struct {
	classes  map[string]*class
	store    Store
	arrivals *Memory
	address  *budget // Nil: off.
	inFlight *InFlight
	pool     sync.Pool // Of *scratch.
}

// New makes a Limiter, and says everything that is wrong with the options.
func New(o Options) (*Limiter, error) {
	count, err := decisions(o.Metrics)
	if err != nil {
		return nil, err
	}
	l := &Limiter{classes: map[string]*class{}, store: o.Store, arrivals: o.Arrivals, inFlight: o.InFlight}
	if l.inFlight == nil {
		l.inFlight = NewInFlight()
	}
	l.pool.New = func() any { return new(scratch) }
	var errs []error
	for _, c := range o.Classes {
		ready, err := newClass(c, count)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case l.classes[c.Name] != nil:
			errs = append(errs, fmt.Errorf("limit class %s is there twice", c.Name))
		case o.Store == nil && len(ready.budgets) > 0:
			errs = append(errs, fmt.Errorf("limit class %s has limits, and there is no store", c.Name))
		}
		l.classes[c.Name] = ready
	}
	if o.Address != nil {
		l.address, err = addressBudget(*o.Address, count)
		if err == nil && o.Arrivals == nil {
			err = errors.New("limit by address: there is no memory for it")
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, nil
}

// decisions registers the counter of decisions; a Limiter made anew goes on with
// the counter of the one before.
func decisions(r prometheus.Registerer) (func(limit string) counts, error) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_limit_decisions_total",
		Help: "Decisions of each limit: admitted, or refused by this very limit."}, []string{"limit", "outcome"})
	if r != nil {
		var there prometheus.AlreadyRegisteredError
		err := r.Register(vec)
		switch {
		case errors.As(err, &there):
			known, ok := there.ExistingCollector.(*prometheus.CounterVec)
			if !ok {
				return nil, err
			}
			vec = known
		case err != nil:
			return nil, err
		}
	}
	return func(limit string) counts {
		return counts{admitted: vec.WithLabelValues(limit, "admitted"), refused: vec.WithLabelValues(limit, "refused")}
	}, nil
}

func addressBudget(r Rate, count func(limit string) counts) (*budget, error) {
	r.Per = PerAddress
	if r.Burst == 0 {
		r.Burst = 2 * r.Requests
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("limit by address: %w", err)
	}
	b := rateBudget("", r, 0)
	b.name, b.ask.Key.Limit, b.ask.Cost = "address", "address", 1
	b.item, b.counts = `"address";r=`, count("address")
	return b, nil
}

// Knows says whether there is a class of this name.
func (l *Limiter) Knows(class string) bool { return l.classes[class] != nil }

// Class returns the class of this name as it was configured.
func (l *Limiter) Class(name string) (Class, bool) {
	c := l.classes[name]
	if c == nil {
		return Class{}, false
	}
	return c.Class, true
}

// Check says, for the start, what is wrong with a rule of this class and cost:
// there is no such class, or a budget of it could never hold the cost.
func (l *Limiter) Check(class string, cost int) error {
	c := l.classes[class]
	if c == nil {
		return fmt.Errorf("there is no limit class %q", class)
	}
	for _, b := range c.budgets {
		if int64(cost) > b.ask.Size {
			return fmt.Errorf("a cost of %d is more than limit class %s ever holds: %s", cost, class, b.words)
		}
	}
	return nil
}

// classOf is the class that holds the call: the rule's, or the one that stands
// in for it for this caller; nil when the rule has none. An error means that
// there is no such class, which the start should have found; an API key that was
// added since can still name one.
func (l *Limiter) classOf(c *policy.Call) (*class, error) {
	name := c.Method.Rule.LimitClass
	if name == "" {
		return nil, nil
	}
	if own := c.Principal.LimitClass; own != "" {
		name = own
	}
	if cls := l.classes[name]; cls != nil {
		return cls, nil
	}
	return nil, fmt.Errorf("there is no limit class %q", name)
}

// appendAddress appends what one customer is given: an IPv4 address, or the /64
// of an IPv6 address, however it is written. Callers without an address share
// one budget.
func appendAddress(out []byte, a netip.Addr) []byte {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid():
		return append(out, "unknown"...)
	case a.Is4():
		return a.AppendTo(out)
	}
	p, err := a.Prefix(64)
	if err != nil { // An IPv6 address has 128 bits.
		return append(out, "unknown"...)
	}
	return p.AppendTo(out)
}
