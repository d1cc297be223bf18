package resilience

import (
	"testing"
	"time"
)

// What an attempt pays, with all calls of a service at once: everything, and the parts
// beside the libraries' (docs/decisions/0021-resilience.md).

func newBench(b *testing.B, o Options) *Class {
	b.Helper()
	s, err := NewService(o)
	if err != nil {
		b.Fatal(err)
	}
	return s.Class("read")
}

func parallel(b *testing.B, do func()) {
	b.Helper()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			do()
		}
	})
}

func BenchmarkAcquireDone(b *testing.B) {
	c := newBench(b, Options{})
	parallel(b, func() {
		p, err := c.Acquire(Whole)
		if err != nil {
			b.Error(err)
		}
		p.Done(Success)
	})
}

func BenchmarkAcquireDoneOff(b *testing.B) {
	c := newBench(b, Options{Breaker: BreakerOptions{Off: true}, Concurrency: ConcurrencyOptions{Off: true}, Budget: BudgetOptions{Off: true}})
	parallel(b, func() {
		p, _ := c.Acquire(Whole)
		p.Done(Success)
	})
}

func BenchmarkRefused(b *testing.B) {
	c := newBench(b, Options{Concurrency: ConcurrencyOptions{Min: 1, Max: 1}})
	_, _ = c.Acquire(Whole)
	parallel(b, func() { _, _ = c.Acquire(Whole) })
}

func BenchmarkRefusedByBreaker(b *testing.B) {
	c := newBench(b, Options{})
	if err := c.service.Force("read", "open"); err != nil {
		b.Fatal(err)
	}
	parallel(b, func() { _, _ = c.Acquire(Whole) })
}

func BenchmarkTryRetry(b *testing.B) {
	s := newBench(b, Options{}).service
	parallel(b, func() { s.TryRetry() })
}

func BenchmarkBreaker(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		s := newBench(b, Options{}).service
		c, o := s.Class("read"), s.options.Load()
		parallel(b, func() {
			word, id, _, _ := c.breaker.acquire(s.now(), &o.Breaker)
			c.breaker.done(word, id, Success, s.now(), &o.Breaker)
		})
	})
	b.Run("gobreaker", func(b *testing.B) {
		l := newSony(breakerCase{successes: 3})
		parallel(b, func() {
			done, _ := l.b.Allow()
			done(nil)
		})
	})
	b.Run("failsafe-go", func(b *testing.B) {
		l := newFailsafe(breakerCase{successes: 3})
		parallel(b, func() {
			l.b.TryAcquirePermit()
			l.b.RecordSuccess()
		})
	})
}

func BenchmarkConcurrency(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		s := newBench(b, Options{}).service
		c, o := s.Class("read"), s.options.Load()
		parallel(b, func() {
			at := s.now()
			if s.limiter.enter(Whole, &o.Concurrency) {
				now := s.now()
				s.limiter.leave()
				s.limiter.count(&c.latency, Success, now-at, now)
				s.limiter.turn(now, &o.Concurrency)
			}
		})
	})
	b.Run("failsafe-go", func(b *testing.B) {
		l := newFailsafeLimiter()
		parallel(b, func() {
			if p, ok := l.l.TryAcquirePermit(); ok {
				p.Record()
			}
		})
	})
}

func BenchmarkOutlier(b *testing.B) {
	o := NewOutlier(OutlierOptions{}, nil)
	o.Update([]string{"10.0.0.1:9090", "10.0.0.2:9090"})
	parallel(b, func() {
		if !o.Ejected("10.0.0.2:9090") {
			o.Report("10.0.0.2:9090", true)
		}
	})
}

func BenchmarkWindow(b *testing.B) {
	var w window
	for b.Loop() {
		w.sum(time.Second, 10*time.Second)
	}
}
