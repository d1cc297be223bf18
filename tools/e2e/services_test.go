package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
)

const (
	userService    = "shop.user.v1.UserService"
	orderService   = "shop.order.v1.OrderService"
	profileService = "shop.profile.v1.ProfileService"
)

// keys are the gateways' key and its public half, which services are given.
type keys struct{ private, public string }

// makeKeys runs `sluice keys`.
func makeKeys(t *testing.T) keys {
	t.Helper()
	dir, public := t.TempDir(), t.TempDir()
	if out, err := exec.Command(filepath.Join(programs, "sluice"), "keys", "--out", dir, "--public", public).CombinedOutput(); err != nil {
		t.Fatalf("sluice keys: %v\n%s", err, out)
	}
	return keys{filepath.Join(dir, "assertion-key.pem"), filepath.Join(public, "assertion-key.pub.pem")}
}

// service is `shop --service …` as a process.
type service struct {
	*process
	addr string

	name, db string
	k        keys
	env      []string
	args     []string
}

// startService runs a service with demo data; args are further flags.
func startService(t *testing.T, s service) *service {
	t.Helper()
	if s.addr == "" {
		s.addr = "127.0.0.1:0"
	}
	if s.db == "" {
		s.db = "sqlite:" + filepath.Join(t.TempDir(), s.name+".db")
	}
	args := append([]string{"--service", s.name, "--addr", s.addr, "--db", s.db, "--assertion-keys", s.k.public, "--seed"}, s.args...)
	s.process = start(t, s.env, "shop", args...)
	s.addr = s.ready(t, s.name+` service ready on (\S+)`)[0]
	return &s
}

// again starts a service that has ended once more, where it was.
func (s *service) again(t *testing.T) *service {
	t.Helper()
	next := *s
	return startService(t, next)
}

// remote is the configuration of a gateway with these services elsewhere.
func remote(k keys, upstreams map[string]*service) object {
	u := object{}
	for name, s := range upstreams {
		u[name] = object{"target": s.addr}
	}
	return object{"assertion": object{"key_file": k.private}, "upstreams": u, "grpc": object{"reflection": true}}
}

// TestServicesAsProcesses is the whole shop as it runs on several machines: each
// service a process of its own, the order service twice, two gateways without
// --demo, one PostgreSQL.
func TestServicesAsProcesses(t *testing.T) {
	t.Parallel()
	pg := dbtest.StartPostgres(t)
	k, is := makeKeys(t), newIssuer(t)
	users := startService(t, service{name: "user", k: k, db: pg.Database(t)})
	profiles := startService(t, service{name: "profile", k: k, db: pg.Database(t)})
	// Both seed one database: each demo order must be there once.
	orders := pg.Database(t)
	order1 := startService(t, service{name: "order", k: k, db: orders})
	order2 := startService(t, service{name: "order", k: k, db: orders})
	a := startGateway(t, setup{issuer: is, config: remote(k, map[string]*service{userService: users, profileService: profiles, orderService: order1})})
	b := startGateway(t, setup{issuer: is, config: remote(k, map[string]*service{userService: users, profileService: profiles, orderService: order2})})
	token := a.token(t)

	t.Run("composites", func(t *testing.T) {
		for _, g := range []*gateway{a, b} {
			o := sameOverview(t, g, token)
			if o.GetProfile().GetLocation() != "London" || len(o.GetRecentOrders()) != 10 || len(o.GetPartial()) != 0 {
				t.Errorf("overview of ada: %v", o)
			}
		}
		if n := notes(t, a, token); n[""] != 11 || n["Please ring twice."] != 1 {
			t.Errorf("demo orders of ada, by note: %v; want 12 in all", n)
		}
	})
	t.Run("an order of one gateway is the other's", func(t *testing.T) {
		id := place(t, a, token, "through a")
		var o order
		b.rest(t, "GET", "/v1/orders/"+id, token, "").want(t, 200, &o)
		if o.Note != "through a" || notes(t, b, token)["through a"] != 1 {
			t.Errorf("%+v", o)
		}
	})
	t.Run("a watch through one gateway sees the other's cancel", func(t *testing.T) {
		watchedAcross(t, a, b, token)
		watchedAcross(t, b, a, token)
	})
	t.Run("two order processes, asked directly", func(t *testing.T) { twoOrderProcesses(t, k, order1, order2) })
	t.Run("without an assertion nobody is trusted", func(t *testing.T) {
		_, err := orderv1.NewOrderServiceClient(dial(t, order1.addr)).GetOrder(as(t, token), &orderv1.GetOrderRequest{OrderId: "ada-0001"})
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("a caller's token, sent past the gateway: %v", err)
		}
	})
	t.Run("a service that stops", func(t *testing.T) { serviceStops(t, a, order1, token) })
}

