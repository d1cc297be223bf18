package ledger_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
	"github.com/sluice-gateway/sluice/tools/effort"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(childFile); file != "" {
		child(file)
		return
	}
	goleak.VerifyTestMain(m)
}

// clock is a clock that tests set.
type clock struct{ ns atomic.Int64 }

func newClock(at string) *clock {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		panic(err)
	}
	c := &clock{}
	c.ns.Store(t.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func open(t testing.TB, o ledger.Options) *ledger.Ledger {
	t.Helper()
	if o.File == "" {
		o.File = filepath.Join(t.TempDir(), "quotas.db")
	}
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func day(who string, cost, size int64) limit.Ask {
	return limit.Ask{Key: limit.Key{Limit: "read/principal/0", Who: who}, Cost: cost, Size: size, Period: limit.Day}
}

func month(who string, cost, size int64) limit.Ask {
	return limit.Ask{Key: limit.Key{Limit: "read/principal/1", Who: who}, Cost: cost, Size: size, Period: limit.Month}
}

func take(t testing.TB, l limit.Store, asks ...limit.Ask) (bool, []limit.Answer) {
	t.Helper()
	answers := make([]limit.Answer, len(asks))
	ok, err := l.Take(t.Context(), asks, answers)
	if err != nil {
		t.Fatal(err)
	}
	return ok, answers
}

// drain takes until it is refused, and returns how much was admitted.
func drain(t testing.TB, l limit.Store, ask limit.Ask) (n int64) {
	t.Helper()
	for {
		ok, answers := take(t, l, ask)
		if !ok {
			return n
		}
		n += ask.Cost
		if want := ask.Size - n; answers[0].Remaining > want {
			t.Fatalf("%d remain after %d of %d", answers[0].Remaining, n, ask.Size)
		}
	}
}

func TestAQuotaIsUsedUpExactly(t *testing.T) {
	for _, size := range []int64{1, 2, 3, 15, 16, 17, 100, int64(effort.Rounds(399, 1999))} {
		for _, cost := range []int64{1, 7} {
			t.Run(fmt.Sprintf("%d by %d", size, cost), func(t *testing.T) {
				c := newClock("2024-02-29T22:00:00Z")
				l := open(t, ledger.Options{Now: c.now})
				if got := drain(t, l, day("ada", cost, size)); got != size-size%cost {
					t.Errorf("admitted %d", got)
				}
				if rest := size % cost; rest > 0 {
					if got := drain(t, l, day("ada", 1, size)); got != rest {
						t.Errorf("of the rest %d admitted %d", rest, got)
					}
				}
				c.advance(2*time.Hour - time.Nanosecond)
				if ok, a := take(t, l, day("ada", 1, size)); ok || a[0].Reset != time.Nanosecond {
					t.Errorf("before midnight: %v %+v", ok, a)
				}
				c.advance(time.Nanosecond)
				if ok, _ := take(t, l, day("ada", 1, size)); !ok {
					t.Error("refused on the next day")
				}
			})
		}
	}
}

func yes(remaining int64, reset time.Duration) limit.Answer {
	return limit.Answer{OK: true, Remaining: remaining, Reset: reset}
}

func no(remaining int64, reset, retry time.Duration) limit.Answer {
	return limit.Answer{Remaining: remaining, Reset: reset, Retry: retry}
}

func TestAnswers(t *testing.T) {
	c := newClock("2024-02-28T18:00:00Z")
	l := open(t, ledger.Options{Now: c.now})
	untilMonth := 30 * time.Hour
	for i, step := range []struct {
		asks []limit.Ask
		ok   bool
		want []limit.Answer
	}{
		{[]limit.Ask{day("a", 2, 10)}, true, []limit.Answer{yes(8, 6*time.Hour)}},
		{[]limit.Ask{day("a", 1, 10), month("a", 1, 3)}, true, []limit.Answer{yes(7, 6*time.Hour), yes(2, untilMonth)}},
		{[]limit.Ask{day("a", 3, 10), month("a", 3, 3)}, false, []limit.Answer{yes(7, 6*time.Hour), no(2, untilMonth, untilMonth)}},
		{[]limit.Ask{day("a", 7, 10)}, true, []limit.Answer{yes(0, 6*time.Hour)}},
		{[]limit.Ask{day("a", 1, 10)}, false, []limit.Answer{no(0, 6*time.Hour, 6*time.Hour)}},
		{[]limit.Ask{day("b", 11, 10)}, false, []limit.Answer{no(10, 6*time.Hour, -1)}},
		{[]limit.Ask{day("c", 2, 4), day("c", 2, 4)}, true, []limit.Answer{yes(0, 6*time.Hour), yes(0, 6*time.Hour)}},
		{[]limit.Ask{day("d", 3, 4), day("d", 3, 4)}, false, nil},
		{[]limit.Ask{day("d", 4, 4)}, true, []limit.Answer{yes(0, 6*time.Hour)}},
		{nil, true, nil},
	} {
		ok, got := take(t, l, step.asks...)
		if ok != step.ok {
			t.Errorf("step %d: admitted %v: %+v", i, ok, got)
		}
		for j := range step.want {
			if got[j] != step.want[j] {
				t.Errorf("step %d, ask %d: %+v, want %+v", i, j, got[j], step.want[j])
			}
		}
	}
}

func TestBadAsks(t *testing.T) {
	l := open(t, ledger.Options{})
	rate := limit.Ask{Key: limit.Key{Limit: "r"}, Cost: 1, Size: 1, Emission: time.Second}
	for name, asks := range map[string][]limit.Ask{"rate": {rate}, "cost": {day("a", 0, 1)}, "size": {day("a", 1, -1)}} {
		if ok, err := l.Take(t.Context(), asks, make([]limit.Answer, 1)); ok || err == nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	if ok, err := l.Take(t.Context(), []limit.Ask{day("a", 1, 1)}, nil); ok || err == nil {
		t.Errorf("no answers: %v, %v", ok, err)
	}
}

func TestCloseGivesBack(t *testing.T) {
	c := newClock("2024-05-05T12:00:00Z")
	o := ledger.Options{File: filepath.Join(t.TempDir(), "x", "quotas ?#%.db"), Now: c.now}
	const size = 100_000
	var total int64
	for range 5 {
		l := open(t, o)
		for range 10 {
			take(t, l, day("ada", 7, size))
			total += 7
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if ok, err := l.Take(t.Context(), []limit.Ask{day("ada", 1, size)}, make([]limit.Answer, 1)); ok || err == nil {
			t.Fatalf("after Close: %v, %v", ok, err)
		}
	}
	l := open(t, o)
	usage, err := l.Usage(t.Context(), 10)
	if err != nil || len(usage) != 1 || usage[0] != usageOf("ada", total, size) {
		t.Fatalf("%+v, %v", usage, err)
	}
	if got := drain(t, l, day("ada", 1, size)); got != size-total {
		t.Errorf("admitted %d, want %d", got, size-total)
	}
}

func usageOf(who string, used, size int64) ledger.Usage {
	return ledger.Usage{Limit: "read/principal/0", Who: who, Period: "day", Used: used, Size: size}
}

func monthlyOf(who string, used int64) ledger.Usage {
	return ledger.Usage{Limit: "read/principal/1", Who: who, Period: "month", Used: used, Size: 50}
}

func TestUsage(t *testing.T) {
	c := newClock("2024-05-31T12:00:00Z")
	l := open(t, ledger.Options{Now: c.now})
	for i := range 5 {
		who := string(rune('a' + i))
		for range i + 1 {
			take(t, l, day(who, 10, 1_000_000), month(who, 10, 50))
		}
	}
	usage, err := l.Usage(t.Context(), 3)
	want := []ledger.Usage{usageOf("e", 50, 1_000_000), monthlyOf("e", 50), usageOf("d", 40, 1_000_000)}
	if err != nil || !slices.Equal(usage, want) {
		t.Errorf("%+v, %v", usage, err)
	}
	for _, of := range []struct {
		name   string
		period limit.Period
		most   int
		want   []ledger.Usage
	}{
		{"read/principal/1", limit.Month, 9, []ledger.Usage{monthlyOf("a", 10), monthlyOf("b", 20), monthlyOf("c", 30), monthlyOf("d", 40), monthlyOf("e", 50)}},
		{"read/principal/1", limit.Month, 2, []ledger.Usage{monthlyOf("a", 10), monthlyOf("b", 20)}},
		{"read/principal/1", limit.Day, 9, nil},
		{"read/principal/2", limit.Month, 9, nil},
	} {
		if got, err := l.UsageOf(t.Context(), of.name, of.period, of.most); err != nil || !slices.Equal(got, of.want) {
			t.Errorf("%+v: %+v, %v", of, got, err)
		}
	}
	c.advance(12 * time.Hour)
	if usage, err := l.UsageOf(t.Context(), "read/principal/1", limit.Month, 9); err != nil || len(usage) != 0 {
		t.Errorf("in the next month: %+v, %v", usage, err)
	}
	if usage, err = l.Usage(t.Context(), 3); err != nil || len(usage) != 0 {
		t.Errorf("in the next month: %+v, %v", usage, err)
	}
}

func TestKeysAreBounded(t *testing.T) {
	c := newClock("2024-05-05T12:00:00Z")
	const keys = 1500
	l := open(t, ledger.Options{Now: c.now, MaxKeys: 1024})
	flood := func() {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < keys; i += 8 {
					if ok, err := l.Take(t.Context(), []limit.Ask{day(fmt.Sprint(i), 1, 50_000)}, make([]limit.Answer, 1)); !ok || err != nil {
						t.Error(ok, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	flood()
	flood()
	if n := l.Keys(); n > 1024 {
		t.Errorf("%d keys in memory", n)
	}
	// Nobody lost or won anything by being dropped and coming back.
	for _, who := range []string{"0", "17", "1499"} {
		if _, a := take(t, l, day(who, 1, 50_000)); a[0].Remaining != 50_000-3 {
			t.Errorf("%s has %d left", who, a[0].Remaining)
		}
	}
}

func TestPastIsDeleted(t *testing.T) {
	c := newClock("2024-05-05T12:00:00Z")
	o := ledger.Options{File: filepath.Join(t.TempDir(), "quotas.db"), Now: c.now}
	l := open(t, o)
	for i := range 2500 {
		take(t, l, day(fmt.Sprint(i), 1, 10))
	}
	take(t, l, month("ada", 1, 10))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		rows  int
	}{
		{36 * time.Hour, 2501}, // The clock may be set back: kept for two days.
		{36 * time.Hour, 1},
		{60 * 24 * time.Hour, 0},
	} {
		c.advance(step.after)
		l := open(t, o)
		deadline := time.Now().Add(10 * time.Second)
		for l.Rows(t) != step.rows && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		if n := l.Rows(t); n != step.rows {
			t.Errorf("%d rows, want %d", n, step.rows)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"", dir, garbage, filepath.Join(garbage, "below", "a", "file")} {
		if l, err := ledger.Open(t.Context(), ledger.Options{File: file}); err == nil {
			t.Errorf("%q: opened", file)
			_ = l.Close()
		}
	}
}

// TestWaitsHonourTheContext locks the file as another process could.
func TestWaitsHonourTheContext(t *testing.T) {
	o := ledger.Options{File: filepath.Join(t.TempDir(), "quotas.db")}
	l := open(t, o)
	take(t, l, day("ada", 1, 1_000_000))
	unlock := l.LockFile(t, o.File)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if ok, err := l.Take(ctx, []limit.Ask{day("bob", 1, 1000)}, make([]limit.Answer, 1)); ok || err == nil {
		t.Errorf("a new key: %v, %v", ok, err)
	}
	// Who has a lease goes on meanwhile.
	if ok, _ := take(t, l, day("ada", 1, 1_000_000)); !ok {
		t.Error("ada waits for bob's disk")
	}
	unlock()
	if ok, _ := take(t, l, day("bob", 1, 1000)); !ok {
		t.Error("refused after the lock was gone")
	}
}

// logs counts lines by level.
type logs struct {
	slog.Handler
	mu   sync.Mutex
	seen []string
}

func (h *logs) Enabled(context.Context, slog.Level) bool { return true }
func (h *logs) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, r.Level.String())
	return nil
}

func (h *logs) lines() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.seen, " ")
}
