package e2e

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/payments"
)

// site is a gateway with some processes of the order service, and as many payments,
// and a wire to each.
type site struct {
	caller
	token      string
	orders     []*service
	grpc, http []*wire
	posts      *posts
}

// attemptTimeout of the site's reads.
const attemptTimeout = 400 * time.Millisecond

func startSite(t *testing.T, each int) *site {
	t.Helper()
	k := makeKeys(t)
	p := &site{posts: &posts{seen: map[string]int{}}}
	var overGRPC, overHTTP []object
	for range each {
		o := startService(t, service{name: "order", k: k})
		g, h := wireTo(t, o.addr), wireTo(t, startPayments(t, k, p.posts))
		p.orders, p.grpc, p.http = append(p.orders, o), append(p.grpc, g), append(p.http, h)
		overGRPC, overHTTP = append(overGRPC, object{"address": g.addr}), append(overHTTP, object{"address": h.addr})
	}
	retry := object{"attempt_timeout": attemptTimeout.String()}
	config := object{
		"assertion": object{"key_file": k.private},
		"upstreams": object{orderService: object{"endpoints": overGRPC}},
		"methods":   object{orderService + "/ListOrders": object{"retry": retry}},
		// 5 s by default.
		"resilience": object{"breaker": object{"open_for": openFor.String()}},
	}
	maps.Copy(config, plainRoute(overHTTP, object{"deadline": "2s", "retry": retry}))
	g := startGateway(t, setup{config: config})
	p.token = g.token(t)
	p.caller = withBearer(g, p.token)
	for way, ask := range p.ways(listOrders("ada")) { // All are connected.
		eventually(t, patience, func() error { return ask(bounded(t)).unless(codes.OK, "") })
		allWell(t, way, repeat(t, 4, 2, ask))
	}
	return p
}

// posts counts what reaches payments, by the body.
type posts struct {
	mu   sync.Mutex
	seen map[string]int
}

// startPayments serves payments with demo data in this process: there is no program
// that runs them alone.
func startPayments(t *testing.T, k keys, p *posts) (addr string) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	files, err := kit.WatchKeys(kit.KeyFilesOptions{Files: []string{k.public}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(files.Close)
	verifier, err := kit.NewVerifierFunc(files.Keys)
	if err != nil {
		t.Fatal(err)
	}
	s, err := payments.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "payments.db"), verifier, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			p.mu.Lock()
			p.seen[r.Header.Get("X-Request-Id")]++
			p.mu.Unlock()
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close(); _ = s.Close() })
	return srv.Listener.Addr().String()
}

// TestFaultOfOneBackend: whatever becomes of one of two backends, no read fails: what
// it does not answer in time, or at all, is asked of the other. By default settings,
// but for the time of an attempt.
func TestFaultOfOneBackend(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		again  bool // calls are lost on their way, and so tried again
		breaks func(t *testing.T, p *site) (mend func())
	}{
		{"latency", true, func(t *testing.T, p *site) func() {
			return p.first(t, "latency", object{"latency": 3000})
		}},
		{"blackhole", true, func(t *testing.T, p *site) func() { return p.first(t, "timeout", object{"timeout": 0}) }},
		{"bandwidth", false, func(t *testing.T, p *site) func() { return p.first(t, "bandwidth", object{"rate": 1}) }},
		{"resets in the middle of calls", true, func(t *testing.T, p *site) func() {
			p.grpc[0].resets(t, true)
			p.http[0].resets(t, true)
			return func() { p.grpc[0].resets(t, false); p.http[0].resets(t, false) }
		}},
		{"down", false, func(t *testing.T, p *site) func() {
			p.grpc[0].down()
			p.http[0].down()
			return func() { p.grpc[0].up(t); p.http[0].up(t) }
		}},
		{"killed and connections close late", true, func(t *testing.T, p *site) func() {
			mend := p.first(t, "slow_close", object{"delay": 3000})
			p.orders[0].kill()
			return func() { p.orders[0] = p.orders[0].again(t); mend() }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := startSite(t, 2)
			before := p.retries(t)
			mend := test.breaks(t, p)
			var all sync.WaitGroup
			for way, ask := range p.ways(listOrders("ada")) {
				all.Go(func() {
					begin, ended, n := time.Now(), time.Now().Add(1500*time.Millisecond), 0
					slowest := time.Duration(0)
					for time.Now().Before(ended) {
						replies := repeat(t, 10, 2, ask)
						allWell(t, way, replies)
						for _, r := range replies {
							slowest = max(slowest, r.took)
						}
						n += len(replies)
						time.Sleep(pace)
					}
					t.Logf("%s: %d reads in %v, slowest %v", way, n, time.Since(begin).Round(time.Millisecond), slowest.Round(time.Millisecond))
				})
			}
			all.Wait()
			after := p.retries(t)
			t.Logf("attempts beyond the first: %v", after-before)
			if test.again && after == before {
				t.Error("nothing was tried again: the backend was not broken")
			}
			mend()
			p.bothServe(t)
		})
	}
}

