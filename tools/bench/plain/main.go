// Command plain is what a team gets from grpc-gateway with nothing added: the
// generated handlers with default options, no identity, no limits, no deadlines,
// no log. The benchmark holds Sluice against it.
package main

import (
	"context"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/tools/bench/peer"
)

func main() { peer.Main("plain", build) }

// build registers the generated handlers as grpc-gateway's guide does. The
// composite's runs in this process, as Sluice's does.
func build(backend string) (peer.Server, error) {
	ctx, mux := context.Background(), runtime.NewServeMux()
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
	conn, err := peer.Dial(backend)
	if err != nil {
		return nil, err
	}
	return peer.HTTP(mux), bffv1.RegisterBffServiceHandlerServer(ctx, mux, composites{
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
