package balance

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// candidates are the members that may be picked now. They do not change: what changes
// is replaced as a whole.
type candidates[C any] struct {
	members []*Member[C]
	// shares are the members' weights, the largest being whole; sums are what stands
	// before and with each, and nil where all are equal.
	shares []uint32
	sums   []uint32
	// changeAt is when time alone changes something, in Unix nanoseconds; 0 is never.
	changeAt int64
	// panic says that nobody is well, so that all that can be reached are candidates.
	panic bool
}

const (
	// whole is the largest share. It is small enough for products and sums.
	whole = 1 << 12
	// leastRamp is what a backend gets at once, of its weight, so that its slow start
	// begins (Envoy's min_weight_percent).
	leastRamp = 0.1
	// rampSteps is how often the share of a slow start is counted anew.
	rampSteps = 50
)

// rebuild follows a change. The group's mu is held.
func (g *Group[C]) rebuild() {
	now := g.o.Clock()
	s := &candidates[C]{}
	if g.outlier != nil {
		g.ejections(now, s)
	}
	for _, m := range g.order {
		if m.state == Ready && !m.ejected {
			s.members = append(s.members, m)
		}
	}
	if len(s.members) == 0 {
		// Nobody is well. To call some who may be is better than to call nobody.
		for _, m := range g.order {
			if m.state == Ready || m.state == Unhealthy {
				s.members, s.panic = append(s.members, m), true
			}
		}
	}
	g.share(now, s)
	g.now.Store(s)
}

// ejections reads who is left out, and until when. A backend that is back begins slowly.
func (g *Group[C]) ejections(now time.Time, s *candidates[C]) {
	for _, b := range g.outlier.Backends() {
		m := g.members[b.ID]
		if m == nil {
			continue
		}
		out := b.EjectedUntil.After(now)
		if m.ejected && !out {
			m.since = now
		}
		if m.ejected = out; out {
			s.changeBy(b.EjectedUntil)
		}
	}
}

func (s *candidates[C]) changeBy(t time.Time) {
	if at := t.UnixNano(); s.changeAt == 0 || at < s.changeAt {
		s.changeAt = at
	}
}

// share sets the members' shares.
func (g *Group[C]) share(now time.Time, s *candidates[C]) {
	weights, most, equal := make([]float64, len(s.members)), 0.0, true
	for i, m := range s.members {
		weights[i] = 1
		if g.o.Policy != RoundRobin {
			weights[i] = float64(m.weight)
		}
		if age := now.Sub(m.since); age < g.o.SlowStart && !s.panic {
			weights[i] *= max(leastRamp, float64(age)/float64(g.o.SlowStart))
			s.changeBy(now.Add(g.o.SlowStart / rampSteps))
		}
		most = max(most, weights[i])
		equal = equal && weights[i] == weights[0]
	}
	if equal {
		return
	}
	s.shares, s.sums = make([]uint32, len(weights)), make([]uint32, len(weights))
	var sum uint32
	for i, w := range weights {
		s.shares[i] = max(uint32(w/most*whole), 1)
		sum += s.shares[i]
		s.sums[i] = sum
	}
}

// next takes the members in turn; one with a smaller share is passed over in some
// rounds. In round r a member has had r times its share: it is its turn where that
// reaches the next whole (the static stride schedule of gRPC's weighted_round_robin).
// One with the largest share has its turn in every round, so that this ends soon.
func (s *candidates[C]) next(turn *atomic.Uint64) int {
	n := uint64(len(s.members))
	for {
		t := turn.Add(1) - 1
		i := t % n
		if s.shares == nil {
			return int(i) //nolint:gosec // Less than the length of a slice.
		}
		share := uint64(s.shares[i])
		had := t/n*share + i*whole/2 // Half a whole apart, so that rounds differ.
		if had/whole != (had+share)/whole {
			return int(i) //nolint:gosec // As above.
		}
	}
}

// lesser draws two by their shares and takes the one with fewer calls in flight for
// its share, or the first.
func (s *candidates[C]) lesser() int {
	i := s.draw()
	j := s.draw()
	if i == j {
		j = s.other(i)
	}
	a, b := s.members[i].inFlight.Load(), s.members[j].inFlight.Load()
	if s.shares != nil {
		a, b = a*int64(s.shares[j]), b*int64(s.shares[i])
	}
	if b < a {
		return j
	}
	return i
}

func (s *candidates[C]) draw() int {
	if s.sums == nil {
		return rand.IntN(len(s.members)) //nolint:gosec // Chance, not secrecy.
	}
	at := rand.Uint32N(s.sums[len(s.sums)-1]) //nolint:gosec // As above.
	i, _ := slices.BinarySearch(s.sums, at+1)
	return i
}

// other is any but the i-th.
func (s *candidates[C]) other(i int) int {
	n := len(s.members)
	return (i + 1 + rand.IntN(n-1)) % n //nolint:gosec // As above.
}
