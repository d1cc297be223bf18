package resilience

import (
	"testing"
	"time"
)

// FuzzService takes bytes for calls, results, time and settings in any order, and holds
// what must be true after each.
func FuzzService(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x08\x09\x0a\x0b"))
	f.Add([]byte{0, 9, 0, 9, 0, 9, 0, 9, 0, 9, 255, 0, 0, 0, 0, 8, 8, 255, 0, 9, 7, 7, 7, 7})
	f.Add([]byte{5, 0, 16, 32, 4, 4, 4, 200, 6, 1, 2, 3, 10, 11, 26, 27, 42, 43, 7, 23, 39})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 4000 {
			t.Skip("long enough is enough")
		}
		o := Options{Breaker: BreakerOptions{MinRequests: 3, Probes: 2, Successes: 2, OpenFor: time.Second},
			Concurrency: ConcurrencyOptions{Min: 4, Max: 16, Initial: 8}, Budget: BudgetOptions{Percent: 20, MinPerSecond: 1}}
		g, at := newOurs(t, o, "read", "write")
		m := &model{start: at.at}
		for _, b := range steps {
			m.step(t, g, at, b, o)
			m.hold(t, g, at)
		}
	})
}

// model is what the fuzz target knows of the calls.
type model struct {
	start           time.Time
	held            []Permit
	firsts, retries []time.Time
}

func (m *model) step(t *testing.T, g *ours, at *clock, b byte, o Options) {
	c := g.class[b>>4&1]
	switch kind, arg := b&15, int(b>>5); {
	case b >= 0xf0:
		at.advance(time.Duration(b-0xef) * 700 * time.Millisecond)
	case kind < 4:
		if p, r := rejected(t, c, Priority(kind&1)); r.Reason == "" {
			m.held, m.firsts = append(m.held, p), append(m.firsts, at.at)
		} else if r.RetryAfter < time.Second {
			t.Fatalf("%+v", r)
		}
	case kind == 4:
		g.service.Update(Options{Breaker: BreakerOptions{Off: arg&1 == 1, Probes: 1 + arg&1}, Concurrency: o.Concurrency, Budget: o.Budget})
	case kind == 5:
		g.service.Update(o)
	case kind == 6:
		_ = g.service.Force(c.name, []string{"open", "closed", "auto"}[arg%3])
	case kind == 7:
		if g.service.TryRetry() {
			m.retries = append(m.retries, at.at)
			if p, err := c.AcquireAgain(Whole); err == nil {
				m.held = append(m.held, p)
			}
		}
	case len(m.held) > 0:
		i := arg % len(m.held)
		m.held[i].Done(Outcome(kind & 3))
		m.held = append(m.held[:i], m.held[i+1:]...)
	}
}

func since(times []time.Time, t time.Time) (n int) {
	for _, at := range times {
		if at.After(t) {
			n++
		}
	}
	return n
}

func (m *model) hold(t *testing.T, g *ours, at *clock) {
	t.Helper()
	s := g.service
	if n := s.limiter.inFlight.Load(); n != int64(len(m.held)) {
		t.Fatalf("%d in flight, and %d permits are out", n, len(m.held))
	}
	if n := g.limit(); n < 4 || n > 16 || len(m.held) > 16 {
		t.Fatalf("the bound is %d, with %d in flight", n, len(m.held))
	}
	for _, c := range g.class {
		if n := len(c.breaker.probes); n > 2 || n > 0 && stateOf(c.breaker.word.Load()) != halfOpen {
			t.Fatalf("%d probes", n)
		}
	}
	// A window is of whole tenths: between 9 and 10 s.
	if n, most := since(m.retries, at.at.Add(-9*time.Second)), since(m.firsts, at.at.Add(-10*time.Second))/5+10; n > most {
		// What first attempts earned may have left the window after it was spent.
		if all := len(m.firsts)/5 + 10; n > all {
			t.Fatalf("%d retries, and no more than %d (%d in the window)", n, all, most)
		}
	}
	for _, state := range s.States() {
		if state.Requests < state.Failures || state.Failures < 0 {
			t.Fatalf("%+v", state)
		}
	}
}
