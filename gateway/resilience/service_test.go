package resilience

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// rejected is why a call is refused; empty if it is not.
func rejected(t testing.TB, c *Class, p Priority) (Permit, Rejection) {
	t.Helper()
	permit, err := c.Acquire(p)
	var r *Rejection
	switch {
	case err == nil:
		return permit, Rejection{}
	case !errors.As(err, &r):
		t.Fatalf("%T is no *Rejection", err)
	}
	return permit, *r
}

func fail(t testing.TB, c *Class, n int) {
	t.Helper()
	for range n {
		p, _ := rejected(t, c, Whole)
		p.Done(Failure)
	}
}

func TestBreakersOfClassesAreApart(t *testing.T) {
	var changes []Change
	g, at := newOurs(t, Options{Name: "orders", Variant: "next", Breaker: BreakerOptions{OpenFor: 5 * time.Second}, OnChange: func(c Change) { changes = append(changes, c) }}, "write", "read")
	write, read := g.class[0], g.class[1]
	if g.service.Class("read") != read {
		t.Error("a class is another each time")
	}
	fail(t, write, 20)
	if _, r := rejected(t, write, Whole); r.Reason != ReasonBreaker || r.RetryAfter != 5*time.Second {
		t.Errorf("write is refused with %+v", r)
	}
	at.advance(4500 * time.Millisecond)
	if _, r := rejected(t, write, Whole); r.RetryAfter != time.Second {
		t.Errorf("shortly before, write is refused with %+v", r)
	}
	p, r := rejected(t, read, Whole)
	if p.Done(Success); r.Reason != "" {
		t.Errorf("read is refused with %+v", r)
	}
	want := []State{
		{Service: "orders", Variant: "next", Class: "read", State: "closed", Since: newClock().at, Requests: 1, Limit: 100},
		{Service: "orders", Variant: "next", Class: "write", State: "open", Since: newClock().at, Limit: 100},
	}
	if got := g.service.States(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("states\n%v, not\n%v", got, want)
	}
	at.advance(time.Second)
	for range 3 {
		p, _ := rejected(t, write, Whole)
		p.Done(Success)
	}
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%s %s %s: %s to %s", c.Service, c.Variant, c.Class, c.From, c.To))
	}
	if s := strings.Join(got, "; "); s != "orders next write: closed to open; orders next write: open to half_open; orders next write: half_open to closed" {
		t.Error(s)
	}
}

func TestForce(t *testing.T) {
	g, at := newOurs(t, Options{})
	c := g.class[0]
	force := func(state string) {
		t.Helper()
		if err := g.service.Force("read", state); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want bool) {
		t.Helper()
		p, r := rejected(t, c, Whole)
		if p.Done(Success); (r.Reason != "") != want {
			t.Errorf("refused with %+v", r)
		}
	}
	force("open")
	refused(true)
	at.advance(time.Hour) // It is not for the clock to end.
	refused(true)
	if s := g.service.States()[0]; s.State != "open" || !s.Forced {
		t.Errorf("%+v", s)
	}
	g.service.Update(Options{Breaker: BreakerOptions{Off: true}})
	refused(true) // Nor for a reload.
	force("closed")
	g.service.Update(Options{})
	fail(t, c, 100)
	refused(false)
	force("auto")
	fail(t, c, 20)
	refused(true)
	force("auto") // From open to closed, too.
	refused(false)
	for _, wrong := range [][2]string{{"none", "open"}, {"read", "half_open"}, {"read", ""}} {
		if err := g.service.Force(wrong[0], wrong[1]); err == nil {
			t.Errorf("Force%q is no error", wrong)
		}
	}
}

func TestUpdateKeepsTheState(t *testing.T) {
	g, at := newOurs(t, Options{})
	c := g.class[0]
	fail(t, c, 19)
	g.service.Update(Options{Breaker: BreakerOptions{OpenFor: time.Minute}})
	fail(t, c, 1)
	at.advance(50 * time.Second)
	if _, r := rejected(t, c, Whole); r.RetryAfter != 10*time.Second {
		t.Errorf("after the update %+v", r)
	}
	g.service.Update(Options{Breaker: BreakerOptions{Off: true}, Concurrency: ConcurrencyOptions{Min: 2, Max: 3}})
	if s := g.service.States()[0]; s.State != "closed" || s.Limit != 3 {
		t.Errorf("off, and at most 3: %+v", s)
	}
	fail(t, c, 100)
	if s := g.service.States()[0]; s.State != "closed" || s.Requests != 0 {
		t.Errorf("off: %+v", s)
	}
	// A window of another length counts anew, and goes on counting.
	g.service.Update(Options{Breaker: BreakerOptions{Window: 100 * time.Second}})
	fail(t, c, 20)
	if s := g.service.States()[0]; s.State != "open" {
		t.Errorf("with a longer window: %+v", s)
	}
}

