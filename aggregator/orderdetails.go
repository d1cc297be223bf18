package aggregator

import (
	"context"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// GetOrderDetails answers an order with its user and that user's profile. The
// order comes first, for it says who the user is; whether the caller may see it
// is the order service's decision. Then user and profile are fetched at once.
// Both are optional, and NOT_FOUND leaves them absent and unnamed: an order
// outlives a deleted user, and not everyone has a profile. Only the order is read.
func (s *Server) GetOrderDetails(ctx context.Context, req *bffv1.GetOrderDetailsRequest) (*bffv1.OrderDetails, error) {
	var (
		order   *orderv1.Order
		user    *userv1.User
		profile *profilev1.Profile
	)
	if err := First(ctx, s.fanout, "order", Fetch(&order, s.getOrder, &orderv1.GetOrderRequest{OrderId: req.GetOrderId()})); err != nil {
		return nil, err
	}

	f := NewFanout(ctx, s.fanout)
	f.Optional("user", AbsentIfNotFound(Pass(&user, s.getUser, &userv1.GetUserRequest{UserId: order.GetUserId()})))
	f.Optional("profile", AbsentIfNotFound(Pass(&profile, s.getProfile, &profilev1.GetProfileRequest{UserId: order.GetUserId()})))
	partial, err := f.Wait()
	if err != nil {
		return nil, err
	}
	return &bffv1.OrderDetails{
		Order:   order,
		User:    user,
		Profile: profile,
		Partial: partial,
	}, nil
}
