package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// openFor is how long breakers of these tests stay open.
const openFor = 2 * time.Second

// TestFaultOfAllBackends: while no backend is there, callers hear so at once, with
// when to come again; after a while the breaker spares even the attempt. When the
// backends are back, it is found out by itself.
func TestFaultOfAllBackends(t *testing.T) {
	t.Parallel()
	p := startSite(t, 2)
	ways := p.ways(listOrders("ada"))
	all := append(append([]*wire{}, p.grpc...), p.http...)
	for _, w := range all {
		w.down()
	}
	slowest := time.Duration(0)
	for way, ask := range ways {
		opened := false
		for _, r := range repeat(t, 60, 4, ask) {
			if r.code != codes.Unavailable || !r.refused() && (r.reason != "" || r.status != 0) {
				t.Errorf("%s: %v, want 503 and when to come again", way, r)
			}
			slowest, opened = max(slowest, r.took), opened || r.reason == "UPSTREAM_BREAKER_OPEN"
		}
		if !opened {
			t.Errorf("%s: the breaker has not opened", way)
		}
	}
	t.Logf("refused: the slowest of 180 after %v", slowest.Round(time.Millisecond))
	for _, service := range []string{orderService, "payments"} {
		if state := p.breaker(t, service); state != 2 {
			t.Errorf("%s: sluice_breaker_state is %v, want 2", service, state)
		}
	}
	p.logged(t, "refused_by", "breaker")

	for _, w := range all {
		w.up(t)
	}
	back := time.Now()
	eventually(t, patience, func() error { // Each of these may be a probe.
		for way, ask := range ways {
			if r := ask(bounded(t)); !r.is(codes.OK, "") {
				return fmt.Errorf("%s: %v", way, r)
			}
		}
		return p.closed(t, orderService, "payments")
	})
	took := time.Since(back)
	t.Logf("breakers closed %v after the backends were back; they stay open for %v", took.Round(time.Millisecond), openFor)
}

// breaker is the state of a service's breaker for reads: 0 closed, 1 half open, 2 open.
func (c caller) breaker(t *testing.T, service string) float64 {
	t.Helper()
	return sample(t, c.g, "sluice_breaker_state", `service="`+service+`"`, `class="read"`)
}

// closed is an error unless the breakers are closed.
func (c caller) closed(t *testing.T, services ...string) error {
	t.Helper()
	for _, s := range services {
		if state := c.breaker(t, s); state != 0 {
			return fmt.Errorf("the breaker of %s is %v", s, state)
		}
	}
	return nil
}

// logged waits for a line of the access log that has this field.
func (c caller) logged(t *testing.T, field, value string) {
	t.Helper()
	eventually(t, patience, func() error {
		for line := range strings.Lines(c.g.stderr.String()) {
			fields := object{}
			if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == "request" && fields[field] == value {
				return nil
			}
		}
		return fmt.Errorf("no request's line has %s %s", field, value)
	})
}

// TestBreakerLetsFewIn: a backend that comes back meets three calls, not all that
// wait for it. While they are on their way, everybody else is refused.
func TestBreakerLetsFewIn(t *testing.T) {
	t.Parallel()
	b := newCounted(t)
	c := startCounted(t, object{"breaker": object{"open_for": "1s", "probes": 3}, "outlier": object{"off": true}}, nil, b)
	for way, ask := range c.ways(getUser("ada")) {
		service := map[string]string{"HTTP": "payments"}[way]
		if service == "" {
			service = userService
		}
		b.does(breaks)
		eventually(t, patience, func() error {
			r := ask(bounded(t))
			if state := c.breaker(t, service); state != 2 {
				return fmt.Errorf("%s: the breaker is %v, not open, after %v", way, state, r)
			}
			return nil
		})
		letGo, before := b.holds(), b.seen().calls
		var refusals, served atomic.Int64
		ctx, stop := context.WithCancel(bounded(t))
		var callers sync.WaitGroup
		for range 30 {
			callers.Go(func() {
				for ctx.Err() == nil {
					switch r := ask(context.WithoutCancel(ctx)); {
					case r.is(codes.OK, ""):
						served.Add(1)
					case r.refused() && r.reason == "UPSTREAM_BREAKER_OPEN":
						refusals.Add(1)
						time.Sleep(20 * time.Millisecond) // Impatient, but not busy.
					default:
						t.Errorf("%s: %v", way, r)
					}
				}
			})
		}
		eventually(t, patience, func() error { return atLeast(float64(b.seen().inFlight), 3) })
		from := refusals.Load()
		eventually(t, patience, func() error { return atLeast(float64(refusals.Load()-from), 200) })
		if n := b.seen().calls - before; n != 3 {
			t.Errorf("%s: %d calls reached a backend that is only being tried, want 3", way, n)
		}
		if s := c.breaker(t, service); s != 1 {
			t.Errorf("%s: the breaker is %v, want half open", way, s)
		}
		letGo()
		eventually(t, patience, func() error { return errors.Join(c.closed(t, service), atLeast(float64(served.Load()), 100)) })
		stop()
		callers.Wait()
		t.Logf("%s: 3 probes, %d refused meanwhile", way, refusals.Load())
	}
}

