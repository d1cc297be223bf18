package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// revision is one of many configurations: its number is in a limit, which the edge
// tells of, and in a deadline, which the service sees. A request that is served by
// one configuration sees the same number in both.
func revision(from *configv1.Config, n int) *configv1.Config {
	c := proto.CloneOf(from)
	c.Limits.Classes["read"].Rates[0].Burst = int64(revisionBase + n)
	override(c, "Echo", &configv1.MethodOverride{Deadline: seconds(float64(revisionStep * (n + 1)))})
	return c
}

const (
	// At 1e9 a second the bucket is 0.9s deep: a caller that is held up between the
	// clock and the lock by a busy machine is no flood.
	revisionBase = 900_000_000
	revisionStep = 200 // seconds, of which a call may use all but one
)

var policyLimit = regexp.MustCompile(`q=(\d+)`)

// oneRevision says whether what the edge and the service saw are of one revision.
func oneRevision(policy string, deadlineMs int64) error {
	m := policyLimit.FindStringSubmatch(policy)
	if m == nil {
		return fmt.Errorf("RateLimit-Policy %q", policy)
	}
	q, err := strconv.Atoi(m[1])
	if err != nil {
		return err
	}
	atService := int((deadlineMs+revisionStep*1000-1)/(revisionStep*1000)) - 1
	if at := q - revisionBase; at != atService {
		return fmt.Errorf("the edge was of revision %d, the service saw %d", at, atService)
	}
	return nil
}

// hosts counts how often a service in this process was opened and closed.
type hosts struct{ opened, closed atomic.Int32 }

func (h *hosts) service() gateway.Service {
	s := gatewaytest.TestService(nil)
	embed := s.Embed
	s.Embed = func(ctx context.Context, e gateway.Embedding) (upstream.Host, error) {
		h.opened.Add(1)
		host, err := embed(ctx, e)
		host.Close = func() error { h.closed.Add(1); return nil }
		return host, err
	}
	return s
}

// TestReloadsUnderLoad: no reload of a hundred is seen by a caller, of which every
// third is invalid; no request is of two configurations; and nothing is left over.
func TestReloadsUnderLoad(t *testing.T) {
	const reloads = 100
	h := &hosts{}
	start := gatewaytest.Config(t)
	g := gatewaytest.Run(t, revision(start, 0), gateway.WithServices(h.service()))
	reload := func(n int) {
		next := revision(start, n)
		if n%3 == 0 {
			next.Upstreams = map[string]*configv1.Upstream{"no.such.Service": {Target: "127.0.0.1:1"}}
		}
		if err := g.Apply(t.Context(), next); (err != nil) != (n%3 == 0) {
			t.Errorf("reload %d: %v", n, err)
		}
	}
	load := startTraffic(t, g)
	reload(1)
	settled := -1
	var before, after runtime.MemStats
	for n := 2; n <= reloads; n++ {
		reload(n)
		if n == reloads/2 {
			runtime.GC()
			runtime.ReadMemStats(&before)
			settled = runtime.NumGoroutine()
		}
		time.Sleep(2 * time.Millisecond) // Some requests to each.
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	load.end(t)
	if n := load.made.Load(); n < 10*reloads {
		t.Errorf("%d calls are no load", n)
	}
	// Streams of 0.2s hold some of the old ones.
	eventually(t, "only the snapshot in use is left", func() bool { return metric(t, g, "sluice_config_snapshots") == 1 })
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 { //nolint:gosec // No heap is that large.
		t.Errorf("the heap has grown by %d bytes over %d reloads", grown, reloads/2)
	}
	if n := runtime.NumGoroutine(); n > settled+50 { // TestMain looks for those that stay.
		t.Errorf("%d goroutines, and %d after half of the reloads", n, settled)
	}
	if h.opened.Load() != 1 || h.closed.Load() != 0 {
		t.Errorf("the service was opened %d times and closed %d times", h.opened.Load(), h.closed.Load())
	}
	applied, failed := metric(t, g, `sluice_config_reloads_total{outcome="applied"}`), metric(t, g, `sluice_config_reloads_total{outcome="failed"}`)
	if applied != 67 || failed != 33 {
		t.Errorf("%v applied, %v failed", applied, failed)
	}
}

// TestReloadLeavesNoGoroutine: what a reload starts ends with the next one.
func TestReloadLeavesNoGoroutine(t *testing.T) {
	addr, _ := gatewaytest.Serve(t, func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, &gatewaytest.Server{}) })
	start := gatewaytest.Config(t)
	place := func(c *configv1.Config) *configv1.Config {
		c.Upstreams = map[string]*configv1.Upstream{"sluice.test.v1.TestService": {Target: addr}}
		return c
	}
	g := gatewaytest.Run(t, start, gateway.WithServices(gatewaytest.TestService(nil)))
	round := func(n int) {
		for i, c := range []*configv1.Config{place(revision(start, n)), revision(start, n+1)} {
			if err := g.Apply(t.Context(), c); err != nil {
				t.Fatal(n, i, err)
			}
			do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/x"})
		}
	}
	round(1)
	http.DefaultClient.CloseIdleConnections()
	settled := goleak.IgnoreCurrent()
	for n := range 10 {
		round(2*n + 3)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := left(settled); err != nil {
		t.Error(err)
	}
}

