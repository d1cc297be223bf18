package resilience

import (
	"fmt"
	"testing"
	"time"
)

// served is a simulated service of the tables of docs/decisions/0027-knee.md.
type served struct {
	name     string
	capacity float64 // calls a second
	phase    phase
}

var servedBy = []served{
	{"10 workers of 100 ms", 100, phase{workers: 10, kinds: []kind{{share: 1, work: 100 * time.Millisecond, spread: exact}}}},
	{"10 workers of 100 ms, exponential", 100, phase{workers: 10, kinds: []kind{{share: 1, work: 100 * time.Millisecond, spread: exp}}}},
	{"sharing, 10 processors, 100 ms", 100, phase{workers: 10, sharing: true, kinds: []kind{{share: 1, work: 100 * time.Millisecond}}}},
	{"sharing, 2 processors, 20 ms exponential", 100, phase{workers: 2, sharing: true, kinds: []kind{{share: 1, work: 20 * time.Millisecond, spread: exp}}}},
	{"10 workers of 10 ms", 1000, phase{workers: 10, kinds: []kind{{share: 1, work: 10 * time.Millisecond}}}},
	{"1 worker of 100 ms", 10, phase{workers: 1, kinds: []kind{{share: 1, work: 100 * time.Millisecond, spread: exact}}}},
	{"1 ms, heavy tail", 2000, phase{workers: 2, kinds: []kind{{share: 1, work: time.Millisecond, spread: heavy}}}},
	{"1 ms, two kinds", 2000, phase{workers: 2, kinds: []kind{{share: 1, work: time.Millisecond, spread: twoKind}}}},
	{"1 ms, stands still for 60 ms a second", 2000 * 0.94, phase{workers: 2, stall: 60 * time.Millisecond, stallEvery: time.Second, kinds: []kind{{share: 1, work: time.Millisecond, spread: exp}}}},
	{"methods of 1 ms and 200 ms, 10 workers", 10 / 0.0209, phase{workers: 10, kinds: []kind{{share: 0.9, work: time.Millisecond}, {share: 0.1, work: 200 * time.Millisecond, class: 1}}}},
	{"100 workers of 50 ms", 2000, phase{workers: 100, kinds: []kind{{share: 1, work: 50 * time.Millisecond}}}},
}

func (s served) at(name string, x float64, lasts time.Duration, steady bool) phase {
	p := s.phase
	p.name, p.rate, p.lasts, p.steady = name, x*s.capacity, lasts, steady
	return p
}

func TestKneeTable(t *testing.T) {
	for _, s := range servedBy {
		lasts := 20 * time.Second
		if s.capacity > 1000 {
			lasts = 8 * time.Second
		}
		g, at := newOurs(t, Options{Breaker: BreakerOptions{Off: true}})
		rs := simulate(g, at.advance, s.at("even", 0.95, lasts, true), s.at("ten", 10, lasts, true), s.at("after", 0.9, lasts, false))
		g, at = newOurs(t, Options{Breaker: BreakerOptions{Off: true}})
		cold := simulate(g, at.advance, s.at("cold", 10, lasts, false))
		g, at = newOurs(t, Options{Breaker: BreakerOptions{Off: true}})
		ninety := simulate(g, at.advance, s.at("90%", 0.9, 4*lasts, false))
		fmt.Printf("%-42s even p50 %4d p99 %4d | 10x: good %5.1f%% p50 %4d p99 %4d (%4.1f) lim %3d | cold: %5.1f%% p99 %4d | after: refused %3d (2nd %d) | 90%%: refused %3d of %d, p99 %d most %d lim %d\n", s.name, rs[0].p50.Milliseconds(), rs[0].p99.Milliseconds(),
			100*rs[1].goodput()/s.capacity, rs[1].p50.Milliseconds(), rs[1].p99.Milliseconds(), float64(rs[1].p99)/float64(rs[0].p99), rs[1].limit,
			100*cold[0].goodput()/s.capacity, cold[0].p99.Milliseconds(), rs[2].refused, rs[2].refusedLate, ninety[0].refused, ninety[0].offered, ninety[0].p99.Milliseconds(), ninety[0].most, ninety[0].limit)
	}
}