func TestConcurrencyBound(t *testing.T) {
	g, _ := newOurs(t, Options{Concurrency: ConcurrencyOptions{Min: 10, Max: 10}})
	c := g.class[0]
	var out []Permit
	take := func(p Priority) string {
		permit, r := rejected(t, c, p)
		if r.Reason == "" {
			out = append(out, permit)
		}
		return r.Reason
	}
	for i := range 8 {
		if why := take(Optional); why != "" {
			t.Fatalf("optional call %d is refused: %s", i+1, why)
		}
	}
	if take(Optional) != ReasonConcurrency || take(Whole) != "" || take(Whole) != "" || take(Whole) != ReasonConcurrency {
		t.Error("an optional call has four fifths of the bound, a whole one all of it")
	}
	for _, p := range out[:4] {
		p.Done(Ignored)
	}
	if take(Optional) != "" || g.service.States()[0].InFlight != 7 {
		t.Errorf("%+v", g.service.States()[0])
	}
	g.service.Update(Options{Concurrency: ConcurrencyOptions{Off: true}})
	for range 2000 {
		if why := take(Optional); why != "" {
			t.Fatal("refused without a bound")
		}
	}
	for _, p := range out[4:] {
		p.Done(Success)
	}
	if s := g.service.States()[0]; s.InFlight != 0 || s.Limit != 0 {
		t.Errorf("%+v", s)
	}
	Permit{}.Done(Success)

	off := Options{Concurrency: ConcurrencyOptions{Off: true}, Breaker: BreakerOptions{Off: true}, Budget: BudgetOptions{Off: true}}
	before, _ := rejected(t, c, Whole)
	g.service.Update(off)
	without, _ := rejected(t, c, Whole)
	g.service.Update(Options{})
	before.Done(Success)
	without.Done(Success)
	if n := g.service.States()[0].InFlight; n != 0 {
		t.Errorf("%d in flight after everything was off for a while", n)
	}
	g.service.Update(off)
	if err := g.service.Force("read", "open"); err != nil {
		t.Fatal(err)
	}
	if take(Whole) != ReasonBreaker {
		t.Error("with everything off, an operator cannot open a breaker")
	}
}

// TestModerateLoadIsNotShed: 64 callers at once, more than two processors can serve, on
// whatever machine this is: their queue must not look like an overload.
func TestModerateLoadIsNotShed(t *testing.T) {
	s, err := NewService(Options{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	c := s.Class("read")
	var refused, calls atomic.Int64
	var wg sync.WaitGroup
	until := time.Now().Add(time.Second)
	for range 64 {
		wg.Go(func() {
			for time.Now().Before(until) {
				p, err := c.Acquire(Optional)
				if err != nil {
					refused.Add(1)
					continue
				}
				for begin := time.Now(); time.Since(begin) < 100*time.Microsecond; {
					runtime.Gosched()
				}
				calls.Add(1)
				p.Done(Success)
			}
		})
	}
	wg.Wait()
	if refused.Load() > 0 || calls.Load() == 0 {
		t.Errorf("%d calls refused, %d made", refused.Load(), calls.Load())
	}
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	g, _ := newOurs(t, Options{Name: "user", Metrics: r, Concurrency: ConcurrencyOptions{Min: 5, Max: 5}}, "read")
	other, err := NewService(Options{Name: "user", Variant: "next", Metrics: r})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewService(Options{Name: "user", Metrics: r}); err == nil {
		t.Error("two services of one name are no error")
	}
	fail(t, g.class[0], 21)
	g.service.TryRetry()
	for range 5 {
		_, _ = g.class[0].Acquire(Optional)
	}
	got := values(t, r)
	for name, want := range map[string]float64{
		"sluice_breaker_state class=read service=user variant=":                                2,
		"sluice_breaker_transitions_total class=read service=user to=open variant=":            1,
		"sluice_concurrency_limit service=user variant=":                                       5,
		"sluice_concurrency_limit service=user variant=next":                                   100,
		"sluice_concurrency_in_flight service=user variant=":                                   0,
		"sluice_concurrency_usual_seconds class=read service=user variant=":                    0,
		"sluice_retries_total outcome=granted service=user variant=":                           1,
		"sluice_retries_total outcome=denied service=user variant=next":                        0,
		"sluice_shed_total class=read priority=optional reason=breaker service=user variant=":  5,
		"sluice_shed_total class=read priority=whole reason=breaker service=user variant=":     1,
		"sluice_shed_total class=read priority=whole reason=concurrency service=user variant=": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), not %v", name, v, ok, want)
		}
	}
	g.service.Close()
	other.Close()
	if got := values(t, r); len(got) != 0 {
		t.Errorf("after Close there is %v", got)
	}
}

