package discovery

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.uber.org/zap"

	"github.com/sluice-gateway/sluice/tools/etcdtest"
)

// startEtcd runs a real etcd. at is its client URL, or empty for a free port.
func startEtcd(t *testing.T, dir, at string) (addr string, stop func()) {
	t.Helper()
	addr, stop = etcdtest.Start(t, dir, strings.TrimPrefix(at, "http://"))
	return "http://" + addr, stop
}

// writer writes as services do: with etcd's own naming package.
type writer struct {
	*clientv3.Client
	t *testing.T
}

func write(t *testing.T, addr string) writer {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return writer{c, t}
}

func (w writer) do(f func(ctx context.Context, m endpoints.Manager, key string) error) {
	w.t.Helper()
	m, err := endpoints.NewManager(w.Client, DefaultEtcdPrefix+"users")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	if err := f(ctx, m, DefaultEtcdPrefix+"users/"); err != nil {
		w.t.Fatal(err)
	}
}

func (w writer) add(addr string, weight any, o ...clientv3.OpOption) {
	w.t.Helper()
	w.do(func(ctx context.Context, m endpoints.Manager, key string) error {
		return m.AddEndpoint(ctx, key+addr, endpoints.Endpoint{Addr: addr, Metadata: weight}, o...)
	})
}

func (w writer) remove(addr string) {
	w.t.Helper()
	w.do(func(ctx context.Context, m endpoints.Manager, key string) error {
		return m.DeleteEndpoint(ctx, key+addr)
	})
}

// TestEtcd: keys come, change, go and cannot be read; the last that goes is believed.
func TestEtcd(t *testing.T) {
	t.Parallel()
	addr, _ := startEtcd(t, t.TempDir(), "")
	w := write(t, addr)
	w.add("10.0.0.1:80", nil)
	r := registry(t, Options{Etcd: &EtcdOptions{Endpoints: []string{addr}}})
	s, _ := watch(t, r, "etcd:///users")
	s.until(t, "10.0.0.1:80")
	w.add("10.0.0.2:80", map[string]int{"weight": 3})
	s.until(t, "10.0.0.1:80 10.0.0.2:80*3")
	w.add("10.0.0.2:80", 5)
	s.until(t, "10.0.0.1:80 10.0.0.2:80*5")
	if _, err := w.Put(t.Context(), DefaultEtcdPrefix+"users/bad", "?"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Put(t.Context(), DefaultEtcdPrefix+"users2/x", `{"Addr":"10.0.0.9:80"}`); err != nil {
		t.Fatal(err)
	}
	w.remove("10.0.0.1:80")
	s.until(t, "10.0.0.2:80*5")
	lease, err := w.Grant(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	w.add("10.0.0.2:80", nil, clientv3.WithLease(lease.ID)) // Nobody keeps it alive.
	s.until(t, "10.0.0.2:80")
	s.until(t, "")
	if _, _, failures := s.last(); failures != 0 {
		t.Errorf("failures: %v", s.failures)
	}
}

// TestEtcdAway: while etcd is away the set stays; what happened meanwhile is seen when
// it is back, also when it has forgotten how it happened; an etcd that lost its data is
// believed after a while only.
func TestEtcdAway(t *testing.T) {
	t.Parallel()
	dir, reg := t.TempDir(), prometheus.NewRegistry()
	addr, stop := startEtcd(t, dir, "")
	w := write(t, addr)
	w.add("10.0.0.1:80", nil)
	w.add("10.0.0.2:80", nil)
	r := registry(t, Options{Etcd: &EtcdOptions{Endpoints: []string{addr}}, Metrics: reg})
	r.relist, r.grace = 200*time.Millisecond, 3*time.Second
	s, _ := watch(t, r, "etcd:///users")
	s.until(t, "10.0.0.1:80 10.0.0.2:80")
	s.fails(t, stop)
	if set, n, _ := s.last(); set != "10.0.0.1:80 10.0.0.2:80" || n != 1 {
		t.Fatalf("etcd is away, and the set became %q", set)
	}
	_, stop = startEtcd(t, dir, addr)
	w = write(t, addr)
	w.add("10.0.0.3:80", nil)
	s.until(t, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")

	stop()
	_, stop = startEtcd(t, t.TempDir(), addr) // All is lost.
	w = write(t, addr)
	eventually(t, "an empty answer that is not believed", func() bool { return counted(t, reg)["etcd kept"] > 0 })
	if set, _, _ := s.last(); set != "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80" {
		t.Fatalf("an etcd without data was believed at once: %q", set)
	}
	s.until(t, "")
	w.add("10.0.0.3:80", nil)
	s.until(t, "10.0.0.3:80")
	stop()
}

// TestEtcdCompaction: a watch that asks for what etcd has forgotten lists anew.
func TestEtcdCompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	addr, stop := startEtcd(t, dir, "")
	w := write(t, addr)
	w.add("10.0.0.1:80", nil)
	r := registry(t, Options{Etcd: &EtcdOptions{Endpoints: []string{addr}}})
	r.relist = time.Hour // So that the watch alone must find out.
	s, _ := watch(t, r, "etcd:///users")
	s.until(t, "10.0.0.1:80")
	stop()
	// On another port it changes and forgets, where the gateway cannot see it.
	elsewhere, stop := startEtcd(t, dir, "")
	w = write(t, elsewhere)
	w.add("10.0.0.2:80", nil)
	w.remove("10.0.0.1:80")
	answer, err := w.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Compact(t.Context(), answer.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	stop()
	startEtcd(t, dir, addr)
	s.until(t, "10.0.0.2:80")
}

// TestEtcdLate: a gateway may start before etcd does.
func TestEtcdLate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	addr, stop := startEtcd(t, dir, "")
	write(t, addr).add("10.0.0.1:80", nil)
	stop()
	r := registry(t, Options{Etcd: &EtcdOptions{Endpoints: []string{addr}}})
	s, _ := watch(t, r, "etcd:///users")
	eventually(t, "a failure", func() bool {
		_, _, n := s.last()
		return n > 0
	})
	startEtcd(t, dir, addr)
	s.until(t, "10.0.0.1:80")
}

// TestEtcdReplaced: another etcd stands where one was, and is past its revision
// already: the watch goes on from there and tells nothing, so the list must.
func TestEtcdReplaced(t *testing.T) {
	t.Parallel()
	addr, stop := startEtcd(t, t.TempDir(), "")
	write(t, addr).add("10.0.0.1:80", nil)
	r := registry(t, Options{Etcd: &EtcdOptions{Endpoints: []string{addr}}})
	r.relist = 5 * time.Second // Longer than etcd is away: the list must not fail meanwhile.
	s, _ := watch(t, r, "etcd:///users")
	s.until(t, "10.0.0.1:80")

	dir := t.TempDir()
	elsewhere, stopOther := startEtcd(t, dir, "")
	w := write(t, elsewhere)
	w.add("10.0.0.9:80", nil)
	for range 20 {
		if _, err := w.Put(t.Context(), "other", "x"); err != nil {
			t.Fatal(err)
		}
	}
	stopOther()
	stop()
	startEtcd(t, dir, addr)
	s.until(t, "10.0.0.9:80")
}