// TestRetryBudget: when every call fails, a backend gets a fifth more of them and ten
// at first, however often the rule would try.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	b := newCounted(t)
	b.does(breaks)
	c := startCounted(t, object{"breaker": object{"off": true}, "outlier": object{"off": true}}, nil, b)
	for way, ask := range c.ways(getUser("ada")) {
		if way == "gRPC" { // It shares the budget of REST, which is spent.
			continue
		}
		const calls = 400
		before, begin := b.seen().calls, time.Now()
		for _, r := range repeat(t, calls, 8, ask) {
			if r.code != codes.Unavailable && r.status != 503 { // Over plain HTTP the service's own 503 passes.
				t.Fatalf("%s: %v", way, r)
			}
		}
		attempts, took := b.seen().calls-before, time.Since(begin)
		t.Logf("%s: %d calls, all failed: %d attempts, %.2f each", way, calls, attempts, float64(attempts)/calls)
		if most := 1.2*calls + 10 + took.Seconds(); float64(attempts) > most || attempts < calls+20 {
			t.Errorf("%s: %d attempts of %d calls; want %.0f at most, and some retries", way, attempts, calls, most)
		}
	}
	if n := sample(t, c.g, "sluice_retries_total", `outcome="denied"`); n < 100 {
		t.Errorf("the metric says that %v retries were denied", n)
	}
}

// TestOutlier: a backend that answers, but badly, is left out and comes back when it
// is well. No caller sees it.
func TestOutlier(t *testing.T) {
	t.Parallel()
	good, bad := newCounted(t), newCounted(t)
	c := startCounted(t, object{}, nil, good, bad)
	for way, ask := range c.ways(getUser("ada")) {
		eventually(t, patience, func() error { // Both are connected, and back in service.
			before := bad.seen().calls
			allWell(t, way, repeat(t, 10, 1, ask))
			return atLeast(float64(bad.seen().calls-before), 3)
		})
		before, ejections := bad.seen().calls, sample(t, c.g, "sluice_upstream_ejections_total")
		bad.does(breaks)
		const calls = 400
		allWell(t, way, repeat(t, calls, 4, ask))
		n := bad.seen().calls - before
		t.Logf("%s: %d of %d calls met the broken backend", way, n, calls)
		if n < 1 || n > calls/5 {
			t.Errorf("%s: %d of %d calls met the broken backend", way, n, calls)
		}
		if sample(t, c.g, "sluice_upstream_ejections_total") <= ejections {
			t.Errorf("%s: nobody was left out", way)
		}
		bad.does(nil)
		begin := time.Now()
		eventually(t, patience, func() error {
			before := bad.seen().calls
			allWell(t, way, repeat(t, 10, 1, ask))
			return atLeast(float64(bad.seen().calls-before), 3)
		})
		t.Logf("%s: it has its share again %v after it was well", way, time.Since(begin).Round(time.Millisecond))
	}
}

