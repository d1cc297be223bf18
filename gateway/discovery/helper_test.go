package discovery

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// seen is what a watch has told.
type seen struct {
	mu       sync.Mutex
	sets     []string // each as addr*weight, with spaces between
	failures []string
}

// watch watches target until the test ends.
func watch(t *testing.T, r *Registry, target string) (*seen, Resolver) {
	t.Helper()
	w, err := r.Resolve(target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, done := &seen{}, make(chan struct{})
	go func() {
		defer close(done)
		w.Watch(ctx, func(bs []Backend, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				s.failures = append(s.failures, err.Error())
				return
			}
			var all []string
			for _, b := range bs {
				a := b.Addr
				if b.Weight > 1 {
					a += "*" + string(rune('0'+b.Weight))
				}
				all = append(all, a)
			}
			s.sets = append(s.sets, strings.Join(all, " "))
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return s, w
}

func (s *seen) last() (set string, sets, failures int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.sets); n > 0 {
		set = s.sets[n-1]
	}
	return set, len(s.sets), len(s.failures)
}

func (s *seen) until(t *testing.T, want string) {
	t.Helper()
	eventually(t, "the set "+want, func() bool {
		set, n, _ := s.last()
		return n > 0 && set == want
	})
}

// fails does what makes it fail, and waits until it has. A failure that is told once may
// be told before do returns.
func (s *seen) fails(t *testing.T, do func()) {
	t.Helper()
	_, _, before := s.last()
	do()
	eventually(t, "a failure", func() bool {
		_, _, n := s.last()
		return n > before
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func registry(t *testing.T, o Options) *Registry {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// counted is sluice_discovery_updates_total by source and outcome.
func counted(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() { // Labels are in order: outcome, source.
			got[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return got
}
