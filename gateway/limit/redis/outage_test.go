package redis_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
)

// load calls a store from many goroutines and remembers what it saw.
type load struct {
	decisions, admitted, failed, slowest atomic.Int64
	stop                                 context.CancelFunc
	wg                                   sync.WaitGroup
}

func startLoad(s limit.Store, goroutines int, ask limit.Ask) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	for range goroutines {
		l.wg.Go(func() {
			answers := make([]limit.Answer, 1)
			for ctx.Err() == nil {
				start := time.Now()
				ok, err := s.Take(context.Background(), []limit.Ask{ask}, answers)
				took := int64(time.Since(start))
				for was := l.slowest.Load(); took > was && !l.slowest.CompareAndSwap(was, took); was = l.slowest.Load() {
				}
				l.decisions.Add(1)
				if err != nil {
					l.failed.Add(1)
				} else if ok {
					l.admitted.Add(1)
				}
				time.Sleep(time.Millisecond) // A machine of two cores shall have time for Redis.
			}
		})
	}
	return l
}

func (l *load) end() { l.stop(); l.wg.Wait() }

// reset forgets the slowest decision, and returns it.
func (l *load) reset() time.Duration { return time.Duration(l.slowest.Swap(0)) }

const fallbackMetric = "sluice_limit_fallback_total"

func metric(t testing.TB, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestOutages lets Redis die and stand still for 5 s under load, with each
// fallback. No decision waits for it, and it is used again when it is back.
func TestOutages(t *testing.T) {
	for _, fallback := range []redis.Fallback{redis.Local, redis.Closed, redis.Open} {
		t.Run(string(fallback), func(t *testing.T) {
			t.Parallel()
			outages(t, fallback)
		})
	}
}

func outages(t *testing.T, fallback redis.Fallback) {
	server := redistest.Start(t)
	registry, log := prometheus.NewRegistry(), &lines{}
	o := redis.Options{URL: server.URL(), Fallback: fallback, Metrics: registry, Log: logTo(log)}
	if fallback == redis.Local {
		o.Local = newLocal(t, t.TempDir(), time.Now)
	}
	s := openUp(t, o)
	// More than the fallback admits, were it local, and more than is asked for.
	l := startLoad(s, 32, rate("r", "ada", 1, 1<<40, time.Millisecond))
	defer l.end()
	await(t, "decisions", func() bool { return l.decisions.Load() > 500 })
	goroutines := runtime.NumGoroutine()
	for _, outage := range []struct {
		name        string
		begin, back func(testing.TB)
	}{
		{"killed", server.Kill, server.Restart},
		{"stopped", server.Pause, server.Resume},
	} {
		before, failed := metric(t, registry, fallbackMetric), l.failed.Load()
		outage.begin(t)
		await(t, outage.name+" to be noticed", func() bool {
			return !s.Up() && metric(t, registry, "sluice_limit_redis_up") == 0 && metric(t, registry, fallbackMetric) > before+100
		})
		time.Sleep(5 * time.Second) // The outage itself.
		if n := runtime.NumGoroutine(); n > goroutines+300 {
			t.Errorf("%s: %d goroutines, %d before", outage.name, n, goroutines)
		}
		outage.back(t)
		back := time.Now()
		await(t, "redis to be used again", s.Up)
		recovered := time.Since(back)
		n := l.decisions.Load()
		await(t, "decisions", func() bool { return l.decisions.Load() > n+200 })
		slowest := l.reset()
		t.Logf("%s, %s: slowest decision %s, %.0f by the fallback, recovered in %s, %d goroutines",
			fallback, outage.name, slowest, metric(t, registry, fallbackMetric)-before, recovered, runtime.NumGoroutine())
		if refused := l.failed.Load() > failed; refused != (fallback == redis.Closed) {
			t.Errorf("%s: fallback %s, decisions failed: %v", outage.name, fallback, refused)
		}
	}
	// A machine that is busy for 10 ms is an outage, too: one may be under way.
	await(t, "redis to be used in the end", func() bool {
		return metric(t, registry, "sluice_limit_redis_up") == 1 && log.count("level=WARN") == log.count("level=INFO")
	})
	if warned := log.count("level=WARN"); warned < 2 || warned > 20 {
		t.Errorf("%d warnings are logged:\n%s", warned, log)
	}
}

// TestDownAtStart opens a store before its Redis is there.
func TestDownAtStart(t *testing.T) {
	server := redistest.Start(t)
	server.Kill(t)
	s := open(t, redis.Options{URL: server.URL(), Fallback: redis.Open, Timeout: patient})
	for range 100 {
		if ok, a := take(t, s, rate("r", "a", 1, 1, time.Hour)); !ok || a[0].Remaining != 0 {
			t.Fatalf("fallback open: %v %+v", ok, a)
		}
	}
	server.Restart(t)
	await(t, "redis to be up", s.Up)
	if ok, _ := take(t, s, rate("r", "a", 1, 1, time.Hour)); !ok {
		t.Error("the first was refused")
	}
	if ok, _ := take(t, s, rate("r", "a", 1, 1, time.Hour)); ok {
		t.Error("the second was admitted")
	}
}

// TestErrorReplies makes Redis answer, but not decide.
func TestErrorReplies(t *testing.T) {
	ask := rate("r", "a", 1, 1<<30, time.Millisecond)
	for name, tc := range map[string]struct {
		args          []string
		broken, fixed [][]string
	}{
		"no memory": {nil, [][]string{{"CONFIG", "SET", "maxmemory", "1"}}, [][]string{{"CONFIG", "SET", "maxmemory", "0"}}},
		"read only": {nil, [][]string{{"REPLICAOF", "127.0.0.1", "1"}}, [][]string{{"REPLICAOF", "NO", "ONE"}}},
		"password": {nil, [][]string{{"CONFIG", "SET", "requirepass", "s"}, {"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}},
			[][]string{{"CONFIG", "SET", "requirepass", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, tc.args...)
			registry, log := prometheus.NewRegistry(), &lines{}
			s := openUp(t, redis.Options{URL: server.URL(), Metrics: registry, Timeout: patient, Log: logTo(log)})
			take(t, s, ask)
			do := server.Client(t)
			for _, c := range tc.broken {
				do(c...)
			}
			answers := make([]limit.Answer, 1)
			for range 3 {
				if ok, err := s.Take(t.Context(), []limit.Ask{ask}, answers); ok || err == nil {
					t.Fatalf("admitted %v, %v", ok, err)
				}
			}
			await(t, "the fallback", func() bool { return !s.Up() && metric(t, registry, "sluice_limit_redis_up") == 0 })
			for _, c := range tc.fixed {
				do(c...)
			}
			await(t, "redis to be used again", s.Up)
			take(t, s, ask)
			if w, i := log.count("level=WARN"), log.count("level=INFO"); w != 1 || i != 1 {
				t.Errorf("logged %d and %d:\n%s", w, i, log)
			}
		})
	}
}

// TestScriptIsFlushed forgets the script: it is sent again, and nobody notices.
func TestScriptIsFlushed(t *testing.T) {
	server := redistest.Start(t)
	registry := prometheus.NewRegistry()
	s := openUp(t, redis.Options{URL: server.URL(), Metrics: registry, Timeout: patient})
	do := server.Client(t)
	for i := range int64(5) {
		do("SCRIPT", "FLUSH")
		if ok, a := take(t, s, rate("r", "a", 1, 10, time.Hour)); !ok || a[0].Remaining != 9-i {
			t.Errorf("%v %+v", ok, a)
		}
	}
	if n := metric(t, registry, fallbackMetric); n != 0 {
		t.Errorf("the fallback decided %v times", n)
	}
}

// TestCallersGiveUp cancels callers: that is not Redis's fault, and its connection
// stays.
func TestCallersGiveUp(t *testing.T) {
	server := redistest.Start(t)
	registry := prometheus.NewRegistry()
	s := openUp(t, redis.Options{URL: server.URL(), Metrics: registry, Timeout: patient})
	connections := func() string {
		for _, line := range strings.Split(server.Client(t)("INFO", "stats"), "\r\n") {
			if strings.HasPrefix(line, "total_connections_received") {
				return line
			}
		}
		return ""
	}
	do := server.Client(t)
	before := connections()
	server.Pause(t)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if ok, err := s.Take(ctx, []limit.Ask{rate("r", "a", 1, 10, time.Hour)}, make([]limit.Answer, 1)); ok || err == nil {
				t.Error(ok, err)
			}
		})
	}
	wg.Wait()
	server.Resume(t)
	if s.InFlight() != 0 {
		t.Errorf("%d in flight", s.InFlight())
	}
	await(t, "redis", s.Up)
	take(t, s, rate("r", "b", 1, 10, time.Hour))
	_ = do("PING")
	if after := connections(); !oneMore(before, after) {
		t.Errorf("%s, then %s", before, after)
	}
	if n := metric(t, registry, fallbackMetric); n != 0 {
		t.Errorf("the fallback decided %v times", n)
	}
}

