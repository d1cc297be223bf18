package limit

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const million = 1_000_000

// liveHeap is what the process uses of its heap, in bytes, after two collections.
// Resident memory would be another figure on every kernel.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // Far from the end of int64.
}

// A million callers whose budgets do not fill within the test, in a table of the
// default size, 95 places of 100. Run with -v for the figures.
func TestMillionKeys(t *testing.T) {
	reg := prometheus.NewRegistry()
	idle := liveHeap()
	m := NewMemory(MemoryOptions{Metrics: reg})
	empty := liveHeap() - idle
	ask := func(i int) Ask {
		return Ask{Key: Key{"read/principal/0", "user-" + strconv.Itoa(i)}, Cost: 3, Size: 10, Emission: time.Hour}
	}
	start := time.Now()
	for i := range million {
		if a := take(t, m, ask(i)); !a.OK || a.Remaining != 7 {
			t.Fatalf("caller %d: %+v", i, a)
		}
	}
	first := time.Since(start)
	used := liveHeap() - idle
	evicted := int(metric(t, reg, "sluice_limit_evicted_total"))
	keys := m.keys()

	forgotten := 0
	start = time.Now()
	for i := range million {
		a := ask(i)
		a.Cost = 11 // Looks, and takes nothing.
		if take(t, m, a).Remaining != 7 {
			forgotten++
		}
	}
	t.Logf("live heap above idle: %.1f MiB empty, %.1f MiB with a million keys", float64(empty)/(1<<20), float64(used)/(1<<20))
	t.Logf("%v a first call, %v a later one, the key's string included", first/million, time.Since(start)/million)
	t.Logf("%d keys are remembered, %d (%.2f%%) were evicted", keys, evicted, 100*float64(evicted)/million)
	if used > 64<<20 {
		t.Errorf("a million keys take %d bytes", used)
	}
	if keys != million-evicted || forgotten != evicted {
		t.Errorf("%d keys are remembered and %d forgotten, after %d evictions", keys, forgotten, evicted)
	}
	if evicted > million*4/100 {
		t.Errorf("%d keys were evicted from a table with room for all", evicted)
	}
}
