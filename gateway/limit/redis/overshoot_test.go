package redis_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
)

// TestTwoGatewaysAtTenTimesTheLimit counts what two gateways on one Redis admit:
// at most 1 % more than the limit.
func TestTwoGatewaysAtTenTimesTheLimit(t *testing.T) {
	server := redistest.Start(t)
	stores := []*redis.Store{
		openUp(t, redis.Options{URL: server.URL(), Timeout: patient}),
		openUp(t, redis.Options{URL: server.URL(), Timeout: patient}),
	}
	const (
		perSecond = 100
		burst     = 50
		quotaSize = 300
		rounds    = 100 // of each caller
	)
	var asked, admitted, counted atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	// 30 callers without a pause. How often they ask is the machine's business: what is
	// judged is what they were given in the time that passed.
	for i := range 30 {
		wg.Go(func() {
			for range rounds {
				asks := []limit.Ask{rate("rate", "ada", 1, burst, time.Second/perSecond)}
				ok, err := stores[i%2].Take(t.Context(), asks, make([]limit.Answer, 1))
				if err != nil {
					t.Error(err)
					return
				}
				asked.Add(1)
				if ok {
					admitted.Add(1)
				}
				ok, err = stores[i%2].Take(t.Context(), []limit.Ask{quota("quota", "ada", 1, quotaSize, limit.Month)}, make([]limit.Answer, 1))
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					counted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	limited := burst + perSecond*took.Seconds()
	over := 100 * (float64(admitted.Load())/limited - 1)
	t.Logf("%d asked in %s, %d admitted of %.1f: %+.2f %%; quota: %d of %d",
		asked.Load(), took.Round(time.Millisecond), admitted.Load(), limited, over, counted.Load(), quotaSize)
	if admitted.Load() < burst || admitted.Load() == asked.Load() {
		t.Error("the limit refused nobody, or more than it should")
	}
	if over > 1 {
		t.Errorf("%.2f %% over the limit", over)
	}
	if counted.Load() != quotaSize {
		t.Errorf("quota: %d", counted.Load())
	}
}

// BenchmarkTake is decisions a second of 16 goroutines.
func BenchmarkTake(b *testing.B) {
	s := openUp(b, redis.Options{URL: redistest.Start(b).URL(), Timeout: patient})
	for _, budgets := range []int{1, 3} {
		b.Run(fmt.Sprint(budgets, " budgets"), func(b *testing.B) {
			var n atomic.Int64
			b.SetParallelism(8) // times two cores
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				who := fmt.Sprint("user-", n.Add(1))
				asks := []limit.Ask{
					rate("read/principal/0", who, 1, 1<<40, time.Microsecond),
					rate("read/method/0", "/shop.user.v1.UserService/GetUser", 1, 1<<40, time.Microsecond),
					quota("read/principal/1", who, 1, 1<<40, limit.Month),
				}[:budgets]
				answers := make([]limit.Answer, budgets)
				for pb.Next() {
					if ok, err := s.Take(b.Context(), asks, answers); !ok || err != nil {
						b.Error(ok, err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}
