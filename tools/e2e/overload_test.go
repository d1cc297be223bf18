package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// The backend of these tests serves so many calls at once, each for so long: 100 a
// second, so that ten times that is no load for the machine. What is beyond waits, first come, first served.
const (
	places      = 10
	serviceTime = 100 * time.Millisecond
	capacity    = places * int(time.Second/serviceTime)
)

// limited makes a backend one of fixed capacity.
func limited(b *counted) {
	free := make(chan struct{}, places)
	b.does(func(ctx context.Context) error {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-free }()
		time.Sleep(serviceTime) // The work.
		return nil
	})
}

// TestOverload: ten times the capacity is offered, whether anybody waits or not.
// What the backend can do it does, the rest is told at once when to come again, and
// all is well when the crowd is gone.
func TestOverload(t *testing.T) {
	t.Run("RPC", func(t *testing.T) { overload(t, userService, "REST", "gRPC") })
	t.Run("plain HTTP", func(t *testing.T) { overload(t, "payments", "HTTP") })
}

func overload(t *testing.T, service string, over ...string) {
	b := newCounted(t)
	limited(b)
	c := startCounted(t, object{}, nil, b)
	var asks []asker
	for _, way := range over {
		asks = append(asks, c.ways(getUser("ada"))[way])
	}
	allWell(t, "first", repeat(t, 20, 2, asks[0]))

	lasting := lasts()
	most := c.offer(t, asks, capacity*9/10, lasting)
	t.Logf("nine tenths:    %v", most)
	peak := c.offer(t, asks, capacity, lasting/2)
	t.Logf("at capacity:    %v", peak)
	ctx, stop := context.WithCancel(t.Context())
	var health sync.WaitGroup
	slowest := time.Duration(0)
	health.Go(func() { slowest = c.stays(ctx, t) })
	over10 := c.offer(t, asks, 10*capacity, lasting)
	stop()
	health.Wait()
	t.Logf("ten times that: %v; bound %v; slowest health check %v", over10, sample(t, c.g, "sluice_concurrency_limit", `service="`+service+`"`), slowest.Round(time.Millisecond))
	recovered := c.recovers(t, asks).Sub(over10.ended)
	after := c.offer(t, asks, capacity/2, time.Second)
	t.Logf("half of it:     %v; recovered %v after the last call of the crowd", after, recovered.Round(time.Millisecond))

	served, refused := len(over10.served), len(over10.refused)
	if served == 0 || refused == 0 {
		t.Errorf("%d calls were served and %d refused: there was no overload, or no service", served, refused)
	}
	for _, r := range over10.others {
		if r.err == nil { // The machine's own failures under load are no answers.
			t.Fatalf("a call was neither served nor refused as it should: %v", r)
		}
	}
	if os.Getenv("SLUICE_OVERLOAD") == "" {
		return // Figures are the machine's too: gateway/resilience judges them in virtual time.
	}
	if over10.asked < int(6*float64(capacity)*lasting.Seconds()) {
		t.Errorf("only %d calls were offered in %v: the machine is too busy for figures", over10.asked, lasting)
	}
	if len(most.refused) > most.asked/100 {
		t.Errorf("%d of %d calls were refused at nine tenths of the capacity", len(most.refused), most.asked)
	}
	if least := 0.95 * peak.goodput(); over10.goodput() < least {
		t.Errorf("goodput is %.0f/s, want %.0f/s: 95%% of the peak", over10.goodput(), least)
	}
	if p99, at := percentile(over10.served, 99), percentile(peak.served, 99); p99 > 3*at {
		t.Errorf("p99 of what was admitted is %v, and %v at capacity: the limit is not at the knee", p99, at)
	}
	if bad := after.asked - len(after.served); bad > 0 {
		t.Errorf("%d of %d calls failed when the load was gone", bad, after.asked)
	}
}

// lasts is how long each load is offered: SLUICE_OVERLOAD=20s is for figures, such as those
// of docs/decisions/0021-resilience.md.
func lasts() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("SLUICE_OVERLOAD")); err == nil {
		return d
	}
	return 4 * time.Second
}

// offered is what became of an open load.
type offered struct {
	asked           int
	within          time.Duration // until the last was answered
	ended           time.Time     // when the last was begun
	served, refused []time.Duration
	others          []reply
}

func (o offered) goodput() float64 { return float64(len(o.served)) / o.within.Seconds() }

func (o offered) String() string {
	return fmt.Sprintf("%d offered in %v, %.0f/s served (p50 %v, p99 %v), %d refused (p50 %v, p99 %v), %d otherwise", o.asked, o.within.Round(time.Millisecond), o.goodput(),
		percentile(o.served, 50), percentile(o.served, 99), len(o.refused), percentile(o.refused, 50), percentile(o.refused, 99), len(o.others))
}

// percentile is 0 of nothing.
func percentile(of []time.Duration, p int) time.Duration {
	if len(of) == 0 {
		return 0
	}
	of = slices.Sorted(slices.Values(of))
	return of[min(len(of)*p/100, len(of)-1)].Round(100 * time.Microsecond)
}

// offer begins so many calls a second, evenly, however many are unanswered, and by
// each asker in turn. It returns when all are.
func (c caller) offer(t *testing.T, asks []asker, rate int, lasting time.Duration) offered {
	t.Helper()
	var (
		mu   sync.Mutex
		all  sync.WaitGroup
		o    offered
		ctx  = bounded(t)
		tick = time.NewTicker(5 * time.Millisecond)
	)
	defer tick.Stop()
	begin := time.Now()
	for o.asked < int(lasting.Seconds()*float64(rate)) && time.Since(begin) < 2*lasting {
		for due := int(time.Since(begin).Seconds() * float64(rate)); o.asked < due; o.asked++ {
			ask := asks[o.asked%len(asks)]
			all.Go(func() {
				r := ask(ctx)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case r.is(codes.OK, ""):
					o.served = append(o.served, r.took)
				case r.refused() && r.reason == "UPSTREAM_OVERLOADED":
					o.refused = append(o.refused, r.took)
				default:
					o.others = append(o.others, r)
				}
			})
		}
		<-tick.C
	}
	o.ended = time.Now()
	all.Wait()
	o.within = time.Since(begin)
	return o
}

// stays asks /healthz and /readyz until ctx ends, and returns the longest wait.
func (c caller) stays(ctx context.Context, t *testing.T) (slowest time.Duration) {
	client := http.Client{Timeout: patience}
	for ctx.Err() == nil {
		for _, page := range []string{"/healthz", "/readyz"} {
			begin := time.Now()
			res, err := client.Get(c.g.admin + page)
			if err != nil {
				t.Error(err)
				return slowest
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", page, res.Status)
			}
			slowest = max(slowest, time.Since(begin))
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return slowest
}

// recovers waits until 20 calls in a row are served in less than twice what they
// take without a queue and a little, and returns when the first of them began.
func (c caller) recovers(t *testing.T, asks []asker) (since time.Time) {
	t.Helper()
	n := 0
	eventually(t, patience, func() error {
		begin := time.Now()
		if r := asks[n%len(asks)](bounded(t)); !r.is(codes.OK, "") || r.took > 2*serviceTime+100*time.Millisecond {
			n = 0
			return fmt.Errorf("%v", r)
		}
		if n++; n == 1 {
			since = begin
		}
		return atLeast(float64(n), 20)
	})
	return since
}
