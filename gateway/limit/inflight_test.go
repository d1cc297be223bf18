package limit

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

func (f *InFlight) keys() (n int) {
	for i := range f.shards {
		f.shards[i].mu.Lock()
		n += len(f.shards[i].n)
		f.shards[i].mu.Unlock()
	}
	return n
}

func TestInFlight(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := newLimiter(t, Options{Metrics: reg, Classes: []Class{
		{Name: "c", MaxInFlightPerCaller: 2, MaxInFlightPerMethod: 3}, {Name: "own", MaxInFlightPerCaller: 1}, {Name: "free"},
	}})
	enter := func(class, method string, p *policy.Principal, addr string) (*policy.Call, outcome) {
		c, _ := newCall(class, 1, p, addr)
		c.Method.FullName = method
		_, err := l.InFlight(context.Background(), c)
		return c, outcomeOf(err)
	}
	full := func(limit string) outcome {
		return outcome{codes.ResourceExhausted, ReasonTooManyInFlight, limit, "c", time.Second}
	}
	ok, perCaller, perMethod := outcome{Retry: -1}, full("c-in-flight-caller"), full("c-in-flight-method")
	var calls []*policy.Call
	for i, st := range []struct {
		class, method string
		who           *policy.Principal
		addr          string
		end           int // The call to end before, from 1.
		want          outcome
	}{
		{"c", "/A", known("ada"), "192.0.2.1", 0, ok},
		{"c", "/B", withKey("ada", "k", "", ""), "192.0.2.2", 0, ok},    // The same caller.
		{"c", "/A", known("ada"), "192.0.2.1", 0, perCaller},            // 3
		{"c", "/A", known("192.0.2.9"), "192.0.2.1", 0, ok},             // 4
		{"c", "/A", policy.Anonymous, "192.0.2.9", 0, ok},               // 5: not the subject of 4.
		{"c", "/A", known("bob"), "192.0.2.1", 0, perMethod},            // 6
		{"c", "/B", known("bob"), "192.0.2.1", 0, ok},                   // 7: what 6 took is given back:
		{"c", "/B", known("bob"), "192.0.2.1", 0, ok},                   // 8
		{"c", "/C", known("bob"), "192.0.2.1", 0, perCaller},            // 9
		{"c", "/C", known("bob"), "192.0.2.1", 9, perCaller},            // 10: a refused call has nothing to give back.
		{"c", "/A", known("ada"), "192.0.2.1", 1, ok},                   // 11
		{"c", "/C", withKey("ada", "k", "", "own"), "192.0.2.1", 0, ok}, // 12: another class counts apart.
		{"free", "/A", known("ada"), "192.0.2.1", 0, ok},                // 13
		{"", "/A", known("ada"), "192.0.2.1", 0, ok},                    // 14
		{"c", "/C", policy.Anonymous, "192.0.2.9", 0, ok},               // 15
		{"c", "/C", policy.Anonymous, "::ffff:192.0.2.9", 0, perCaller}, // 16
	} {
		if st.end > 0 {
			calls[st.end-1].Done(nil)
			calls[st.end-1].Done(nil) // The end is told twice, and counts once.
		}
		c, got := enter(st.class, st.method, st.who, st.addr)
		if got != st.want {
			t.Errorf("step %d: %+v, want %+v", i+1, got, st.want)
		}
		calls = append(calls, c)
	}
	for limit, want := range map[string][2]float64{"c-in-flight-caller": {8, 4}, "c-in-flight-method": {8, 1}, "own-in-flight-caller": {1, 0}} {
		a, r := metric(t, reg, "sluice_limit_decisions_total", limit, "admitted"), metric(t, reg, "sluice_limit_decisions_total", limit, "refused")
		if a != want[0] || r != want[1] {
			t.Errorf("%s: %v admitted, %v refused; want %v", limit, a, r, want)
		}
	}
	for _, c := range calls {
		c.Done(errors.New("any"))
	}
	if n := l.inFlight.keys(); n != 0 {
		t.Errorf("%d keys are left after all calls have ended", n)
	}
}

func TestInFlightSurvivesAPanic(t *testing.T) {
	l := newLimiter(t, Options{Classes: []Class{{Name: "c", MaxInFlightPerCaller: 1}}})
	for range 3 {
		c, _ := newCall("c", 1, known("ada"), "")
		if _, err := l.InFlight(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		c.OnDone(func(error) { panic("x") })
		func() {
			defer func() { _ = recover() }()
			c.Done(nil)
		}()
		c.Done(nil) // What an edge's recovery does.
	}
}

func TestInFlightUnderConcurrency(t *testing.T) {
	const most = 5
	l := newLimiter(t, Options{Classes: []Class{{Name: "c", MaxInFlightPerCaller: most, MaxInFlightPerMethod: 3 * most}}})
	var inside [4]atomic.Int64
	var all, admitted atomic.Int64
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 2000 {
				who := (w + i) % 4
				c, _ := newCall("c", 1, known(strconv.Itoa(who)), "")
				if _, err := l.InFlight(context.Background(), c); err != nil {
					continue
				}
				admitted.Add(1)
				if n, a := inside[who].Add(1), all.Add(1); n > most || a > 3*most {
					t.Errorf("%d of a caller, %d of the method are in flight", n, a)
				}
				inside[who].Add(-1)
				all.Add(-1)
				c.Done(nil)
			}
		}()
	}
	wg.Wait()
	if n := l.inFlight.keys(); n != 0 || admitted.Load() == 0 {
		t.Errorf("%d keys are left, %d calls were admitted", n, admitted.Load())
	}
}
