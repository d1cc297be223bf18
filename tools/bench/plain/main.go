// Command plain is what a team gets from grpc-gateway with nothing added: the
// generated handlers with default options, no identity, no limits, no deadlines,
// no log. The benchmark holds Sluice against it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	admin := flag.String("admin", "", "address of /readyz and /debug/pprof; none when empty")
	backend := flag.String("backend", "", "address of the gRPC backend")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *admin, *backend); err != nil {
		fmt.Fprintln(os.Stderr, "plain:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, admin, backend string) error {
	handler, err := newHandler(ctx, backend)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, addr, handler) })
	if admin != "" {
		group.Go(func() error { return serve(ctx, admin, adminHandler()) })
	}
	return group.Wait()
}

// newHandler registers the generated handlers as grpc-gateway's guide does. The
// composite's runs in this process, as Sluice's does.
func newHandler(ctx context.Context, backend string) (http.Handler, error) {
	mux := runtime.NewServeMux()
	dial := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	for _, register := range []func(context.Context, *runtime.ServeMux, string, []grpc.DialOption) error{
		userv1.RegisterUserServiceHandlerFromEndpoint,
		orderv1.RegisterOrderServiceHandlerFromEndpoint,
		profilev1.RegisterProfileServiceHandlerFromEndpoint,
	} {
		if err := register(ctx, mux, backend, dial); err != nil {
			return nil, err
		}
	}
	conn, err := grpc.NewClient(backend, dial...)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return mux, bffv1.RegisterBffServiceHandlerServer(ctx, mux, composites{
		users:    userv1.NewUserServiceClient(conn),
		orders:   orderv1.NewOrderServiceClient(conn),
		profiles: profilev1.NewProfileServiceClient(conn),
	})
}

// composites is the shortest fan-out that answers the same: whatever fails, all
// fails.
type composites struct {
	bffv1.UnimplementedBffServiceServer
	users    userv1.UserServiceClient
	orders   orderv1.OrderServiceClient
	profiles profilev1.ProfileServiceClient
}

func (c composites) GetUserOverview(ctx context.Context, req *bffv1.GetUserOverviewRequest) (*bffv1.UserOverview, error) {
	var orders *orderv1.ListOrdersResponse
	out := &bffv1.UserOverview{}
	limit := req.GetOrderLimit()
	if limit == 0 {
		limit = 10
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		out.User, err = c.users.GetUser(ctx, &userv1.GetUserRequest{UserId: req.GetUserId()})
		return err
	})
	group.Go(func() (err error) {
		out.Profile, err = c.profiles.GetProfile(ctx, &profilev1.GetProfileRequest{UserId: req.GetUserId()})
		return err
	})
	group.Go(func() (err error) {
		orders, err = c.orders.ListOrders(ctx, &orderv1.ListOrdersRequest{UserId: req.GetUserId(), PageSize: limit})
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out.RecentOrders = orders.GetOrders()
	return out, nil
}

func adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	return mux
}

func serve(ctx context.Context, addr string, h http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
