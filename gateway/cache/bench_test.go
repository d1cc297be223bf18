package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// BenchmarkHit is a key and the look-up of what is fresh.
func BenchmarkHit(b *testing.B) {
	c, err := cache.New(cache.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := c.Route("/a.B/C", &policy.Cache{TTL: time.Hour})
	p := policy.NewPrincipal("ada", "https://issuer.example", []string{"orders.read", "users.read"}, time.Time{})
	build := func(dst []byte) []byte { return cache.AppendPart(r.AppendKey(dst, p), "a request of some bytes") }
	if _, _, err := r.Do(context.Background(), build(nil), nil, false, body("answer")); err != nil {
		b.Fatal(err)
	}
	memory := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Get(build(memory[:0])) }); n != 0 {
		b.Errorf("%v allocations", n)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		memory := make([]byte, 0, 512)
		for pb.Next() {
			if e, s := r.Get(build(memory[:0])); e == nil || s != cache.Hit {
				b.Error(s)
				return
			}
		}
	})
}
