package limit

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// step moves the clock and takes cost from the one budget of the test.
type step struct {
	after time.Duration
	cost  int64
	want  Answer
}

func yes(remaining int64, reset time.Duration) Answer {
	return Answer{OK: true, Remaining: remaining, Reset: reset}
}

func no(remaining int64, reset, retry time.Duration) Answer {
	return Answer{Remaining: remaining, Reset: reset, Retry: retry}
}

func TestGCRA(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for name, tc := range map[string]struct {
		size     int64
		emission time.Duration
		steps    []step
	}{
		"burst, then empty": {3, s, []step{
			{0, 1, yes(2, s)}, {0, 1, yes(1, 2*s)}, {0, 1, yes(0, 3*s)}, {0, 1, no(0, 3*s, s)}, {0, 1, no(0, 3*s, s)},
		}},
		"who waits exactly Retry gets in, a nanosecond less does not": {2, s, []step{
			{0, 2, yes(0, 2*s)}, {s - 1, 1, no(0, s+1, 1)}, {1, 1, yes(0, 2*s)}, {2*s - 1, 2, no(1, 1, 1)}, {1, 2, yes(0, 2*s)},
		}},
		"steady rate": {1, 100 * ms, []step{
			{0, 1, yes(0, 100*ms)}, {100 * ms, 1, yes(0, 100*ms)}, {100 * ms, 1, yes(0, 100*ms)}, {50 * ms, 1, no(0, 50*ms, 50*ms)}, {50 * ms, 1, yes(0, 100*ms)},
		}},
		"idle fills no more than the burst": {2, s, []step{
			{0, 2, yes(0, 2*s)}, {time.Hour, 2, yes(0, 2*s)}, {0, 1, no(0, 2*s, s)},
		}},
		"a refusal takes nothing": {5, s, []step{
			{0, 3, yes(2, 3*s)}, {0, 3, no(2, 3*s, s)}, {0, 2, yes(0, 5*s)},
		}},
		"a cost of the whole budget": {4, s, []step{
			{0, 4, yes(0, 4*s)}, {s, 4, no(1, 3*s, 3*s)}, {3 * s, 4, yes(0, 4*s)},
		}},
		"a cost larger than the budget": {4, s, []step{
			{0, 5, no(4, 0, -1)}, {0, 1, yes(3, s)}, {0, 5, no(3, s, -1)}, {0, math.MaxInt64, no(3, s, -1)},
		}},
		"the clock goes back: no reset, no lock-out": {2, s, []step{
			{time.Hour, 2, yes(0, 2*s)}, {-time.Hour, 1, no(0, 2*s, s)}, {s, 1, yes(0, 2*s)},
			{-24 * time.Hour, 1, no(0, 2*s, s)}, {2 * s, 2, yes(0, 2*s)},
		}},
		"the clock jumps ahead": {2, s, []step{
			{0, 2, yes(0, 2*s)}, {20 * 365 * 24 * time.Hour, 2, yes(0, 2*s)}, {0, 1, no(0, 2*s, s)},
		}},
		"a window beyond an int64": {math.MaxInt64, time.Hour, []step{
			{0, 1, yes((maxWindow-int64(time.Hour))/int64(time.Hour), time.Hour)},
			{0, math.MaxInt64, no((maxWindow-int64(time.Hour))/int64(time.Hour), time.Hour, time.Hour)},
		}},
		"a billion a second": {1e9, 1, []step{
			{0, 1e9, yes(0, s)}, {0, 1, no(0, s, 1)}, {1, 1, yes(0, s)}, {s, 1e9, yes(0, s)},
		}},
		"the longest emission": {2, math.MaxInt64, []step{
			{0, 1, yes(0, time.Duration(maxWindow))}, {0, 1, no(0, time.Duration(maxWindow), time.Duration(maxWindow))},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &fakeClock{}
			m := NewMemory(MemoryOptions{MaxKeys: 1024, Now: clock.now})
			for i, st := range tc.steps {
				clock.advance(st.after)
				got := take(t, m, Ask{Key: Key{Limit: "l"}, Cost: st.cost, Size: tc.size, Emission: tc.emission})
				if diff := cmp.Diff(st.want, got); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func TestABudgetThatWasMadeSmallerIsAtMostEmpty(t *testing.T) {
	m := NewMemory(MemoryOptions{MaxKeys: 64, Now: (&fakeClock{}).now})
	take(t, m, Ask{Cost: 1000, Size: 1000, Emission: time.Hour})
	if got, want := take(t, m, Ask{Cost: 1, Size: 2, Emission: time.Second}), no(0, 2*time.Second, time.Second); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// bucketModel is the same promise told another way: tokens that drip into a
// bucket, in exact arithmetic of emission/size units.
type bucketModel struct {
	missing int64 // Nanoseconds of drip that are missing to full.
	at      int64
}

func (b *bucketModel) drip(now int64) {
	b.missing = max(0, b.missing-(now-b.at))
	b.at = now
}

func TestMemoryAgreesWithATokenBucket(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	clock := &fakeClock{}
	m := NewMemory(MemoryOptions{MaxKeys: 1 << 12, Now: clock.now})
	limits := []Ask{
		{Key: Key{Limit: "fast"}, Size: 10, Emission: time.Millisecond},
		{Key: Key{Limit: "slow"}, Size: 3, Emission: 70 * time.Millisecond},
		{Key: Key{Limit: "odd"}, Size: 7, Emission: 333333},
	}
	model := map[Key]*bucketModel{}
	admitted := 0
	for range 50000 {
		clock.advance(time.Duration(rnd.Int64N(int64(3 * time.Millisecond))))
		asks := make([]Ask, 0, len(limits))
		for _, i := range rnd.Perm(len(limits))[:1+rnd.IntN(len(limits))] {
			a := limits[i]
			a.Key.Who, a.Cost = string(rune('a'+rnd.IntN(4))), 1+rnd.Int64N(3)
			asks = append(asks, a)
		}
		want := true
		for _, a := range asks {
			if model[a.Key] == nil {
				model[a.Key] = &bucketModel{}
			}
			b := model[a.Key]
			b.drip(clock.ns.Load())
			want = want && b.missing+a.Cost*int64(a.Emission) <= a.Size*int64(a.Emission)
		}
		answers := make([]Answer, len(asks))
		got, err := m.Take(context.Background(), asks, answers)
		if err != nil || got != want {
			t.Fatalf("asks %+v: got %v, %v; want %v", asks, got, err, want)
		}
		for i, a := range asks {
			b := model[a.Key]
			if got {
				admitted++
				b.missing += a.Cost * int64(a.Emission)
			}
			left := a.Size - (b.missing+int64(a.Emission)-1)/int64(a.Emission)
			if answers[i].Remaining != left || int64(answers[i].Reset) != b.missing {
				t.Fatalf("ask %+v: answer %+v, want %d left and reset %d", a, answers[i], left, b.missing)
			}
		}
	}
	if admitted < 1000 {
		t.Errorf("only %d tokens were taken: the test tests little", admitted)
	}
}
