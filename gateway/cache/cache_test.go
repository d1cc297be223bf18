package cache_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestKept(t *testing.T) {
	c, err := cache.New(cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Route("/a.B/C", &policy.Cache{Public: true, TTL: time.Minute})
	key := cache.AppendPart(r.AppendKey(nil, policy.Anonymous), "x")
	for i, want := range []cache.Status{cache.Miss, cache.Hit} {
		e, s, err := r.Do(context.Background(), key, nil, false, func(context.Context) (*cache.Entry, error) {
			return &cache.Entry{Body: []byte("b")}, nil
		})
		if err != nil || s != want || string(e.Body) != "b" || !e.Kept() {
			t.Errorf("call %d: %v, %v, %v", i, e, s, err)
		}
	}
	if n := c.Purge(); n != 1 || c.Stats().Entries != 0 || c.Stats().Tags != 0 {
		t.Errorf("purged %d, left %+v", n, c.Stats())
	}
}
