package aggregator

import (
	"context"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// noting answers every call, and notes which were said to be optional.
type noting struct {
	grpc.ClientConnInterface
	mu       sync.Mutex
	optional []string
	required []string
}

func (n *noting) Invoke(_ context.Context, method string, _, _ any, opts ...grpc.CallOption) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := &n.required
	for _, o := range opts {
		if _, ok := o.(interface{ OptionalBranch() }); ok {
			list = &n.optional
		}
	}
	*list = append(*list, method)
	slices.Sort(*list)
	return nil
}

// TestOptionalBranchesAreTold: the connection is told which branches can be shed first,
// whether they are read or handed on, and those only.
func TestOptionalBranchesAreTold(t *testing.T) {
	conn := &noting{}
	s, err := New(Options{Users: conn, Orders: conn, Profiles: conn})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetUserOverview(t.Context(), &bffv1.GetUserOverviewRequest{UserId: "ada"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(conn.optional, []string{listOrders, getProfile}) || !slices.Equal(conn.required, []string{getUser}) {
		t.Errorf("optional %v, required %v", conn.optional, conn.required)
	}
	*conn = noting{}
	f := NewFanout(t.Context(), FanoutOptions{})
	var user *userv1.User
	var profile *profilev1.Profile
	f.Required("user", Fetch(&user, userv1.NewUserServiceClient(conn).GetUser, &userv1.GetUserRequest{}))
	f.Optional("profile", Fetch(&profile, profilev1.NewProfileServiceClient(conn).GetProfile, &profilev1.GetProfileRequest{}))
	if _, err := f.Wait(); err != nil {
		t.Fatal(err)
	}
	var order *orderv1.Order
	if err := First(t.Context(), FanoutOptions{}, "order", Fetch(&order, orderv1.NewOrderServiceClient(conn).GetOrder, &orderv1.GetOrderRequest{})); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(conn.optional, []string{getProfile}) || !slices.Equal(conn.required, []string{getOrder, getUser}) {
		t.Errorf("optional %v, required %v", conn.optional, conn.required)
	}
}
