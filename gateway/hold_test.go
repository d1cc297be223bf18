package gateway

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestHold: whoever holds a snapshot finds it open, however often it is replaced.
func TestHold(t *testing.T) {
	var c current
	type open struct{ closed atomic.Bool }
	state := map[*snapshot]*open{}
	var mu sync.Mutex
	of := func(s *snapshot) *open {
		mu.Lock()
		defer mu.Unlock()
		if state[s] == nil {
			state[s] = &open{}
		}
		return state[s]
	}
	c.p.Store(newVersion(&snapshot{}))
	stop := make(chan struct{})
	var users, retiring sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h := c.take()
				for range 10 {
					if of(h.of.snapshot).closed.Load() {
						t.Error("a snapshot was closed while it was held")
					}
				}
				h.Release()
			}
		})
	}
	for range 500 {
		old := c.p.Swap(newVersion(&snapshot{}))
		retiring.Go(func() {
			old.retire()
			of(old.snapshot).closed.Store(true)
		})
	}
	close(stop)
	users.Wait()
	retiring.Wait() // Nobody waits for a snapshot that all have given back.
}

// BenchmarkHold is what a reload that can come at any time costs each request,
// beside what one counter for all would, and beside nothing.
func BenchmarkHold(b *testing.B) {
	var c current
	c.p.Store(newVersion(&snapshot{}))
	var one atomic.Int64
	for _, bench := range []struct {
		name string
		do   func()
	}{
		{"spread", func() { c.take().Release() }},
		{"one counter", func() { one.Add(1); _ = c.p.Load(); one.Add(-1) }},
		{"unheld", func() { _ = c.p.Load() }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					bench.do()
				}
			})
		})
	}
}
