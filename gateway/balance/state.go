package balance

import "time"

// State is how a backend is.
type State uint8

// States.
const (
	// Connecting is on its way to Ready.
	Connecting State = iota
	// Ready may be called.
	Ready
	// Failed cannot be reached, and is never called.
	Failed
	// Unhealthy can be reached, and says that it does not serve, or fails its checks.
	// It is called where nobody is well.
	Unhealthy
)

// Names of what BackendState.State says.
const (
	StateConnecting = "connecting"
	StateReady      = "ready"
	StateSlowStart  = "slow_start"
	StateEjected    = "ejected"
	StateUnhealthy  = "unhealthy"
	StateFailed     = "failed"
)

var states = [...]string{StateConnecting, StateReady, StateSlowStart, StateEjected, StateUnhealthy, StateFailed}

// BackendState is a backend as the admin page shows it.
type BackendState struct {
	// Addr is as discovery says it.
	Addr string
	// Weight is as configured or discovered.
	Weight int
	// State is one of the names above.
	State string
	// InFlight is how many calls have not been answered.
	InFlight int64
	// Ejections is how often it was left out.
	Ejections uint64
	// EjectedUntil is zero where it is not.
	EjectedUntil time.Time
	// LastError is why it is not ready; empty means that it is, or that nothing is known.
	LastError string
}

// Backends says how all are, by address.
func (g *Group[C]) Backends() []BackendState {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rebuild() // What time has changed.
	now, out := g.o.Clock(), make([]BackendState, 0, len(g.order))
	until := map[string]time.Time{}
	if g.outlier != nil {
		for _, b := range g.outlier.Backends() {
			until[b.ID] = b.EjectedUntil
		}
	}
	for _, m := range g.order {
		b := BackendState{Addr: m.Addr, Weight: m.weight, State: g.name(m, now), InFlight: m.inFlight.Load(), Ejections: m.ejections}
		if m.ejected {
			b.EjectedUntil = until[m.Addr]
		}
		if m.lastErr != nil {
			b.LastError = m.lastErr.Error()
		}
		out = append(out, b)
	}
	return out
}

func (g *Group[C]) name(m *Member[C], now time.Time) string {
	switch {
	case m.state == Connecting:
		return StateConnecting
	case m.state == Failed:
		return StateFailed
	case m.state == Unhealthy:
		return StateUnhealthy
	case m.ejected:
		return StateEjected
	case now.Sub(m.since) < g.o.SlowStart:
		return StateSlowStart
	}
	return StateReady
}

// Panics says whether nobody is well, so that all that can be reached are called.
func (g *Group[C]) Panics() bool { return g.now.Load().panic }