// TestReconnect: a backend that was away for a while is used within 2 s of its return,
// though nothing was asked meanwhile.
func TestReconnect(t *testing.T) {
	t.Parallel()
	p := startSite(t, 1)
	for range 2 {
		p.orders[0].kill()
		p.grpc[0].down()
		p.http[0].down()
		becomes(t, p.g, "sluice_upstream_backends", 2)
		eventually(t, patience, func() error { // The wait before the next try is as long as it gets.
			return atLeast(sample(t, p.g, "sluice_upstream_backends", `state="failed"`), 1)
		})
		time.Sleep(2 * time.Second)
		p.orders[0] = p.orders[0].again(t)
		begin := time.Now()
		p.grpc[0].up(t)
		p.http[0].up(t)
		var took []time.Duration
		for way, ask := range p.ways(listOrders("ada")) {
			eventually(t, patience, func() error {
				if r := ask(bounded(t)); !r.is(codes.OK, "") {
					time.Sleep(100 * time.Millisecond) // So few that the breaker stays out of it.
					return fmt.Errorf("%s: %v", way, r)
				}
				return nil
			})
			took = append(took, time.Since(begin).Round(time.Millisecond))
		}
		t.Logf("used again after %v", took)
	}
}

// TestCallersWhoLeave: calls that callers give up say nothing of the backend: they
// reach it as cancelled, and the breaker stays closed.
func TestCallersWhoLeave(t *testing.T) {
	t.Parallel()
	b := newCounted(t)
	c := startCounted(t, object{}, nil, b)
	for way, ask := range c.ways(getUser("ada")) {
		letGo := b.holds()
		const calls = 60
		before := b.seen()
		ctx, leave := context.WithCancel(bounded(t))
		var callers sync.WaitGroup
		for range calls {
			callers.Go(func() { ask(ctx) })
		}
		eventually(t, patience, func() error { return atLeast(float64(b.seen().inFlight), calls) })
		leave()
		callers.Wait()
		eventually(t, patience, func() error { return atLeast(float64(b.seen().cancelled-before.cancelled), calls) })
		letGo()
		if err := c.closed(t, userService, "payments"); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		allWell(t, way, repeat(t, 10, 2, ask))
	}
}

// TestInjectedFaults: what the configuration says is done to the calls it names, and
// to nobody else; the service is not asked.
func TestInjectedFaults(t *testing.T) {
	t.Parallel()
	b := newCounted(t)
	c := startCounted(t, object{"faults": []object{
		{"abort": "UNAVAILABLE", "percent": 100, "header": "x-fault", "value": "abort"},
		{"delay": "300ms", "percent": 100, "header": "x-fault", "value": "delay"},
	}}, nil, b)
	get := func(value string) (answer, time.Duration) {
		begin := time.Now()
		a, err := c.g.send(bounded(t), "GET", "/v1/users/ada", strings.TrimPrefix(c.value, "Bearer "), nil, "X-Fault", value)
		if err != nil {
			t.Fatal(err)
		}
		return a, time.Since(begin)
	}
	for range 30 {
		if a, _ := get("abort"); a.status != 503 || !strings.Contains(string(a.body), "FAULT_INJECTED") {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if r := c.overGRPC(getUser("ada"))(metadata.AppendToOutgoingContext(bounded(t), "x-fault", "abort")); !r.is(codes.Unavailable, "FAULT_INJECTED") {
		t.Errorf("gRPC: %v", r)
	}
	if n := b.seen().calls; n != 0 {
		t.Errorf("%d calls reached the service", n)
	}
	if a, took := get("delay"); a.status != 200 || took < 300*time.Millisecond {
		t.Errorf("delayed: %d after %v", a.status, took)
	}
	if a, _ := get("other"); a.status != 200 {
		t.Errorf("not meant: %d %s", a.status, a.body)
	}
	if err := c.closed(t, userService); err != nil {
		t.Error(err)
	}
	if aborts, delays := sample(t, c.g, "sluice_faults_total", `kind="abort"`), sample(t, c.g, "sluice_faults_total", `kind="delay"`); aborts != 31 || delays != 1 {
		t.Errorf("the metric says %v aborts, %v delays", aborts, delays)
	}
}
