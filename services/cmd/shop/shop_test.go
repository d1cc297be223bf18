package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

const (
	userService    = "shop.user.v1.UserService"
	orderService   = "shop.order.v1.OrderService"
	profileService = "shop.profile.v1.ProfileService"
)

func TestRefusesToStart(t *testing.T) {
	g := newGateway(t)
	db := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	good := []string{"--addr", "127.0.0.1:0", "--service", "user", "--db", db, "--assertion-keys", g.file}
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"without keys", "--assertion-keys is missing", good[:6]},
		{"without a database", "--db is missing", []string{"--service", "user", "--assertion-keys", g.file}},
		{"an unknown service", "--service must be one of user, order, profile", append([]string{}, "--service", "x", "--db", db, "--assertion-keys", g.file)},
		{"a missing key file", "assertion key", append(good[:6:6], "--assertion-keys", g.file+"x")},
		{"an unknown database", "sqlite:FILE or postgres://", append(good[:4:4], "--db", "mysql://x", "--assertion-keys", g.file)},
		{"an unknown flag", "not defined: -x", append(good[:8:8], "--x")},
		{"an argument", "unexpected argument", append(good[:8:8], "x")},
		{"half a certificate", "--tls-cert and --tls-key go together", append(good[:8:8], "--tls-cert", "x")},
		{"client CA alone", "--tls-client-ca needs", append(good[:8:8], "--tls-client-ca", "x")},
		{"missing certificates", "--tls-cert", append(good[:8:8], "--tls-cert", "x", "--tls-key", "y")},
		{"an address of somebody else", "listen", append(good[2:8:8], "--addr", "192.0.2.1:1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), tt.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("run = %v, want an error with %q", err, tt.want)
			}
		})
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard, io.Discard); err != nil {
		t.Errorf("help: %v", err)
	}
}

// TestServices runs all three as processes on one PostgreSQL database, and each on
// a file of its own.
func TestServices(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		g := newGateway(t)
		shared := e.DSN(t)
		run := func(name string) *command {
			dsn := shared
			if e.Name == "sqlite" {
				dsn = e.DSN(t)
			}
			return start(t, nil, "--service", name, "--addr", "127.0.0.1:0", "--db", dsn, "--assertion-keys", g.file, "--seed")
		}
		t.Run("user", func(t *testing.T) {
			conn := run("user").dial()
			u, err := userv1.NewUserServiceClient(conn).GetUser(g.as(t, userService, "ada"), &userv1.GetUserRequest{UserId: "ada"})
			if err != nil || u.GetDisplayName() != "Ada Lovelace" {
				t.Errorf("ada = %v, %v", u, err)
			}
			wantHealth(t, conn, userService)
			_, err = userv1.NewUserServiceClient(conn).GetUser(t.Context(), &userv1.GetUserRequest{UserId: "ada"})
			kittest.WantCode(t, err, codes.Unauthenticated)
		})
		t.Run("order", func(t *testing.T) {
			conn := run("order").dial()
			o, err := orderv1.NewOrderServiceClient(conn).GetOrder(g.as(t, orderService, "ada"), &orderv1.GetOrderRequest{OrderId: "ada-0001"})
			if err != nil || o.GetState() != orderv1.OrderState_ORDER_STATE_DELIVERED {
				t.Errorf("ada-0001 = %v, %v", o, err)
			}
			wantHealth(t, conn, orderService)
		})
		t.Run("profile", func(t *testing.T) {
			conn := run("profile").dial()
			p, err := profilev1.NewProfileServiceClient(conn).GetProfile(g.as(t, profileService, ""), &profilev1.GetProfileRequest{UserId: "ada"})
			if err != nil || !p.GetHasAvatar() {
				t.Errorf("profile of ada = %v, %v", p, err)
			}
			wantHealth(t, conn, profileService)
		})
		t.Run("acknowledged writes survive kill -9", func(t *testing.T) { killed(t, g, e.DSN(t)) })
	})
}

func wantHealth(t *testing.T, conn *grpc.ClientConn, service string) {
	t.Helper()
	for _, name := range []string{"", service} {
		h, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
		if err != nil || h.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q = %v, %v", name, h, err)
		}
	}
	_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "other"})
	kittest.WantCode(t, err, codes.NotFound)
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err == nil {
		_, err = stream.Recv()
	}
	kittest.WantCode(t, err, codes.Unimplemented)
}

