package redis_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/ledger"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is a timeout for tests that are not about it: the machine is busy.
const patient = 2 * time.Second

// open opens a store that the test closes.
func open(t testing.TB, o redis.Options) *redis.Store {
	t.Helper()
	if o.Fallback == "" && o.Local == nil {
		o.Fallback = redis.Closed
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := redis.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openUp opens a store and waits until Redis decides.
func openUp(t testing.TB, o redis.Options) *redis.Store {
	t.Helper()
	s := open(t, o)
	await(t, "redis to be up", s.Up)
	return s
}

func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func rate(name, who string, cost, size int64, emission time.Duration) limit.Ask {
	return limit.Ask{Key: limit.Key{Limit: name, Who: who}, Cost: cost, Size: size, Emission: emission}
}

func quota(name, who string, cost, size int64, p limit.Period) limit.Ask {
	return limit.Ask{Key: limit.Key{Limit: name, Who: who}, Cost: cost, Size: size, Period: p}
}

func take(t testing.TB, s limit.Store, asks ...limit.Ask) (bool, []limit.Answer) {
	t.Helper()
	answers := make([]limit.Answer, len(asks))
	ok, err := s.Take(t.Context(), asks, answers)
	if err != nil {
		t.Fatal(err)
	}
	return ok, answers
}

// newLocal is a gateway's own store: memory and a ledger.
func newLocal(t testing.TB, dir string, now func() time.Time) limit.Store {
	t.Helper()
	l, err := ledger.Open(context.Background(), ledger.Options{File: dir + "/quotas.db", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return limit.NewLocal(limit.NewMemory(limit.MemoryOptions{MaxKeys: 4096, Now: now}), l)
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) count(s string) int { return strings.Count(l.String(), s) }

func logTo(l *lines) *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
