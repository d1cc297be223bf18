package redis_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
)

// clock is set by tests. Redis's own has microseconds, so it has, too.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d.Truncate(time.Microsecond))) }

func newClock(t testing.TB, at string) *clock {
	t.Helper()
	when, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{}
	c.ns.Store(when.UnixNano())
	return c
}

// stores are all of them, by the same clock.
func stores(t testing.TB, url string, c *clock) map[string]limit.Store {
	local := newLocal(t, t.TempDir(), c.now)
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	return map[string]limit.Store{"redis": redis.NewClocked(t, url, c.now), "memory and ledger": local}
}

func ok(remaining int64, reset time.Duration) limit.Answer {
	return limit.Answer{OK: true, Remaining: remaining, Reset: reset}
}

func no(remaining int64, reset, retry time.Duration) limit.Answer {
	return limit.Answer{Remaining: remaining, Reset: reset, Retry: retry}
}

// TestStoresAgree runs one table over all stores.
func TestStoresAgree(t *testing.T) {
	server := redistest.Start(t)
	const s = time.Second
	type step struct {
		after time.Duration
		asks  []limit.Ask
		want  []limit.Answer
		ok    bool
	}
	for name, tc := range map[string]struct {
		at    string
		steps []step
	}{
		"a rate": {"2024-05-05T12:00:00Z", []step{
			{0, []limit.Ask{rate("r", "ada", 1, 3, s)}, []limit.Answer{ok(2, s)}, true},
			{0, []limit.Ask{rate("r", "ada", 2, 3, s)}, []limit.Answer{ok(0, 3*s)}, true},
			{0, []limit.Ask{rate("r", "ada", 1, 3, s)}, []limit.Answer{no(0, 3*s, s)}, false},
			{0, []limit.Ask{rate("r", "bob", 1, 3, s)}, []limit.Answer{ok(2, s)}, true},
			{s / 4, []limit.Ask{rate("r", "ada", 1, 3, s)}, []limit.Answer{no(0, 11*s/4, 3*s/4)}, false},
			{3 * s / 4, []limit.Ask{rate("r", "ada", 1, 3, s)}, []limit.Answer{ok(0, 3*s)}, true},
			{s / 2, []limit.Ask{rate("r", "ada", 3, 3, s)}, []limit.Answer{no(0, 5*s/2, 5*s/2)}, false},
			{10 * s, []limit.Ask{rate("r", "ada", 4, 3, s)}, []limit.Answer{no(3, 0, -1)}, false},
			{0, []limit.Ask{rate("r", "ada", 3, 3, s)}, []limit.Answer{ok(0, 3*s)}, true},
		}},
		"a rate of nanoseconds": {"2024-05-05T12:00:00Z", []step{
			{0, []limit.Ask{rate("n", "", 999, 1000, 7)}, []limit.Answer{ok(1, 6993)}, true},
			{0, []limit.Ask{rate("n", "", 2, 1000, 7)}, []limit.Answer{no(1, 6993, 7)}, false},
			{time.Microsecond, []limit.Ask{rate("n", "", 143, 1000, 7)}, []limit.Answer{ok(0, 6994)}, true},
		}},
		"a rate that is made smaller": {"2024-05-05T12:00:00Z", []step{
			{0, []limit.Ask{rate("m", "", 100, 100, s)}, []limit.Answer{ok(0, 100*s)}, true},
			{0, []limit.Ask{rate("m", "", 1, 10, s)}, []limit.Answer{no(0, 10*s, s)}, false},
		}},
		"a leap day": {"2024-02-28T23:59:59Z", []step{
			{0, []limit.Ask{quota("d", "a", 5, 5, limit.Day), quota("m", "a", 5, 7, limit.Month)}, []limit.Answer{ok(0, s), ok(2, s+24*time.Hour)}, true},
			{0, []limit.Ask{quota("d", "a", 1, 5, limit.Day), quota("m", "a", 1, 7, limit.Month)}, []limit.Answer{no(0, s, s), ok(2, s+24*time.Hour)}, false},
			{s, []limit.Ask{quota("d", "a", 3, 5, limit.Day), quota("m", "a", 3, 7, limit.Month)}, []limit.Answer{ok(5, 24*time.Hour), no(2, 24*time.Hour, 24*time.Hour)}, false},
			{0, []limit.Ask{quota("d", "a", 2, 5, limit.Day), quota("m", "a", 2, 7, limit.Month)}, []limit.Answer{ok(3, 24*time.Hour), ok(0, 24*time.Hour)}, true},
			{24 * time.Hour, []limit.Ask{quota("d", "a", 8, 5, limit.Day), quota("m", "a", 1, 7, limit.Month)}, []limit.Answer{no(5, 24*time.Hour, -1), ok(7, 31*24*time.Hour)}, false},
		}},
		"a rate and a quota": {"2023-12-31T23:00:00Z", []step{
			{0, []limit.Ask{rate("r", "c", 1, 2, s), quota("q", "c", 1, 1, limit.Month)}, []limit.Answer{ok(1, s), ok(0, time.Hour)}, true},
			{0, []limit.Ask{rate("r", "c", 1, 2, s), quota("q", "c", 1, 1, limit.Month)}, []limit.Answer{ok(1, s), no(0, time.Hour, time.Hour)}, false},
			{0, []limit.Ask{rate("r", "c", 1, 2, s)}, []limit.Answer{ok(0, 2*s)}, true},
			{time.Hour, []limit.Ask{rate("r", "c", 1, 2, s), quota("q", "c", 1, 1, limit.Month)}, []limit.Answer{ok(1, s), ok(0, 31*24*time.Hour)}, true},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock(t, tc.at)
			all := stores(t, server.URL(), c)
			for i, step := range tc.steps {
				c.advance(step.after)
				for which, store := range all {
					for j := range step.asks {
						step.asks[j].Key.Limit = name + "/" + step.asks[j].Key.Limit
					}
					admitted, got := take(t, store, step.asks...)
					for j := range step.asks {
						step.asks[j].Key.Limit = step.asks[j].Key.Limit[len(name)+1:]
					}
					if admitted != step.ok {
						t.Errorf("step %d, %s: admitted %v: %+v", i, which, admitted, got)
					}
					for j := range got {
						if got[j] != step.want[j] {
							t.Errorf("step %d, %s, ask %d: %+v, want %+v", i, which, j, got[j], step.want[j])
						}
					}
				}
			}
		})
	}
}

