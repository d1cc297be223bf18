package limit

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestMemoryRefusesWhatItCannotKeep(t *testing.T) {
	m := NewMemory(MemoryOptions{MaxKeys: 64})
	good := Ask{Key: Key{Limit: "l"}, Cost: 1, Size: 1, Emission: 1}
	for name, tc := range map[string]struct {
		asks    []Ask
		answers int
		want    string
	}{
		"a quota":          {[]Ask{{Key: Key{Limit: "l"}, Cost: 1, Size: 1, Emission: 1, Period: Day}}, 1, "rates only"},
		"no cost":          {[]Ask{{Size: 1, Emission: 1}}, 1, "must be positive"},
		"a negative cost":  {[]Ask{{Cost: -1, Size: 1, Emission: 1}}, 1, "must be positive"},
		"no size":          {[]Ask{{Cost: 1, Emission: 1}}, 1, "must be positive"},
		"no emission":      {[]Ask{{Cost: 1, Size: 1}}, 1, "must be positive"},
		"too few answers":  {[]Ask{good}, 0, "0 answers to 1 asks"},
		"one budget twice": {[]Ask{good, good}, 2, "asked twice"},
		"bad after a good": {[]Ask{good, {}}, 2, "must be positive"},
		"quota after":      {[]Ask{good, {Key: Key{Limit: "q"}, Cost: 1, Size: 1, Period: Month}}, 2, "rates only"},
	} {
		t.Run(name, func(t *testing.T) {
			ok, err := m.Take(context.Background(), tc.asks, make([]Answer, tc.answers))
			if ok || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, %v; want an error that says %q", ok, err, tc.want)
			}
		})
	}
	if n := m.keys(); n != 0 {
		t.Errorf("%d budgets were touched", n)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// Goroutines fight for the same budgets while the clock stands still, so that
// what may be admitted is known to the token.
func TestConcurrentTakesAreExact(t *testing.T) {
	const workers, size = 8, 500
	clock := &fakeClock{}
	m := NewMemory(MemoryOptions{MaxKeys: 1 << 12, Now: clock.now})
	fight := func() (admitted int64) {
		var total atomic.Int64
		var wg sync.WaitGroup
		for w := range workers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				asks := []Ask{
					{Key: Key{"own", strconv.Itoa(w)}, Cost: 1, Size: size, Emission: time.Second},
					{Key: Key{"all", ""}, Cost: 1, Size: size, Emission: time.Second},
					{Key: Key{"half", strconv.Itoa(w / 4)}, Cost: 2, Size: 4 * size, Emission: time.Second},
				}
				answers := make([]Answer, len(asks))
				for i := range size {
					asks[0], asks[i%3] = asks[i%3], asks[0] // Another order each time.
					if ok, err := m.Take(context.Background(), asks, answers); err != nil {
						t.Error(err)
					} else if ok {
						total.Add(1)
					}
				}
			}()
		}
		wg.Wait()
		return total.Load()
	}
	if n := fight(); n != size {
		t.Fatalf("%d admitted, the budget is %d", n, size)
	}
	// What was refused left no trace: the other budgets gave exactly as much.
	var own, half int64
	for w := range workers {
		own += size - take(t, m, Ask{Key: Key{"own", strconv.Itoa(w)}, Cost: size + 1, Size: size, Emission: time.Second}).Remaining
	}
	for h := range 2 {
		half += 4*size - take(t, m, Ask{Key: Key{"half", strconv.Itoa(h)}, Cost: 4*size + 1, Size: 4 * size, Emission: time.Second}).Remaining
	}
	if own != size || half != 2*size {
		t.Errorf("the budgets beside gave %d and %d tokens, want %d and %d", own, half, size, 2*size)
	}
	for _, idle := range []time.Duration{37, 1, 0} {
		clock.advance(idle * time.Second)
		if n := fight(); n != int64(idle) {
			t.Errorf("%d admitted after %d emissions", n, idle)
		}
	}
}

