package ledger_test

import (
	"fmt"
	"math"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
)

func TestGrant(t *testing.T) {
	for _, tc := range []struct{ used, size, want, lease, grant int64 }{
		{0, 1_000_000, 1, 0, 1000},
		{0, 1_000_000, 0, 400, 600},
		{0, 1 << 40, 1, 0, 1024},
		{0, math.MaxInt64, 5000, 0, 5000}, // What a call costs, it gets.
		{990_000, 1_000_000, 1, 0, 625},   // Blocks shrink near the end,
		{999_990, 1_000_000, 1, 0, 1},     // to what is needed,
		{999_990, 1_000_000, 0, 0, 0},     // and nothing ahead of need.
		{999_990, 1_000_000, 20, 0, 10},
		{1_000_000, 1_000_000, 1, 0, 0},
		{2_000_000, 1_000_000, 1, 0, 0}, // The quota was made smaller.
		{0, 10, 1, 0, 1},
		{0, 10, 0, 0, 0},
		{0, 100, 0, 0, 1},
		{0, 100, 0, 1, 0},
		{0, 0, 1, 0, 0},
		{0, 100, 0, 5, 0}, // A lease from when the quota was larger.
	} {
		if got := ledger.Grant(tc.used, tc.size, tc.want, tc.lease); got != tc.grant {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}

func TestHitPathDoesNotAllocate(t *testing.T) {
	l := open(t, ledger.Options{})
	asks := []limit.Ask{day("ada", 1, math.MaxInt64), month("ada", 1, math.MaxInt64)}
	answers := make([]limit.Answer, 2)
	if ok, _ := take(t, l, asks...); !ok {
		t.Fatal("refused")
	}
	if n := testing.AllocsPerRun(200, func() {
		if ok, err := l.Take(t.Context(), asks, answers); !ok || err != nil {
			t.Error(ok, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHit(b *testing.B) {
	l := open(b, ledger.Options{})
	asks := []limit.Ask{day("ada", 1, math.MaxInt64), month("ada", 1, math.MaxInt64)}
	answers := make([]limit.Answer, 2)
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := l.Take(b.Context(), asks, answers); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkHitParallel(b *testing.B) {
	l := open(b, ledger.Options{})
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		asks := []limit.Ask{day(fmt.Sprint("user-", n.Add(1)), 1, math.MaxInt64)}
		answers := make([]limit.Answer, 1)
		for pb.Next() {
			if ok, err := l.Take(b.Context(), asks, answers); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}

// BenchmarkNewKeys is the worst case: each call waits for the disk.
func BenchmarkNewKeys(b *testing.B) {
	l := open(b, ledger.Options{File: filepath.Join(b.TempDir(), "q.db")})
	var n atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		answers := make([]limit.Answer, 1)
		for pb.Next() {
			asks := []limit.Ask{day(fmt.Sprint("user-", n.Add(1)), 1, 1000)}
			if ok, err := l.Take(b.Context(), asks, answers); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}
