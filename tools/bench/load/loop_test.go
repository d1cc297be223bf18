package load

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake notes the requests it is given; call says how each ends.
type fake struct {
	mu   *sync.Mutex
	seen *[]int
	call func(ctx context.Context, n int) error
}

func (f fake) Call(ctx context.Context, n int) error {
	f.mu.Lock()
	*f.seen = append(*f.seen, n)
	f.mu.Unlock()
	return f.call(ctx, n)
}
func (fake) Interrupt()   {}
func (fake) Close() error { return nil }

func fakes(n int, call func(ctx context.Context, n int) error) ([]Caller, *[]int) {
	var callers []Caller
	mu, seen := &sync.Mutex{}, &[]int{}
	for range n {
		callers = append(callers, fake{mu, seen, call})
	}
	return callers, seen
}

func numbers(from, to int) (out []int) {
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

func TestClosedSendsEachRequestOnce(t *testing.T) {
	callers, seen := fakes(3, func(context.Context, int) error { return nil })
	r, err := Closed(t.Context(), callers, Bounds{Requests: 100, For: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(*seen)
	if !slices.Equal(*seen, numbers(0, 100)) || len(r.Latencies) != 100 || !slices.IsSorted(r.Latencies) {
		t.Errorf("%d latencies, sent %v", len(r.Latencies), *seen)
	}
}

func TestOpenSendsEachRequestOnce(t *testing.T) {
	callers, seen := fakes(3, func(context.Context, int) error { return nil })
	r, err := Open(t.Context(), callers, 50, 10_000, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(*seen)
	if !slices.Equal(*seen, numbers(50, 250)) || len(r.Latencies) != 200 || len(r.Late) != 200 {
		t.Errorf("%d latencies, %d late, sent %v", len(r.Latencies), len(r.Late), *seen)
	}
	if last := Due(199, 10_000); r.Elapsed < last {
		t.Errorf("it took %v, though the last request was due after %v", r.Elapsed, last)
	}
}

// A server that stalls is not asked less: what was due meanwhile has waited, and
// its latency says so.
func TestOpenCountsFromWhenRequestsWereDue(t *testing.T) {
	const stall = 200 * time.Millisecond
	callers, _ := fakes(1, func(_ context.Context, n int) error {
		if n == 0 {
			time.Sleep(stall)
		}
		return nil
	})
	r, err := Open(t.Context(), callers, 0, 1000, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	// All 100 were due within the stall: none can have waited less than its rest.
	if least, want := r.Latencies[0], stall-Due(99, 1000); least < want {
		t.Errorf("the quickest of those that waited took %v, want at least %v", least, want)
	}
}

func TestLoopsEndAtTheFirstFailure(t *testing.T) {
	failure := errors.New("no more")
	call := func(_ context.Context, n int) error {
		if n >= 10 {
			return failure
		}
		return nil
	}
	callers, _ := fakes(4, call)
	if _, err := Closed(t.Context(), callers, Bounds{Requests: 1 << 30, For: time.Hour}); !errors.Is(err, failure) {
		t.Errorf("closed: error %v, want %v", err, failure)
	}
	if _, err := Open(t.Context(), callers, 0, 10_000, time.Hour/10_000); !errors.Is(err, failure) {
		t.Errorf("open: error %v, want %v", err, failure)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	idle, _ := fakes(1, func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
	if _, err := Closed(ctx, idle, Bounds{Requests: 1, For: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
	if _, err := Open(t.Context(), idle, 0, 1, time.Millisecond); err == nil {
		t.Error("no request in the time, and no error")
	}
}

func TestPercentile(t *testing.T) {
	thousand := make([]time.Duration, 1000)
	for i := range thousand {
		thousand[i] = time.Duration(i + 1)
	}
	for p, want := range map[float64]time.Duration{0: 1, 50: 500, 99: 990, 99.9: 999, 99.99: 1000, 100: 1000} {
		if got := Percentile(thousand, p); got != want {
			t.Errorf("p%v: %d, want %d", p, got, want)
		}
	}
	if got := Percentile([]time.Duration{7}, 99.9); got != 7 {
		t.Errorf("p99.9 of one: %v", got)
	}
	if got := Percentile(nil, 50); got != 0 {
		t.Errorf("p50 of none: %v", got)
	}
}

func TestDue(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 0, 1: 250 * time.Microsecond, 4000: time.Second, 40_000_000: 10_000 * time.Second} {
		if got := Due(n, 4000); got != want {
			t.Errorf("request %d of 4,000 a second: due after %v, want %v", n, got, want)
		}
	}
}
