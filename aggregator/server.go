package aggregator

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// Options says where the composites' branches go and what they may cost.
type Options struct {
	// Users, Orders and Profiles call the three services; all are required. The
	// aggregator itself refuses nobody.
	Users, Orders, Profiles Branches
	// BranchTimeout bounds an optional branch, see FanoutOptions. 0 means
	// DefaultBranchTimeout.
	BranchTimeout time.Duration
	// MaxConcurrency bounds the branches of one call that run at once, see
	// FanoutOptions. 0 means DefaultMaxConcurrency.
	MaxConcurrency int
	// Logger hears of panics in branches (error) and of optional branches that
	// failed (debug: the calls themselves are logged and counted where they are
	// made). Nil means slog.Default().
	Logger *slog.Logger
}

// Server is the BffService. It keeps nothing between calls and is safe for
// concurrent use.
//
// Parts of its answers that a composite hands on unread hold their fields as
// unknown ones: on the wire the answer is whole, but in Go its getters see those
// parts as empty. Who calls the methods directly and wants to read an answer
// takes it through proto.Marshal and proto.Unmarshal first.
type Server struct {
	bffv1.UnimplementedBffServiceServer

	getUser    Method[userv1.GetUserRequest, userv1.User]
	getProfile Method[profilev1.GetProfileRequest, profilev1.Profile]
	getOrder   Method[orderv1.GetOrderRequest, orderv1.Order]
	listOrders ListMethod[orderv1.ListOrdersRequest, orderv1.Order]
	fanout     FanoutOptions
}

// New makes the BffService. It fails when a connection is missing or a bound is
// negative.
func New(o Options) (*Server, error) {
	for _, c := range []struct {
		name string
		to   Branches
	}{{"Users", o.Users}, {"Orders", o.Orders}, {"Profiles", o.Profiles}} {
		if c.to == nil {
			return nil, fmt.Errorf("aggregator: Options.%s is missing", c.name)
		}
	}
	if o.BranchTimeout < 0 {
		return nil, errors.New("aggregator: Options.BranchTimeout is negative")
	}
	if o.MaxConcurrency < 0 {
		return nil, errors.New("aggregator: Options.MaxConcurrency is negative")
	}
	s := &Server{
		fanout: FanoutOptions{
			BranchTimeout:  o.BranchTimeout,
			MaxConcurrency: o.MaxConcurrency,
			Logger:         o.Logger,
		},
	}
	var errs [4]error
	s.getUser, errs[0] = NewMethod[userv1.GetUserRequest, userv1.User](o.Users, userv1.UserService_GetUser_FullMethodName)
	s.getProfile, errs[1] = NewMethod[profilev1.GetProfileRequest, profilev1.Profile](o.Profiles, profilev1.ProfileService_GetProfile_FullMethodName)
	s.getOrder, errs[2] = NewMethod[orderv1.GetOrderRequest, orderv1.Order](o.Orders, orderv1.OrderService_GetOrder_FullMethodName)
	s.listOrders, errs[3] = NewListMethod[orderv1.ListOrdersRequest, orderv1.Order](o.Orders, orderv1.OrderService_ListOrders_FullMethodName, "orders")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return s, nil
}
