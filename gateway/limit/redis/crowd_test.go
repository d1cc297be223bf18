package redis_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
)

const crowdedMetric = "sluice_limit_redis_crowded_total"

// slowed is a way to Redis on which answers take a while longer.
func slowed(t *testing.T, to string, delay time.Duration) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to)
			if err != nil {
				_ = down.Close()
				continue
			}
			mu.Lock()
			open = append(open, down, up)
			mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(up, down); _ = up.Close() })
			wg.Go(func() { late(down, up, delay); _ = down.Close() })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// late copies, each part so much later than it came.
func late(to io.Writer, from io.Reader, delay time.Duration) {
	type part struct {
		at   time.Time
		data []byte
	}
	parts := make(chan part, 1<<16)
	go func() {
		defer close(parts)
		for {
			b := make([]byte, 4096)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			parts <- part{time.Now().Add(delay), b[:n]}
		}
	}()
	for p := range parts {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.data); err != nil {
			for range parts { // Until the reader's connection ends, too.
			}
			return
		}
	}
}

// TestCrowdIsNoOutage lets 3000 callers ask a healthy Redis at once, which is some
// way off: what does not get its turn opens no breaker, and is never admitted
// without being counted.
func TestCrowdIsNoOutage(t *testing.T) {
	const callers, budget = 3000, 100
	for _, fallback := range []redis.Fallback{redis.Open, redis.Closed, redis.Local} {
		t.Run(string(fallback), func(t *testing.T) {
			registry, log := prometheus.NewRegistry(), &lines{}
			o := redis.Options{
				URL:      "redis://" + slowed(t, redistest.Start(t).Addr(), 300*time.Millisecond),
				Fallback: fallback, Timeout: patient, Metrics: registry, Log: logTo(log),
			}
			if fallback == redis.Local {
				o.Local = newLocal(t, t.TempDir(), time.Now)
			}
			s := openUp(t, o)
			var admitted, failed atomic.Int64
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					ok, err := s.Take(t.Context(), []limit.Ask{rate("r", "mallory", 1, budget, time.Hour)}, make([]limit.Answer, 1))
					if err != nil {
						failed.Add(1)
					} else if ok {
						admitted.Add(1)
					}
				})
			}
			wg.Wait()
			crowded := metric(t, registry, crowdedMetric)
			t.Logf("%d admitted, %d failed, %v found no turn", admitted.Load(), failed.Load(), crowded)
			if crowded == 0 {
				t.Error("there was no crowd")
			}
			most := int64(budget)
			if fallback == redis.Local {
				most *= 2 // Redis's budget, and this gateway's own.
			}
			if n := admitted.Load(); n < budget || n > most {
				t.Errorf("%d admitted of a budget of %d", n, budget)
			}
			if refused := failed.Load() > 0; refused != (fallback != redis.Local) {
				t.Errorf("decisions failed: %v", refused)
			}
			if n := metric(t, registry, fallbackMetric); n != 0 || !s.Up() || log.count("level=WARN") > 0 {
				t.Errorf("redis counts as down: the fallback decided %v times, up %v\n%s", n, s.Up(), log)
			}
		})
	}
}
