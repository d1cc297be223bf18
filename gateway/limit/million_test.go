package limit

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const million = 1_000_000

// resident is the resident memory of the process in bytes.
func resident(t testing.TB) int64 {
	t.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// A million callers whose budgets do not fill within the test, in a table of the
// default size, 95 places of 100. Run with -v for the figures.
func TestMillionKeys(t *testing.T) {
	reg := prometheus.NewRegistry()
	idle := resident(t)
	m := NewMemory(MemoryOptions{Metrics: reg})
	empty := resident(t) - idle
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
	used := resident(t) - idle
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
	t.Logf("resident above idle: %.1f MiB empty, %.1f MiB with a million keys", float64(empty)/(1<<20), float64(used)/(1<<20))
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