// values are the metrics of a registry, by name and labels.
func values(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// TestParallel: however calls, retries, updates and operators meet, permits are
// returned, the bound and the caps hold.
func TestParallel(t *testing.T) {
	const bound = 50
	s, err := NewService(Options{Name: "x", Breaker: BreakerOptions{OpenFor: time.Microsecond, MinRequests: 1, Probes: 3},
		Concurrency: ConcurrencyOptions{Min: bound, Max: bound}, OnChange: func(Change) {}})
	if err != nil {
		t.Fatal(err)
	}
	out := NewOutlier(OutlierOptions{BaseEjection: time.Microsecond}, nil)
	ids := []string{"a", "b", "c", "d"}
	out.Update(ids)
	var inFlight, firsts, retries atomic.Int64
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(n))) //nolint:gosec // No secret.
			c := s.Class([]string{"read", "write"}[n%2])
			var held []Permit
			for i := range 5000 {
				switch p, err := c.Acquire(Priority(i % 2)); {
				case err == nil:
					firsts.Add(1)
					if now := inFlight.Add(1); now > bound {
						t.Errorf("%d permits are out", now)
					}
					held = append(held, p)
				case s.TryRetry():
					retries.Add(1)
				}
				for len(held) > rnd.IntN(10) {
					inFlight.Add(-1)
					held[0].Done(Outcome(rnd.IntN(4)))
					held = held[1:]
				}
				id := ids[rnd.IntN(4)]
				if out.Report(id, rnd.IntN(3) == 0); !out.Ejected(id) && i%500 == 0 {
					out.Update(ids[:1+rnd.IntN(4)])
				}
				if i%1000 == 0 {
					s.Update(Options{Breaker: BreakerOptions{OpenFor: time.Microsecond, MinRequests: 1, Off: i%2000 == 0}, Concurrency: ConcurrencyOptions{Min: bound, Max: bound}})
					_ = s.Force("read", []string{"closed", "open", "auto"}[rnd.IntN(3)])
					_ = s.States()
				}
			}
			for _, p := range held {
				inFlight.Add(-1)
				p.Done(Success)
			}
		})
	}
	wg.Wait()
	for _, state := range s.States() {
		if state.InFlight != 0 {
			t.Errorf("%d in flight at the end", state.InFlight)
		}
	}
	// Every retry was within the budget of its window, so within that of all.
	if firsts.Load() == 0 || retries.Load() > firsts.Load()/5+10*(1+int64(buckets)) {
		t.Errorf("%d retries of %d first attempts", retries.Load(), firsts.Load())
	}
}

// An open breaker that would let the next call try is shown as half open, though
// nobody has called since.
func TestQuietBreakerIsShownHalfOpen(t *testing.T) {
	now := time.Unix(1, 0)
	s, err := NewService(Options{Name: "s", Clock: func() time.Time { return now }, Breaker: BreakerOptions{MinRequests: 1, OpenFor: 5 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	c := s.Class("read")
	p, err := c.Acquire(Whole)
	if err != nil {
		t.Fatal(err)
	}
	p.Done(Failure)
	for _, step := range []struct {
		wait time.Duration
		want string
	}{{0, "open"}, {4 * time.Second, "open"}, {time.Second, "half_open"}, {time.Hour, "half_open"}} {
		now = now.Add(step.wait)
		if got := s.States()[0].State; got != step.want {
			t.Errorf("after %v more: %s, want %s", step.wait, got, step.want)
		}
	}
	if err := s.Force("read", "open"); err != nil || s.States()[0].State != "open" {
		t.Error("held open:", err, s.States()[0])
	}
}

// TestMethodsShareABreaker: methods of a class are told apart by latency only.
func TestMethodsShareABreaker(t *testing.T) {
	g, _ := newOurs(t, Options{}, "read")
	a, b := g.service.Method("read", "a"), g.service.Method("read", "b")
	if a == b || g.service.Method("read", "a") != a || a.Class != g.class[0] || b.Class != a.Class {
		t.Fatal("a method is not the same each time, or not of its class")
	}
	for range 20 {
		p, err := a.Acquire(Whole)
		if err != nil {
			t.Fatal(err)
		}
		p.Done(Failure)
	}
	if _, err := b.Acquire(Whole); err == nil {
		t.Error("the breaker of the class is closed for another method")
	}
}