// killed lets writers write until the process is killed under their hands, and
// reads everything they were promised from the next process.
func killed(t *testing.T, g gateway, dsn string) {
	args := []string{"--service", "order", "--addr", "127.0.0.1:0", "--db", dsn, "--assertion-keys", g.file}
	first := start(t, nil, args...)
	orders := orderv1.NewOrderServiceClient(first.dial())
	ctx := g.as(t, orderService, "ada", "orders.write")
	var (
		mu           sync.Mutex
		wg           sync.WaitGroup
		acknowledged = map[string]string{}
	)
	enough := make(chan struct{})
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				o, err := orders.CreateOrder(ctx, &orderv1.CreateOrderRequest{
					UserId: "ada", RequestId: fmt.Sprintf("w%d-%d", w, i), Order: &orderv1.Order{
						Note:  fmt.Sprintf("note %d of %d", i, w),
						Lines: []*orderv1.OrderLine{{Sku: "a", Quantity: 1, Price: &typev1.Money{CurrencyCode: "EUR", Units: 1}}},
					},
				})
				if err != nil {
					return // Killed.
				}
				mu.Lock()
				acknowledged[o.GetOrderId()] = o.GetNote()
				if len(acknowledged) == 40 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(30 * time.Second):
		t.Error("the writers do not get on")
	}
	first.kill()
	wg.Wait()

	orders = orderv1.NewOrderServiceClient(start(t, nil, args...).dial())
	for id, note := range acknowledged {
		o, err := orders.GetOrder(ctx, &orderv1.GetOrderRequest{OrderId: id})
		if err != nil || o.GetNote() != note {
			t.Errorf("%s was promised, and is %v, %v", id, o, err)
		}
	}
	// The keys survive, too.
	o, err := orders.CreateOrder(ctx, &orderv1.CreateOrderRequest{
		UserId: "ada", RequestId: "w0-0", Order: &orderv1.Order{
			Note:  "note 0 of 0",
			Lines: []*orderv1.OrderLine{{Sku: "a", Quantity: 1, Price: &typev1.Money{CurrencyCode: "EUR", Units: 1}}},
		},
	})
	if err != nil || acknowledged[o.GetOrderId()] != "note 0 of 0" {
		t.Errorf("the first request again = %v, %v", o, err)
	}
}

func TestSIGTERMDrains(t *testing.T) {
	g := newGateway(t)
	c := start(t, nil, "--service", "order", "--addr", "127.0.0.1:0", "--db", "sqlite:"+filepath.Join(t.TempDir(), "o.db"),
		"--assertion-keys", g.file, "--seed", "--reflection")
	conn := c.dial()
	watch, err := orderv1.NewOrderServiceClient(conn).WatchOrder(g.as(t, orderService, "ada"), &orderv1.WatchOrderRequest{OrderId: "ada-0012"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	healthCtx, endHealth := context.WithCancel(t.Context())
	defer endHealth()
	health, err := healthv1.NewHealthClient(conn).Watch(healthCtx, &healthv1.HealthCheckRequest{Service: orderService})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := health.Recv(); err != nil || h.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("health = %v, %v", h, err)
	}
	reflected, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := reflected.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if r, err := reflected.Recv(); err != nil || !strings.Contains(r.String(), orderService) {
		t.Fatalf("reflection = %v, %v", r, err)
	}
	if err := reflected.CloseSend(); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGTERM)
	if h, err := health.Recv(); err != nil || h.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health while draining = %v, %v", h, err)
	}
	_, err = watch.Recv()
	kittest.WantCode(t, err, codes.Unavailable)
	endHealth()
	if err := c.wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, c.stderr)
	}
	if strings.Contains(c.stderr.String(), "they are cut off") {
		t.Errorf("the grace period was waited for though nothing ran:\n%s", c.stderr)
	}
}

func TestHealthFollowsTheDatabase(t *testing.T) {
	postgres := dbtest.StartPostgres(t)
	g := newGateway(t)
	dsn := postgres.Database(t)
	p, err := newProcess(t.Context(), options{service: "user", addr: "127.0.0.1:0", db: dsn, assertionKeys: []string{g.file}, seed: true},
		noop.NewTracerProvider(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.grace = 200 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.serve(ctx, io.Discard) }()
	conn, err := grpc.NewClient(p.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	users, caller := userv1.NewUserServiceClient(conn), g.as(t, userService, "ada")
	if _, err := users.GetUser(caller, &userv1.GetUserRequest{UserId: "ada"}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	watchCtx, endWatch := context.WithTimeout(t.Context(), 20*time.Second)
	defer endWatch()
	health, err := healthv1.NewHealthClient(conn).Watch(watchCtx, &healthv1.HealthCheckRequest{Service: userService})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := health.Recv(); err != nil || h.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("health = %v, %v", h, err)
	}
	postgres.Stop()
	if h, err := health.Recv(); err != nil || h.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health without a database = %v, %v", h, err)
	}
	_, err = users.GetUser(caller, &userv1.GetUserRequest{UserId: "ada"})
	if st := kittest.WantCode(t, err, codes.Unavailable); strings.Contains(st.Message(), "host") || strings.Contains(st.Message(), "dial") {
		t.Errorf("message tells of the inside: %q", st.Message())
	}
	// The watch goes on: it is cut off when the grace period ends.
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	_, err = health.Recv()
	kittest.WantCode(t, err, codes.Unavailable)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
