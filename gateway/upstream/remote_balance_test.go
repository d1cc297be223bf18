package upstream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// TestRemoteSpread: each policy over real connections.
func TestRemoteSpread(t *testing.T) {
	for policy, want := range map[string][3]int64{
		balance.RoundRobin: {200, 200, 200}, balance.Weighted: {100, 200, 300}, balance.LeastRequest: {100, 200, 300},
	} {
		t.Run(policy, func(t *testing.T) {
			a, b, c := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
			target := remoteOf(t, upstream.RemoteOptions{Endpoints: endpointsOf(a, b, c), Balancing: upstream.BalancingOptions{Policy: policy}})
			until(t, target, "ready", "ready", "ready")
			for range 600 {
				if err := send(t, target, nil); err != nil {
					t.Fatal(err)
				}
			}
			off := int64(5)
			if policy == balance.LeastRequest {
				off = 70
			}
			for i, s := range []*place{a, b, c} {
				if n := s.calls.Load(); n < want[i]-off || n > want[i]+off {
					t.Errorf("backend %d got %d of 600 calls, want %d±%d", i, n, want[i], off)
				}
			}
		})
	}
}

// TestRemotePick: a call says whom to avoid, and learns whom it got.
func TestRemotePick(t *testing.T) {
	a, b := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	target := remoteOf(t, upstream.RemoteOptions{Endpoints: endpointsOf(a, b)})
	until(t, target, "ready", "ready")
	for range 20 {
		p := &balance.Pick{Avoid: a.addr}
		if err := send(t, target, p); err != nil || p.Chosen != b.addr {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if n := a.calls.Load(); n != 0 {
		t.Errorf("%d calls reached whom they avoid", n)
	}
}

// TestRemoteEjection: a backend that fails is left out and comes back; answers such as
// NOT_FOUND are no failures.
func TestRemoteEjection(t *testing.T) {
	a, b := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	a.code.Store(uint32(codes.NotFound))
	target := remoteOf(t, upstream.RemoteOptions{Endpoints: endpointsOf(a, b), Outlier: resilience.OutlierOptions{BaseEjection: 300 * time.Millisecond}})
	until(t, target, "ready", "ready")
	state := func() balance.BackendState {
		for _, s := range target.Backends() {
			if s.Addr == a.addr {
				return s
			}
		}
		t.Fatal("it is gone")
		return balance.BackendState{}
	}
	for range 40 {
		_ = send(t, target, nil)
	}
	if s := state(); s.Ejections != 0 {
		t.Fatalf("NOT_FOUND had it left out: %+v", s)
	}
	a.code.Store(uint32(codes.Unavailable))
	for i := 0; state().Ejections == 0; i++ {
		if i > 40 {
			t.Fatal("it is never left out")
		}
		_ = send(t, target, nil)
	}
	a.code.Store(uint32(codes.OK))
	before := a.calls.Load()
	for end := time.Now().Add(60 * time.Second); a.calls.Load() == before; {
		if err := send(t, target, nil); err != nil || time.Now().After(end) {
			t.Fatalf("it never comes back: %v", err)
		}
	}
}

// TestRemoteHealth: a backend that says NOT_SERVING gets no more calls, and no call
// fails for it; where all say so, they are called all the same.
func TestRemoteHealth(t *testing.T) {
	const name = "x.Y"
	a, b := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	for _, s := range []*place{a, b} {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	target := remoteOf(t, upstream.RemoteOptions{Endpoints: endpointsOf(a, b), HealthCheck: &upstream.HealthCheckOptions{Service: name}})
	until(t, target, "ready", "ready")
	stop := load(t, target)
	of := func(s *place, is, other string) []string {
		if (s.addr < a.addr) == (s.addr < b.addr) && s == a && a.addr > b.addr || s == b && b.addr > a.addr {
			return []string{other, is}
		}
		return []string{is, other}
	}
	for range 3 {
		a.health.SetServingStatus(name, healthpb.HealthCheckResponse_NOT_SERVING)
		until(t, target, of(a, "unhealthy", "ready")...)
		time.Sleep(20 * time.Millisecond) // Calls that were picked before.
		before := a.calls.Load()
		time.Sleep(50 * time.Millisecond)
		if n := a.calls.Load() - before; n != 0 {
			t.Errorf("%d calls went to a backend that does not serve", n)
		}
		a.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
		until(t, target, "ready", "ready")
	}
	a.health.SetServingStatus(name, healthpb.HealthCheckResponse_NOT_SERVING)
	b.health.SetServingStatus(name, healthpb.HealthCheckResponse_NOT_SERVING)
	until(t, target, "unhealthy", "unhealthy")
	time.Sleep(20 * time.Millisecond)
	if calls, failed, err := stop(); failed != 0 || calls == 0 {
		t.Errorf("%d of %d calls failed: %v", failed, calls, err)
	}
	if err := send(t, target, nil); err != nil {
		t.Errorf("all say that they do not serve: %v", err)
	}
}

// TestRemoteTargetsChange: backends come and go under load, and no call fails; those in
// flight to one that goes are answered by it.
func TestRemoteTargetsChange(t *testing.T) {
	where := &catalogue{}
	all := []*place{serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")}
	where.set(all...)
	target := remoteOf(t, upstream.RemoteOptions{Target: "consul:///users", Discovery: where.registry(t)})
	until(t, target, "ready", "ready", "ready")
	for _, s := range all {
		s.hold.Store(int64(5 * time.Millisecond))
	}
	stop := load(t, target)
	for i := range 12 {
		where.set(all[i%3])
		until(t, target, "ready")
		where.set(all...)
		until(t, target, "ready", "ready", "ready")
	}
	where.set(all[0])
	until(t, target, "ready")
	where.set(all[1]) // All are others.
	until(t, target, "ready")
	if calls, failed, err := stop(); failed != 0 || calls == 0 {
		t.Errorf("%d of %d calls failed: %v", failed, calls, err)
	}
	where.set()
	until(t, target)
	if err := send(t, target, nil); !upstream.NotSent(err) || !strings.Contains(err.Error(), "knows none") {
		t.Errorf("there is nobody: %v", err)
	}
}

// TestRemoteIsBack: a backend that was away is used again once it is back, though
// nothing was asked meanwhile. How soon is logged: connectBackoffMax bounds it.
func TestRemoteIsBack(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	target := remoteOf(t, upstream.RemoteOptions{Target: s.addr})
	until(t, target, "ready")
	for range 2 {
		s.stop()
		until(t, target, "failed")
		err := send(t, target, nil)
		if !upstream.NotSent(err) || upstream.ConnectionLost(err) {
			t.Errorf("nobody is there: %v", err)
		}
		s = serve(t, s.addr)
		start := time.Now()
		for send(t, target, nil) != nil {
			if time.Since(start) > 60*time.Second {
				t.Fatal("it is never used again")
			}
			time.Sleep(time.Millisecond)
		}
		t.Logf("used again after %v", time.Since(start))
	}
}

// TestRemoteLost: a connection that ends mid-call is told apart from a backend's own
// UNAVAILABLE, and a backend that drains loses no call.
func TestRemoteLost(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	target := remoteOf(t, upstream.RemoteOptions{Target: s.addr})
	until(t, target, "ready")
	s.code.Store(uint32(codes.Unavailable))
	if err := send(t, target, nil); status.Code(err) != codes.Unavailable || upstream.ConnectionLost(err) || upstream.NotSent(err) {
		t.Errorf("it answered UNAVAILABLE: %v", err)
	}
	s.code.Store(uint32(codes.OK))
	for name, end := range map[string]func(s *place){"stop": func(s *place) { s.stop() }, "drain": func(s *place) { s.drain() }} {
		s.stop()
		until(t, target, "failed") // Or what follows could be about the connection before.
		s = serve(t, s.addr)
		s.hold.Store(int64(300 * time.Millisecond))
		until(t, target, "ready")
		got := make(chan error, 1)
		go func() { got <- send(t, target, nil) }()
		for s.calls.Load() == 0 && len(got) == 0 {
			time.Sleep(time.Millisecond)
		}
		end(s)
		err := <-got
		if name == "stop" && (!upstream.ConnectionLost(err) || upstream.NotSent(err)) {
			t.Errorf("the connection ended: %v", err)
		}
		if name == "drain" && err != nil {
			t.Errorf("it drained: %v", err)
		}
	}
}

// TestRemoteOptions: what cannot be right is an error that says so.
func TestRemoteOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		o    upstream.RemoteOptions
		want string
	}{
		"neither":     {upstream.RemoteOptions{}, "state either target or endpoints"},
		"both":        {upstream.RemoteOptions{Target: "a:1", Endpoints: []discovery.Backend{{Addr: "a:1"}}}, "state either target or endpoints"},
		"an endpoint": {upstream.RemoteOptions{Endpoints: []discovery.Backend{{Addr: "etcd:///users"}}}, "must be host:port or unix:path"},
		"no etcd":     {upstream.RemoteOptions{Target: "etcd:///users"}, "configure discovery.etcd"},
		"policy":      {upstream.RemoteOptions{Target: "a:1", Balancing: upstream.BalancingOptions{Policy: "best"}}, "least_request"},
	} {
		if _, err := upstream.Remote(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := upstream.CheckTarget("etcd:///users"); err != nil {
		t.Error(err)
	}
	target := remoteOf(t, upstream.RemoteOptions{Endpoints: []discovery.Backend{{Addr: "127.0.0.1:1"}, {Addr: "unix:/nowhere.sock"}}})
	if got := fmt.Sprint(target); got != "127.0.0.1:1,unix:/nowhere.sock" {
		t.Errorf("it is called %s", got)
	}
	until(t, target, "failed", "failed")
	if s := target.Backends()[0]; !strings.Contains(s.LastError, "refused") {
		t.Errorf("%+v", s)
	}
}