// first adds a toxic to the wires of the first backends.
func (p *site) first(t *testing.T, kind string, attributes object) (mend func()) {
	t.Helper()
	p.grpc[0].add(t, kind, attributes)
	p.http[0].add(t, kind, attributes)
	return func() { p.grpc[0].remove(t, kind); p.http[0].remove(t, kind) }
}

func (p *site) retries(t *testing.T) float64 {
	t.Helper()
	return sample(t, p.g, "sluice_retries_total", `outcome="granted"`)
}

// bothServe waits until both backends of both services are in use again.
func (p *site) bothServe(t *testing.T) {
	t.Helper()
	ways := p.ways(listOrders("ada"))
	begin := time.Now()
	eventually(t, patience, func() error {
		for _, ask := range ways {
			if r := ask(bounded(t)); !r.is(codes.OK, "") {
				t.Errorf("on the way back: %v", r)
			}
		}
		return atLeast(sample(t, p.g, "sluice_upstream_backends", `state="ready"`), 4)
	})
	t.Logf("both backends serve again after %v", time.Since(begin).Round(time.Millisecond))
}

// TestFaultInWrites: writes are not sent again. One whose connection is reset when its
// answer comes is a clear 503 at once, and has been done once or not at all.
func TestFaultInWrites(t *testing.T) {
	t.Parallel()
	p := startSite(t, 1)
	const each = 6
	sent := map[string]string{} // by the note or id: the way
	for n := range each {
		for way, write := range p.writes() {
			name := fmt.Sprint(way, "-", n)
			p.cut(t, true)
			begin := time.Now()
			write(t, name)
			if took := time.Since(begin); took > deadline {
				t.Errorf("%s: told after %v", name, took)
			}
			p.cut(t, false)
			for way, ask := range p.ways(listOrders("ada")) {
				eventually(t, backWithin, func() error {
					if err := ask(bounded(t)).unless(codes.OK, ""); err != nil {
						return fmt.Errorf("%s: %w", way, err)
					}
					return nil
				})
			}
			sent[name] = way
		}
	}
	done, orders := 0, notes(t, p.g, p.token)
	for name := range sent {
		p.posts.mu.Lock()
		n := orders[name] + p.posts.seen[name]
		p.posts.mu.Unlock()
		if n > 1 {
			t.Errorf("%s was done %d times", name, n)
		}
		done += n
	}
	t.Logf("%d writes broken off, %d of them done, none twice", len(sent), done)
	if done < each { // Else the connections broke before the writes were sent.
		t.Errorf("only %d of %d writes reached the service", done, len(sent))
	}
}

// writes place an order or pay one, under a name, and check that the answer says that
// the service is unavailable.
func (p *site) writes() map[string]func(t *testing.T, name string) {
	return map[string]func(t *testing.T, name string){
		"REST": func(t *testing.T, name string) {
			unavailable(t, p.g.rest(t, "POST", "/v1/users/ada/orders", p.token, orderBody(name)))
		},
		"gRPC": func(t *testing.T, name string) {
			_, err := orderv1.NewOrderServiceClient(p.g.conn).CreateOrder(as(t, p.token),
				&orderv1.CreateOrderRequest{UserId: "ada", Order: &orderv1.Order{Lines: orderLines(), Note: name}})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v, want UNAVAILABLE", name, err)
			}
		},
		"HTTP": func(t *testing.T, name string) {
			a, err := p.g.send(bounded(t), "POST", "/v1/payments/ada", p.token,
				strings.NewReader(`{"orderId":"`+strings.ToLower(name)+`","currency":"EUR","cents":"1999"}`), "X-Request-Id", name)
			if err != nil {
				t.Fatal(err)
			}
			unavailable(t, a)
		},
	}
}

// cut has all connections to the backends reset at their next bytes.
func (p *site) cut(t *testing.T, on bool) {
	t.Helper()
	for _, w := range slices.Concat(p.grpc, p.http) {
		w.resets(t, on)
	}
}
