package balance

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// Policies.
const (
	// RoundRobin takes the backends in turn.
	RoundRobin = "round_robin"
	// LeastRequest draws two at random and takes the one with fewer calls in flight
	// for its weight (Mitzenmacher, "The power of two choices").
	LeastRequest = "least_request"
	// Weighted takes each in turn as often as its weight says.
	Weighted = "weighted"
)

// Options of a Group.
type Options struct {
	// Name is the target, in logs and metrics.
	Name string
	// Policy is one of the constants above; empty means RoundRobin.
	Policy string
	// SlowStart is how long the share of a backend that is new, or back, grows to its
	// whole; 0 means not at all.
	SlowStart time.Duration
	// Outlier says when a backend that fails is left out.
	Outlier resilience.OutlierOptions
	// Ready says that a new backend may be called at once; otherwise it must be Set
	// Ready first.
	Ready bool
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
	// Log gets ejections; nil means nobody.
	Log *slog.Logger
	// Metrics gets what Backends says; nil means nobody.
	Metrics *Metrics
}

// Group is the backends of a service, and C what a call of one needs: a connection, a
// URL. Safe for concurrent use. Pick takes no lock and allocates nothing.
type Group[C any] struct {
	o       Options
	outlier *resilience.Outlier // nil: none is left out
	turn    atomic.Uint64
	now     atomic.Pointer[candidates[C]]

	mu      sync.Mutex
	members map[string]*Member[C]
	order   []*Member[C] // by address, so that turns do not depend on a map
}

// Member is one backend. Addr and Conn do not change.
type Member[C any] struct {
	// Addr is as discovery says it.
	Addr string
	// Conn is what Update's open returned.
	Conn C

	group    *Group[C]
	inFlight atomic.Int64
	failing  atomic.Bool // A failure was reported, and no success since.

	// Under the group's mu.
	weight    int
	state     State
	lastErr   error
	since     time.Time // Its slow start.
	ejected   bool
	ejections uint64
}

// New returns a group without backends. An unknown policy is an error.
func New[C any](o Options) (*Group[C], error) {
	switch o.Policy {
	case "":
		o.Policy = RoundRobin
	case RoundRobin, LeastRequest, Weighted:
	default:
		return nil, fmt.Errorf("balancing.policy %q is unknown: use round_robin, least_request or weighted", o.Policy)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Group[C]{o: o, members: map[string]*Member[C]{}}
	if !o.Outlier.Off {
		g.outlier = resilience.NewOutlier(o.Outlier, o.Clock)
	}
	g.now.Store(&candidates[C]{})
	o.Metrics.add(g)
	return g, nil
}

// Close takes the group out of the metrics. Calls may still be Done.
func (g *Group[C]) Close() { g.o.Metrics.remove(g) }

// Update sets which backends there are, and returns what the ones that are gone had:
// their calls go on, and are Done as ever. What is known of those that stay is kept.
// open is asked for what calls of a new one need (m.Conn), with the group's lock held:
// it may not call the group. Of two backends with one address the first counts.
func (g *Group[C]) Update(backends []discovery.Backend, open func(m *Member[C], b discovery.Backend) C) (gone []C) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, now := g.members, g.o.Clock()
	g.members, g.order = make(map[string]*Member[C], len(backends)), g.order[:0:0]
	ids := make([]string, 0, len(backends))
	for _, b := range backends {
		if g.members[b.Addr] != nil {
			continue
		}
		m := old[b.Addr]
		if m == nil {
			m = &Member[C]{Addr: b.Addr, group: g, since: now}
			m.Conn = open(m, b)
			if g.o.Ready {
				m.state = Ready
			}
		}
		m.weight = max(b.Weight, 1)
		g.members[b.Addr], g.order, ids = m, append(g.order, m), append(ids, b.Addr)
	}
	for addr, m := range old {
		if g.members[addr] == nil {
			gone = append(gone, m.Conn)
		}
	}
	slices.SortFunc(g.order, func(a, b *Member[C]) int { return strings.Compare(a.Addr, b.Addr) })
	if g.outlier != nil {
		g.outlier.Update(ids)
	}
	g.rebuild()
	return gone
}

// Set says how a backend is; an unknown address is ignored. err is why it is not
// Ready. One that is Ready after having been Failed or Unhealthy begins slowly.
func (g *Group[C]) Set(addr string, s State, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[addr]
	if m == nil {
		return
	}
	if s == Ready && (m.state == Failed || m.state == Unhealthy || m.lastErr != nil) {
		m.since = g.o.Clock()
	}
	if s == Ready {
		m.lastErr = nil
	} else if err != nil {
		m.lastErr = err
	}
	if m.state != s {
		m.state = s
		g.rebuild()
	}
}

// Pick chooses a backend and counts a call of it, which must be Done. Nil means that
// there is none to call. p may be nil.
func (g *Group[C]) Pick(p *Pick) *Member[C] {
	s := g.now.Load()
	if s.changeAt != 0 && g.o.Clock().UnixNano() >= s.changeAt {
		s = g.refresh()
	}
	n := len(s.members)
	if n == 0 {
		return nil
	}
	i := 0
	if n > 1 {
		if g.o.Policy == LeastRequest {
			i = s.lesser()
		} else {
			i = s.next(&g.turn)
		}
	}
	if p != nil {
		if n > 1 && p.Avoid == s.members[i].Addr {
			i = s.other(i)
		}
		p.Chosen = s.members[i].Addr
	}
	m := s.members[i]
	m.inFlight.Add(1)
	return m
}

// Done ends a call that Pick counted, and tells what came of it.
func (m *Member[C]) Done(o resilience.Outcome) {
	m.inFlight.Add(-1)
	g := m.group
	if g.outlier == nil {
		return
	}
	switch o {
	case resilience.Success:
		// Only failures in a row count: a success matters after one. One of a call
		// from before an ejection says nothing of what is after it.
		if m.failing.Load() && !g.outlier.Ejected(m.Addr) {
			m.failing.Store(false)
			g.outlier.Report(m.Addr, true)
		}
	case resilience.Failure, resilience.Overload:
		if g.outlier.Report(m.Addr, false) {
			g.eject(m)
		}
		m.failing.Store(true) // After the report, so that no success is lost that follows it.
	case resilience.Ignored:
	}
}

func (g *Group[C]) eject(m *Member[C]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.ejections++
	g.o.Metrics.ejected(g.o.Name)
	g.o.Log.Warn("a backend fails and is left out", "target", g.o.Name, "backend", m.Addr, "times", m.ejections)
	g.rebuild()
}

// refresh follows the time, where a call finds that it is due. Of calls at once one
// does it; the others use what there is.
func (g *Group[C]) refresh() *candidates[C] {
	if g.mu.TryLock() {
		g.rebuild()
		g.mu.Unlock()
	}
	return g.now.Load()
}

func (g *Group[C]) target() string { return g.o.Name }
