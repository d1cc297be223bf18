package limit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

func BenchmarkMemoryHit(b *testing.B) {
	for _, n := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("asks=%d", n), func(b *testing.B) {
			m := NewMemory(MemoryOptions{})
			var asks []Ask
			for i := range n {
				asks = append(asks, Ask{Key: Key{"read/principal/" + strconv.Itoa(i), "user-1"}, Cost: 1, Size: 1e9, Emission: 1})
			}
			answers := make([]Answer, n)
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := m.Take(context.Background(), asks, answers); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// Each goroutine is a caller of its own, and all share the global budget.
func BenchmarkMemoryParallel(b *testing.B) {
	m := NewMemory(MemoryOptions{})
	var callers atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		asks := []Ask{
			{Key: Key{"read/principal/0", strconv.FormatInt(callers.Add(1), 10)}, Cost: 1, Size: 1e9, Emission: 1},
			{Key: Key{"read/global/0", ""}, Cost: 1, Size: 1e9, Emission: 1},
		}
		answers := make([]Answer, len(asks))
		for pb.Next() {
			if ok, err := m.Take(context.Background(), asks, answers); !ok || err != nil {
				b.Error(ok, err)
			}
		}
	})
}

// One call of a random caller of few or of a million. The caller's name is made
// on the spot: in a request it is warm too, and a million strings would be
// measured instead of the table.
func BenchmarkMillionKeys(b *testing.B) {
	for _, tc := range []struct {
		name string
		live int
	}{{"before", 1000}, {"after", million}} {
		b.Run(tc.name, func(b *testing.B) {
			m := NewMemory(MemoryOptions{})
			ask := Ask{Key: Key{Limit: "read/principal/0"}, Cost: 1, Size: 1e6, Emission: time.Hour}
			var buf [32]byte
			call := func(i int) {
				if a := m.takeAddress(&ask, strconv.AppendInt(append(buf[:0], "user-"...), int64(i), 10)); !a.OK {
					b.Fatal(a)
				}
			}
			for i := range tc.live {
				call(i)
			}
			rnd := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				call(rnd.IntN(tc.live))
			}
		})
	}
}

func benchCall(p *policy.Principal) *policy.Call {
	return &policy.Call{
		Method:    &policy.Method{FullName: "/t.v1.T/M", Rule: policy.Rule{LimitClass: "read", LimitCost: 1}},
		Principal: p, Client: netip.MustParseAddr("2001:db8::1"),
		Annotate: func(string, string) {},
	}
}

func BenchmarkRatesCheck(b *testing.B) {
	l := newLimiter(b, Options{Store: NewLocal(NewMemory(MemoryOptions{}), nil), Classes: []Class{{Name: "read",
		Rates: []Rate{{Per: PerPrincipal, Requests: 1e9}, {Per: PerGlobal, Requests: 1e9}}}}})
	for name, p := range map[string]*policy.Principal{"known": known("3f0c1e52-ada"), "anonymous": policy.Anonymous} {
		b.Run(name, func(b *testing.B) {
			c := benchCall(p)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Rates(context.Background(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("silent", func(b *testing.B) {
		c := benchCall(known("ada"))
		c.Annotate = nil
		b.ReportAllocs()
		for b.Loop() {
			if _, err := l.Rates(context.Background(), c); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRatesRefused(b *testing.B) {
	l := newLimiter(b, Options{Store: NewLocal(NewMemory(MemoryOptions{}), nil), Classes: []Class{{Name: "read",
		Rates: []Rate{{Per: PerPrincipal, Requests: 1, Interval: time.Hour}, {Per: PerGlobal, Requests: 1e9}}}}})
	c := benchCall(known("ada"))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = l.Rates(context.Background(), c)
	}
}

func BenchmarkArrival(b *testing.B) {
	for name, r := range map[string]Rate{"admitted": {Requests: 1e9}, "refused": {Requests: 1, Interval: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			l := newLimiter(b, Options{Address: &r, Arrivals: NewMemory(MemoryOptions{})})
			c := benchCall(policy.Anonymous)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = l.Arrival(context.Background(), c)
			}
		})
	}
}

func BenchmarkInFlight(b *testing.B) {
	l := newLimiter(b, Options{Classes: []Class{{Name: "read", MaxInFlightPerCaller: 9, MaxInFlightPerMethod: 9}}})
	c := benchCall(known("ada"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.InFlight(context.Background(), c); err != nil {
			b.Fatal(err)
		}
		c.Done(nil)
	}
}

// The admit path makes one string, the RateLimit field's value; without it,
// nothing.
func TestAllocations(t *testing.T) {
	l := newLimiter(t, Options{
		Store:   NewLocal(NewMemory(MemoryOptions{MaxKeys: 1024}), nil),
		Address: &Rate{Requests: 1e9}, Arrivals: NewMemory(MemoryOptions{MaxKeys: 1024}),
		Classes: []Class{{Name: "read", Rates: []Rate{{Per: PerPrincipal, Requests: 1e9}, {Per: PerGlobal, Requests: 1e9}}}},
	})
	c := benchCall(known("ada"))
	silent := benchCall(known("ada"))
	silent.Annotate = nil
	for name, tc := range map[string]struct {
		check policy.Check
		call  *policy.Call
		want  float64
	}{"rates": {l.Rates, c, 1}, "rates, silent": {l.Rates, silent, 0}, "arrival": {l.Arrival, c, 0}} {
		if got := testing.AllocsPerRun(1000, func() { _, _ = tc.check(context.Background(), tc.call) }); got > tc.want {
			t.Errorf("%s: %v allocations, want %v", name, got, tc.want)
		}
	}
}