// TestReloadKeepsCounts: what limits have counted outlives a reload, of the limits
// too, and calls in flight count on.
func TestReloadKeepsCounts(t *testing.T) {
	limited := func(c *configv1.Config, inFlight int32) *configv1.Config {
		c = proto.CloneOf(c)
		c.Limits.Classes["read"] = &configv1.LimitClass{
			Rates:                []*configv1.Rate{{Per: "principal", Requests: 3, Interval: seconds(3600), Burst: 3}},
			MaxInFlightPerMethod: inFlight,
		}
		override(c, "Echo", &configv1.MethodOverride{Deadline: seconds(60)})
		return c
	}
	start := gatewaytest.Config(t)
	srv := &held{entered: make(chan struct{}), leave: make(chan struct{})}
	g := gatewaytest.Run(t, limited(start, 0), gateway.WithServices(gatewaytest.TestService(srv)))
	token := g.Token(t, "ada", "")
	call := func(path string) int {
		t.Helper()
		res, _ := do(t, g, token, exchange{method: "GET", path: path})
		return res.StatusCode
	}
	for range 2 {
		if got := call("/test/v1/echo/x"); got != http.StatusOK {
			t.Fatal(got)
		}
	}
	if err := g.Apply(t.Context(), limited(start, 1)); err != nil { // The class is another one now.
		t.Fatal(err)
	}
	slow := make(chan int, 1)
	go func() { slow <- call("/test/v1/echo/hold") }()
	<-srv.entered
	if err := g.Apply(t.Context(), revisionOf(limited(start, 1), 9)); err != nil {
		t.Fatal(err)
	}
	if got := call("/test/v1/echo/x"); got != http.StatusTooManyRequests {
		t.Errorf("a second call beside one of the configuration before: %d", got)
	}
	close(srv.leave)
	if got := <-slow; got != http.StatusOK {
		t.Errorf("the call that lived through a reload: %d", got)
	}
	if got := call("/test/v1/echo/x"); got != http.StatusTooManyRequests {
		t.Errorf("the fourth of three: %d", got)
	}
}

// revisionOf changes what concerns nothing of the test.
func revisionOf(c *configv1.Config, n int) *configv1.Config {
	c = proto.CloneOf(c)
	override(c, "ListNames", &configv1.MethodOverride{Deadline: seconds(float64(n))})
	return c
}

// held is a service that holds the call of an id.
type held struct {
	gatewaytest.Server
	entered, leave chan struct{}
}

func (s *held) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	if r.GetId() == "hold" {
		close(s.entered)
		select {
		case <-s.leave:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Server.Echo(ctx, r)
}

// TestReloadMovesAService: calls that run end where they began, new ones go to the
// new place, and the connection to the old one is closed when nobody uses it.
func TestReloadMovesAService(t *testing.T) {
	srv := &held{entered: make(chan struct{}), leave: make(chan struct{})}
	h := &hosts{}
	one := h.service()
	inner := one.Embed
	one.Embed = func(ctx context.Context, e gateway.Embedding) (upstream.Host, error) {
		host, err := inner(ctx, e)
		host.Register = func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, srv) }
		return host, err
	}
	addr, _ := gatewaytest.Serve(t, func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, &gatewaytest.Server{}) })
	g := gatewaytest.Start(t, func(c *configv1.Config) { override(c, "Echo", &configv1.MethodOverride{Deadline: seconds(60)}) }, gateway.WithServices(one))
	token := g.Token(t, "ada", "")
	slow := make(chan int, 1)
	go func() {
		res, _ := do(t, g, token, exchange{method: "GET", path: "/test/v1/echo/hold"})
		slow <- res.StatusCode
	}()
	<-srv.entered
	moved := proto.CloneOf(g.Config)
	moved.Upstreams = map[string]*configv1.Upstream{"sluice.test.v1.TestService": {Target: addr}}
	if err := g.Apply(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	if target := g.Routes()[0].Target; target != addr {
		t.Errorf("the routes still say %s", target)
	}
	if res, _ := do(t, g, token, exchange{method: "GET", path: "/test/v1/echo/x"}); res.StatusCode != http.StatusOK {
		t.Error(res.Status)
	}
	if h.closed.Load() != 0 {
		t.Error("the service was closed while a call ran there")
	}
	close(srv.leave)
	if got := <-slow; got != http.StatusOK {
		t.Errorf("the call of the configuration before: %d", got)
	}
	eventually(t, "the service that nobody uses is closed", func() bool { return h.closed.Load() == 1 })
}

// TestReloadThatHangs has an answer in time, leaves the configuration in use, and
// does not stand in the way of the next one for ever.
func TestReloadThatHangs(t *testing.T) {
	hangs := make(chan struct{})
	s := gatewaytest.TestService(nil)
	embed := s.Embed
	s.Embed = func(ctx context.Context, e gateway.Embedding) (upstream.Host, error) {
		<-hangs // Whatever its context says.
		return embed(ctx, e)
	}
	addr, _ := gatewaytest.Serve(t, func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, &gatewaytest.Server{}) })
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Upstreams = map[string]*configv1.Upstream{"sluice.test.v1.TestService": {Target: addr}}
	}, gateway.WithServices(s))
	here := proto.CloneOf(g.Config)
	here.Upstreams = nil
	for range 2 { // The second waits for the first, and no longer than it wants to.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := g.Apply(ctx, here); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a reload that hangs: %v", err)
		}
		cancel()
	}
	if res, _ := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/x"}); res.StatusCode != http.StatusOK {
		t.Error(res.Status)
	}
	close(hangs)
	if err := g.Apply(t.Context(), here); err != nil {
		t.Errorf("the one after it: %v", err)
	}
}