func TestRealClockNeverAdmitsMore(t *testing.T) {
	const size, emission = 50, 100 * time.Microsecond
	m := NewMemory(MemoryOptions{MaxKeys: 64})
	var admitted atomic.Int64
	start := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			answers := []Answer{{}}
			for time.Since(start) < 50*time.Millisecond {
				if ok, _ := m.Take(context.Background(), []Ask{{Cost: 1, Size: size, Emission: emission}}, answers); ok {
					admitted.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	most := size + int64(time.Since(start)/emission)
	if n := admitted.Load(); n > most || n < size {
		t.Errorf("%d admitted, at most %d and at least %d may be", n, most, size)
	}
}

func TestFlood(t *testing.T) {
	const maxKeys = 1 << 14
	clock := &fakeClock{}
	reg := prometheus.NewPedanticRegistry()
	m := NewMemory(MemoryOptions{MaxKeys: maxKeys, Now: clock.now, Metrics: reg})
	// Nothing comes back within the test. The heavy users' limit is a thousand
	// times faster than that of the flood: what counts is the part they used.
	heavy := func(i int) Ask {
		return Ask{Key: Key{"fast", "heavy" + strconv.Itoa(i)}, Cost: 1, Size: 100, Emission: time.Second}
	}
	const heavies = 200
	for i := range heavies {
		a := heavy(i)
		a.Cost = 90
		take(t, m, a)
	}
	for i := range 10 * maxKeys {
		a := take(t, m, Ask{Key: Key{"slow", strconv.Itoa(i)}, Cost: 1, Size: 10, Emission: 1000 * time.Second})
		if !a.OK || a.Remaining != 9 {
			t.Fatalf("newcomer %d: %+v", i, a)
		}
	}
	if n := m.keys(); n > maxKeys || n < maxKeys*9/10 {
		t.Errorf("%d budgets are remembered, the bound is %d", n, maxKeys)
	}
	for i := range heavies {
		if a := take(t, m, heavy(i)); a.Remaining != 9 {
			t.Errorf("heavy user %d has %d left, want 9", i, a.Remaining)
		}
	}
	evicted := metric(t, reg, "sluice_limit_evicted_total")
	if evicted < 9*maxKeys || evicted > 10*maxKeys+heavies {
		t.Errorf("%v evictions", evicted)
	}
	if n := metric(t, reg, "sluice_limit_keys"); int(n) != m.keys() {
		t.Errorf("the metric says %v budgets, there are %d", n, m.keys())
	}

	// Full budgets say nothing: their places are free, and nobody is evicted.
	clock.advance(24 * time.Hour)
	if n := m.keys(); n != 0 {
		t.Errorf("%d budgets are remembered after all are full", n)
	}
	for i := range maxKeys / 2 {
		take(t, m, Ask{Key: Key{"late", strconv.Itoa(i)}, Cost: 1, Size: 10, Emission: time.Second})
	}
	if n := metric(t, reg, "sluice_limit_evicted_total") - evicted; n > 0.001*maxKeys {
		t.Errorf("%v evictions from a table that is half full", n)
	}
}

func TestBound(t *testing.T) {
	for _, keys := range []int{1, 16, 17, 100, 1000, 1 << 16, 1e6, 1 << 20} {
		tb := newTable(keys)
		if n := tb.places(); n > max(keys, 16) || n < keys*9/10 {
			t.Errorf("%d keys: %d places", keys, n)
		}
	}
	m := NewMemory(MemoryOptions{MaxKeys: 1, Now: (&fakeClock{}).now})
	for i := range 1000 {
		if a := take(t, m, Ask{Key: Key{Who: strconv.Itoa(i)}, Cost: 1, Size: 2, Emission: time.Hour}); !a.OK {
			t.Fatal("a newcomer is locked out of a tiny table")
		}
	}
	if n := m.keys(); n != 16 {
		t.Errorf("%d budgets are remembered", n)
	}
}

func TestLiveOfALargeTableIsAnEstimate(t *testing.T) {
	m := NewMemory(MemoryOptions{MaxKeys: 1 << 22, Now: (&fakeClock{}).now})
	const n = 200000
	for i := range n {
		take(t, m, Ask{Key: Key{Who: strconv.Itoa(i)}, Cost: 1, Size: 2, Emission: time.Hour})
	}
	if got := m.keys(); got < n*97/100 || got > n*103/100 {
		t.Errorf("estimated %d of %d", got, n)
	}
}

func TestWindowCode(t *testing.T) {
	for w := int64(4); w < maxWindow; w += 1 + w/7 {
		got := codedWindow(windowCode(w))
		if got > w || got < w-w/4 {
			t.Fatalf("window %d became %d", w, got)
		}
	}
	for _, w := range []int64{0, 1, 3, maxWindow} {
		if got := codedWindow(windowCode(w)); got != max(w, 4) {
			t.Errorf("window %d became %d", w, got)
		}
	}
}

func TestGiveBack(t *testing.T) {
	clock := &fakeClock{}
	m := NewMemory(MemoryOptions{MaxKeys: 64, Now: clock.now})
	ask := func(who string, cost int64) []Ask {
		return []Ask{{Key: Key{"l", who}, Cost: cost, Size: 10, Emission: time.Second}}
	}
	for i, tc := range []struct {
		before     int64         // Taken before, by others.
		between    int64         // Taken while the call waits.
		wait       time.Duration // How long it waits for its refusal.
		beforeThat time.Duration // How much of it passes before the others' take.
		want       int64         // Left in the end.
	}{
		{want: 10},
		{before: 4, want: 6},
		{before: 4, between: 3, want: 3},
		{before: 4, between: 3, wait: time.Second, want: 4},
		{before: 7, wait: 8 * time.Second, want: 10},
		// Some of the 3, or all, has come back by itself before others took 4: only
		// the rest is given back, and what they took stays taken.
		{between: 4, beforeThat: 3 * time.Second, wait: 0, want: 6},
		{between: 4, beforeThat: 5 * time.Second, wait: 0, want: 6},
		{between: 4, beforeThat: 2 * time.Second, wait: 0, want: 6},
	} {
		who := strconv.Itoa(i)
		if tc.before > 0 {
			take(t, m, ask(who, tc.before)[0])
		}
		answers := []Answer{{}}
		at, ok, err := m.take(ask(who, 3), answers)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		clock.advance(tc.beforeThat)
		if tc.between > 0 {
			take(t, m, ask(who, tc.between)[0])
		}
		clock.advance(tc.wait)
		m.giveBack(ask(who, 3), answers, at)
		left := take(t, m, ask(who, 11)[0]).Remaining
		if left != tc.want || answers[0].Remaining != tc.want || !answers[0].OK {
			t.Errorf("case %d: %d left, answered %+v; want %d", i, left, answers[0], tc.want)
		}
	}
}
