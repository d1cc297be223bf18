package aggregator

import (
	"context"
	"slices"
	"sync"
	"testing"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// noting answers every call, and notes which were said to be optional.
type noting struct {
	mu       sync.Mutex
	optional []string
	required []string
}

func (n *noting) Call(ctx context.Context, method string, _ []byte) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := &n.required
	_, c, err := policy.Chain{}.Branch(ctx, &policy.Call{}, &policy.Method{})
	if err != nil {
		return nil, err
	}
	if c.Optional {
		list = &n.optional
	}
	*list = append(*list, method)
	slices.Sort(*list)
	return nil, nil
}

// TestOptionalBranchesAreTold: whoever is called is told which branches can be shed first,
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
	f.Required("user", Fetch(&user, s.getUser, &userv1.GetUserRequest{}))
	f.Optional("profile", Fetch(&profile, s.getProfile, &profilev1.GetProfileRequest{}))
	if _, err := f.Wait(); err != nil {
		t.Fatal(err)
	}
	var order *orderv1.Order
	if err := First(t.Context(), FanoutOptions{}, "order", Fetch(&order, s.getOrder, &orderv1.GetOrderRequest{})); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(conn.optional, []string{getProfile}) || !slices.Equal(conn.required, []string{getOrder, getUser}) {
		t.Errorf("optional %v, required %v", conn.optional, conn.required)
	}
}
