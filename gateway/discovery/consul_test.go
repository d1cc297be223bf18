package discovery

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// agent speaks Consul's documented health API: GET /v1/health/service/:name with
// passing, tag, index, wait and the token's header, X-Consul-Index in its answers. It
// is not Consul, which cannot be installed here.
type agent struct {
	mu      sync.Mutex
	index   uint64
	changed chan struct{}
	entries []map[string]any
	token   string
	status  int
	queries []string
}

func serveConsul(t *testing.T) (*agent, string) {
	t.Helper()
	a := &agent{index: 10, changed: make(chan struct{})}
	srv := httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return a, srv.URL
}

func (a *agent) set(index uint64, status int, instances ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = a.entries[:0:0]
	for _, i := range instances { // addr:port*weight, without an address the node's
		addr, weight, _ := strings.Cut(i, "*")
		host, port, _ := strings.Cut(addr, ":")
		n, _ := strconv.Atoi(port)
		w, _ := strconv.Atoi(weight)
		a.entries = append(a.entries, map[string]any{
			"Node":    map[string]any{"Node": "n1", "Address": "10.9.9.9"},
			"Service": map[string]any{"ID": i, "Service": "users", "Address": host, "Port": n, "Weights": map[string]int{"Passing": w, "Warning": 1}},
		})
	}
	a.index, a.status = index, status
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *agent) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	a.mu.Lock()
	a.queries = append(a.queries, r.URL.Path+"?tag="+q.Get("tag")+"&passing="+q.Get("passing")+"&dc="+q.Get("dc"))
	token := a.token
	asked, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	wait, _ := time.ParseDuration(q.Get("wait"))
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for a.index == asked && a.status == 0 {
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-timeout.C:
			asked = 0
		case <-r.Context().Done():
			return
		}
		a.mu.Lock()
	}
	defer a.mu.Unlock()
	switch {
	case r.Header.Get("X-Consul-Token") != token:
		http.Error(w, "Permission denied", http.StatusForbidden)
	case a.status != 0:
		http.Error(w, "No cluster leader", a.status)
	default:
		if a.index > 0 {
			w.Header().Set("X-Consul-Index", fmt.Sprint(a.index))
		}
		_ = json.NewEncoder(w).Encode(a.entries)
	}
}

// TestConsul: instances come and go, as soon as they do; while Consul is away the set
// stays; an index that goes back, and an empty answer after trouble, are as documented.
func TestConsul(t *testing.T) {
	a, addr := serveConsul(t)
	file, reg := filepath.Join(t.TempDir(), "token"), prometheus.NewRegistry()
	if err := os.WriteFile(file, []byte("s1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.token = "s1"
	r := registry(t, Options{Consul: &ConsulOptions{Address: addr, TokenFile: file, Datacenter: "dc1"}, Metrics: reg})
	r.grace = time.Second
	a.set(10, 0, "10.0.0.1:80*1", ":81*3")
	s, _ := watch(t, r, "consul:///users?tag=v2")
	s.until(t, "10.0.0.1:80 10.9.9.9:81*3")
	a.mu.Lock()
	if want := "/v1/health/service/users?tag=v2&passing=1&dc=dc1"; a.queries[0] != want {
		t.Errorf("asked %s", a.queries[0])
	}
	a.mu.Unlock()
	a.set(11, 0, "10.0.0.1:80*1", "10.0.0.2:80*1", "::bad:0*1")
	s.until(t, "10.0.0.1:80 10.0.0.2:80")
	s.fails(t, func() { a.set(11, 500) })
	if set, _, _ := s.last(); set != "10.0.0.1:80 10.0.0.2:80" {
		t.Errorf("Consul is away, and the set became %q", set)
	}
	a.set(12, 0, "10.0.0.3:80*1")
	s.until(t, "10.0.0.3:80")
	a.set(3, 0, "10.0.0.4:80*1") // It was restored from a backup.
	s.until(t, "10.0.0.4:80")
	a.set(4, 0)
	s.until(t, "")

	a.set(5, 0, "10.0.0.5:80*1")
	s.until(t, "10.0.0.5:80")
	s.fails(t, func() { a.set(5, 500) })
	a.set(6, 0)
	eventually(t, "an empty answer that is not believed", func() bool { return counted(t, reg)["consul kept"] > 0 })
	s.until(t, "")

	a.mu.Lock()
	a.token = "s2"
	a.mu.Unlock()
	s.fails(t, func() { a.set(7, 0, "10.0.0.6:80*1") })
	if err := os.WriteFile(file, []byte("s2"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.until(t, "10.0.0.6:80")
	s.fails(t, func() { a.set(0, 0, "10.0.0.7:80*1") }) // No index: what answers is no agent.
}