// twoOrderProcesses watches an order in one process, in each of its states, while
// it moves in the other.
func twoOrderProcesses(t *testing.T, k keys, one, other *service) {
	signer, err := auth.OpenSigner(k.private, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := signer.Sign(policy.NewPrincipal("root", "test", []string{"admin"}, time.Time{}), orderService)
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(bounded(t), "x-sluice-assertion", assertion)
	watched, acting := dial(t, one.addr), orderv1.NewOrderServiceClient(dial(t, other.addr))
	o, err := acting.CreateOrder(ctx, &orderv1.CreateOrderRequest{UserId: "ada", Order: &orderv1.Order{Lines: orderLines(), Note: "direct"}})
	if err != nil {
		t.Fatal(err)
	}
	w := watchGRPC(t, ctx, watched, o.GetOrderId())
	w.mustNext(t, placed)
	for _, s := range []orderv1.OrderState{orderv1.OrderState_ORDER_STATE_PAID, orderv1.OrderState_ORDER_STATE_SHIPPED, orderv1.OrderState_ORDER_STATE_DELIVERED} {
		if _, err := acting.AdvanceOrder(ctx, &orderv1.AdvanceOrderRequest{OrderId: o.GetOrderId(), State: s}); err != nil {
			t.Fatal(err)
		}
		w.mustNext(t, s.String())
	}
	w.mustEnd(t)
}

// serviceStops: SIGTERM ends the watches of a service with UNAVAILABLE, then the
// service, well within its grace.
func serviceStops(t *testing.T, g *gateway, s *service, token string) {
	id := place(t, g, token, "watched to the end")
	overREST, overGRPC := watchREST(t, g, token, id), watchGRPC(t, as(t, token), g.conn, id)
	overREST.mustNext(t, placed)
	overGRPC.mustNext(t, placed)
	s.signal(t, syscall.SIGTERM)
	endsUnavailable(t, overREST, overGRPC)
	if code := s.exitCode(t, 15*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// endsUnavailable: the clients are told to come again, in the words of their edge.
func endsUnavailable(t *testing.T, overREST, overGRPC watch) {
	t.Helper()
	var p *problemLine
	if state, err := overREST.next(); !errors.As(err, &p) || p.Code != "UNAVAILABLE" {
		t.Errorf("watch over REST: %q, %v; want a line with UNAVAILABLE", state, err)
	}
	if state, err := overGRPC.next(); status.Code(err) != codes.Unavailable {
		t.Errorf("watch over gRPC: %q, %v; want UNAVAILABLE", state, err)
	}
}

// upstreamTarget is a service's place in the list of routes on the admin listener.
func upstreamTarget(t *testing.T, g *gateway, template string) string {
	t.Helper()
	var list struct {
		Routes []struct{ Template, Target string }
	}
	g.atAdmin(t, "/routes").want(t, 200, &list)
	for _, r := range list.Routes {
		if r.Template == template {
			return r.Target
		}
	}
	t.Fatalf("/routes does not list %s", template)
	return ""
}