// oneMore says whether only the test's own next client has connected.
func oneMore(before, after string) bool {
	var a, b int
	_, err1 := fmt.Sscanf(before, "total_connections_received:%d", &a)
	_, err2 := fmt.Sscanf(after, "total_connections_received:%d", &b)
	return err1 == nil && err2 == nil && b == a+1
}

// TestInFlightIsBounded lets 2000 callers at once ask a Redis that stands still.
func TestInFlightIsBounded(t *testing.T) {
	server := redistest.Start(t)
	s := openUp(t, redis.Options{URL: server.URL(), Local: newLocal(t, t.TempDir(), time.Now), Timeout: 200 * time.Millisecond})
	server.Pause(t)
	defer server.Resume(t)
	l := startLoad(s, 2000, rate("r", "a", 1, 1, time.Hour))
	most := 0
	await(t, "everyone to have decided", func() bool {
		most = max(most, s.InFlight())
		return l.decisions.Load() > 2000
	})
	l.end()
	if most > 256 {
		t.Errorf("%d in flight", most)
	}
	t.Logf("slowest decision %s", l.reset())
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d decisions failed", n)
	}
}

func TestTwoStoresOnOneRegistry(t *testing.T) {
	r := prometheus.NewRegistry()
	open(t, redis.Options{URL: "redis://127.0.0.1:1", Metrics: r})
	if s, err := redis.New(redis.Options{URL: "redis://127.0.0.1:1", Fallback: redis.Open, Metrics: r}); err == nil {
		t.Error("two stores count in the same metrics", s.Close())
	}
}
