package resilience

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	type step struct {
		wait          time.Duration
		firsts        int
		asks, granted int
	}
	for _, c := range []struct {
		name    string
		options BudgetOptions
		steps   []step
	}{
		{"the floor is pooled", BudgetOptions{}, []step{{asks: 15, granted: 10}, {wait: 5 * time.Second, asks: 5}, {wait: 6 * time.Second, asks: 15, granted: 10}}},
		{"a fifth of the first attempts", BudgetOptions{}, []step{{firsts: 1000, asks: 1000, granted: 210}, {wait: 9 * time.Second, asks: 1}}},
		{"first attempts that are old earn nothing", BudgetOptions{}, []step{{firsts: 1000}, {wait: 11 * time.Second, asks: 100, granted: 10}}},
		{"other figures", BudgetOptions{Percent: 50, MinPerSecond: 3}, []step{{firsts: 100, asks: 200, granted: 80}}},
		{"a hundred percent", BudgetOptions{Percent: 100, MinPerSecond: 1}, []step{{firsts: 100, asks: 200, granted: 110}}},
		{"off", BudgetOptions{Off: true}, []step{{firsts: 100, asks: 10}}},
		{"spent as it is earned", BudgetOptions{}, []step{{firsts: 100, asks: 30, granted: 30}, {wait: time.Second, firsts: 100, asks: 30, granted: 20}, {wait: 9500 * time.Millisecond, firsts: 50, asks: 30, granted: 20}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, at := newOurs(t, Options{Budget: c.options, Concurrency: ConcurrencyOptions{Off: true}})
			for i, s := range c.steps {
				at.advance(s.wait)
				for range s.firsts {
					done, _ := g.enter(Whole)
					done(Success)
				}
				granted := 0
				for range s.asks {
					if g.service.TryRetry() {
						granted++
						// A retry earns nothing.
						p, err := g.class[0].AcquireAgain(Whole)
						if err != nil {
							t.Fatal(err)
						}
						p.Done(Success)
					}
				}
				if granted != s.granted {
					t.Errorf("step %d: %d granted, not %d", i+1, granted, s.granted)
				}
			}
		})
	}
}

func TestWait(t *testing.T) {
	most := func(n int64) int64 { return n - 1 }
	base, end := 25*time.Millisecond, 250*time.Millisecond
	for n, want := range map[int]time.Duration{-1: base, 0: base, 1: base, 2: 2 * base, 3: 4 * base, 4: 8 * base, 5: end, 6: end, 60: end, 1 << 40: end} {
		if got := Wait(n, base, end, most); got != want {
			t.Errorf("attempt %d: %v, not %v", n, got, want)
		}
		if got := Wait(n, base, end, func(int64) int64 { return 0 }); got != 0 {
			t.Errorf("attempt %d: at least %v", n, got)
		}
	}
	if got := Wait(1, 0, 0, most); got != 0 {
		t.Errorf("no wait is %v", got)
	}
	if got := Wait(1, time.Second, time.Millisecond, most); got != time.Millisecond {
		t.Errorf("a base above the most is %v", got)
	}
	if got := Wait(1<<40, 1, 7, most); got != 7 {
		t.Errorf("the most is %v", got)
	}
	if got := Wait(3, time.Hour*24*365*100, 1<<62, most); got <= 0 {
		t.Errorf("a long wait is %v", got)
	}
}
