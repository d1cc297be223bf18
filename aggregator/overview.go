package aggregator

import (
	"context"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// defaultOrderLimit is what an order_limit of 0 means.
const defaultOrderLimit = 10

// GetUserOverview answers a user with profile and latest orders, all three
// fetched at once. The user is required: its failure is the answer. A user
// without a profile is normal, so NOT_FOUND leaves the profile absent and
// unnamed; a list of orders is never NOT_FOUND for a user that exists, so there
// it is a failure like any other. Nothing of the three is read here.
func (s *Server) GetUserOverview(ctx context.Context, req *bffv1.GetUserOverviewRequest) (*bffv1.UserOverview, error) {
	var (
		user    *userv1.User
		profile *profilev1.Profile
		orders  []*orderv1.Order
	)
	limit := req.GetOrderLimit()
	if limit == 0 {
		limit = defaultOrderLimit
	}

	f := NewFanout(ctx, s.fanout)
	f.Required("user", Pass(&user, s.getUser, &userv1.GetUserRequest{UserId: req.GetUserId()}))
	f.Optional("profile", AbsentIfNotFound(Pass(&profile, s.getProfile, &profilev1.GetProfileRequest{UserId: req.GetUserId()})))
	f.Optional("recent_orders", PassList(&orders, s.listOrders, &orderv1.ListOrdersRequest{UserId: req.GetUserId(), PageSize: limit}))
	partial, err := f.Wait()
	if err != nil {
		return nil, err
	}
	return &bffv1.UserOverview{
		User:         user,
		Profile:      profile,
		RecentOrders: orders,
		Partial:      partial,
	}, nil
}
