package ledger_test

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
)

// TestTwoLedgers runs two processes' worth of callers on one file.
func TestTwoLedgers(t *testing.T) {
	c := newClock("2024-05-05T12:00:00Z")
	o := ledger.Options{File: filepath.Join(t.TempDir(), "quotas.db"), Now: c.now}
	ls := []*ledger.Ledger{open(t, o), open(t, o)}
	const size = 20_000
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := 0; n < 5_000; n++ {
				answers := make([]limit.Answer, 2)
				ok, err := ls[i%2].Take(t.Context(), []limit.Ask{day("ada", 1, size), month("eve", 1, 1_000_000)}, answers)
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	left := admitted.Load()
	if left > size || left < size-2*20 {
		t.Fatalf("admitted %d of %d", left, size)
	}
	// What one has leased and does not use, it gives back; then the other has it.
	if err := ls[0].Close(); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Minute)
	rest := drain(t, ls[1], day("ada", 1, size))
	t.Logf("admitted %d together, then %d", left, rest)
	if left+rest != size {
		t.Errorf("admitted %d + %d, want %d", left, rest, size)
	}
}

// TestIdleKeysGiveBack lets one process take what another has leased and left.
func TestIdleKeysGiveBack(t *testing.T) {
	c := newClock("2024-05-05T12:00:00Z")
	o := ledger.Options{File: filepath.Join(t.TempDir(), "quotas.db"), Now: c.now}
	idle, busy := open(t, o), open(t, o)
	const size = 100_000
	take(t, idle, day("ada", 1, size))
	first := drain(t, busy, day("ada", 1, size))
	if first >= size-1 {
		t.Fatalf("nothing was leased: %d", first)
	}
	c.advance(time.Hour)
	idle.Sweep()
	if n := idle.Keys(); n != 0 {
		t.Errorf("%d keys in memory", n)
	}
	total := 1 + first
	for deadline := time.Now().Add(10 * time.Second); total < size && time.Now().Before(deadline); c.advance(time.Second) {
		total += drain(t, busy, day("ada", 1, size))
	}
	if total != size {
		t.Errorf("admitted %d of %d", total, size)
	}
}

// TestRefusalsCostNoDisk asks again and again for a quota that is used up.
func TestRefusalsCostNoDisk(t *testing.T) {
	c, r := newClock("2024-05-05T12:00:00Z"), prometheus.NewRegistry()
	l := open(t, ledger.Options{Now: c.now, Metrics: r})
	drain(t, l, day("ada", 1, 50))
	before := commits(t, r)
	for range 1000 {
		if ok, _ := take(t, l, day("ada", 1, 50)); ok {
			t.Fatal("admitted")
		}
	}
	if n := commits(t, r) - before; n != 0 {
		t.Errorf("%d commits", n)
	}
	c.advance(2 * time.Second) // Another process may have given back meanwhile.
	for range 1000 {
		take(t, l, day("ada", 1, 50))
	}
	if n := commits(t, r) - before; n != 1 {
		t.Errorf("%d commits, want one", n)
	}
}

func commits(t *testing.T, r *prometheus.Registry) (n uint64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sluice_quota_commit_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatal("no metric")
	return 0
}