// TestStoresAgreeAtRandom walks through months, leap day included, and asks all stores the same.
func TestStoresAgreeAtRandom(t *testing.T) {
	c := newClock(t, "2023-11-28T00:00:00Z")
	all := stores(t, redistest.Start(t).URL(), c)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	step := func() time.Duration {
		switch n := r.IntN(1000); {
		case n < 800:
			return 0
		case n < 980:
			return []time.Duration{time.Microsecond, time.Millisecond, 300 * time.Millisecond, time.Second}[n%4]
		case n < 997:
			return []time.Duration{time.Minute, time.Hour, 5 * time.Hour}[n%3]
		default:
			return []time.Duration{40 * time.Hour, 17 * 24 * time.Hour}[n%2]
		}
	}
	emissions := []time.Duration{1, 333, time.Millisecond / 3, time.Second, time.Hour}
	admissions := 0
	const asked = 4000
	for i := range asked {
		c.advance(step())
		var asks []limit.Ask
		who := fmt.Sprint("who", r.IntN(3))
		for _, j := range r.Perm(len(emissions))[:r.IntN(3)] {
			asks = append(asks, rate(fmt.Sprint("rate", j), who, 1+r.Int64N(4), 10, emissions[j]))
		}
		asks = append(asks, quota("day", who, 1+r.Int64N(4), 50, limit.Day))
		if r.IntN(2) == 0 {
			asks = append(asks, quota("month", who, 1+r.Int64N(4), 500, limit.Month))
		}
		admitted, got := take(t, all["redis"], asks...)
		want, local := take(t, all["memory and ledger"], asks...)
		if admitted != want {
			t.Fatalf("seed %d, step %d at %s: redis %v %+v, local %v %+v, asked %+v", seed, i, c.now(), admitted, got, want, local, asks)
		}
		if admitted {
			admissions++
		}
		for j := range got {
			if local[j].Remaining < 0 || local[j].Remaining == asks[j].Size && local[j].OK {
				continue // Not looked at, because a rate had no room; or not since its entry was made.
			}
			if got[j] != local[j] {
				t.Fatalf("seed %d, step %d at %s: ask %+v: redis %+v, local %+v", seed, i, c.now(), asks[j], got[j], local[j])
			}
		}
	}
	t.Logf("%d of %d admitted, until %s", admissions, asked, c.now())
	if admissions < asked/10 || admissions > asked*9/10 {
		t.Errorf("%d of %d were admitted: this proves little", admissions, asked)
	}
}

// TestCalendar compares the script's calendar with Go's.
func TestCalendar(t *testing.T) {
	c := newClock(t, "1970-01-01T00:00:00Z")
	store := redis.NewClocked(t, redistest.Start(t).URL(), c.now)
	var days []time.Time
	for year := 1970; year < 2205; year++ {
		for day := 27; day < 32; day++ {
			days = append(days, time.Date(year, time.February, day, 23, 59, 59, 0, time.UTC))
		}
		days = append(days, time.Date(year, time.December, 31, 12, 0, 0, 0, time.UTC))
	}
	for day := range 366 {
		days = append(days, time.Date(2100, time.January, 1+day, 0, 0, 0, 0, time.UTC))
	}
	for _, at := range days {
		c.ns.Store(at.UnixNano())
		_, a := take(t, store, quota("d", at.String(), 1, 1, limit.Day), quota("m", at.String(), 1, 1, limit.Month))
		day := time.Date(at.Year(), at.Month(), at.Day()+1, 0, 0, 0, 0, time.UTC).Sub(at)
		month := time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC).Sub(at)
		if a[0].Reset != day || a[1].Reset != month {
			t.Errorf("%s: day ends in %s, want %s; month in %s, want %s", at, a[0].Reset, day, a[1].Reset, month)
		}
	}
}
