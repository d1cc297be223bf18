package aggregator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

func TestGetOrderDetails(t *testing.T) {
	const ms = time.Millisecond
	whole := &bffv1.OrderDetails{Order: order1, User: ada, Profile: adaProfile}

	for _, sc := range []scenario[*bffv1.OrderDetails]{
		{name: "all there", want: whole},
		{
			name: "the order first, then the others at once",
			methods: map[string]behaviour{
				getOrder:   after(10*ms, answers(order1)),
				getUser:    after(20*ms, answers(ada)),
				getProfile: after(15*ms, answers(adaProfile)),
			},
			want: whole, wantAfter: 30 * ms,
		},
		{
			name:    "a deleted user leaves the order, and no failure",
			methods: map[string]behaviour{getUser: failsWith(codes.NotFound), getProfile: failsWith(codes.NotFound)},
			want:    &bffv1.OrderDetails{Order: order1},
		},
		{
			name:    "user and profile are optional",
			methods: map[string]behaviour{getUser: failsWith(codes.Aborted), getProfile: failsWith(codes.PermissionDenied)},
			want: &bffv1.OrderDetails{Order: order1, Partial: []*bffv1.PartialFailure{
				partial("user", "ABORTED", true), partial("profile", "PERMISSION_DENIED", false)}},
		},
		{
			name:       "a stranger's order is not found, and nothing else is asked",
			methods:    map[string]behaviour{getOrder: fails(detailed(t).Err())},
			wantStatus: detailed(t),
		},
		{
			name:    "a late order leaves the rest some time",
			methods: map[string]behaviour{getOrder: after(1700*ms, answers(order1)), getProfile: hangs()}, deadline: 2 * time.Second,
			want:      &bffv1.OrderDetails{Order: order1, User: ada, Partial: []*bffv1.PartialFailure{partial("profile", "DEADLINE_EXCEEDED", true)}},
			wantAfter: 1950 * ms,
		},
		{
			name:    "an order too late to be of use",
			methods: map[string]behaviour{getOrder: after(1900*ms, answers(order1))}, deadline: 2 * time.Second,
			wantStatus: status.FromContextError(context.DeadlineExceeded), wantAfter: 1800 * ms,
		},
		{
			name: "the caller goes away while the order is fetched", cancel: 30 * ms,
			methods:    map[string]behaviour{getOrder: hangs()},
			wantStatus: status.FromContextError(context.Canceled), wantAfter: 30 * ms,
		},
		{
			name: "the caller goes away after the order", cancel: 30 * ms,
			methods:    map[string]behaviour{getUser: hangs()},
			wantStatus: status.FromContextError(context.Canceled), wantAfter: 30 * ms,
		},
		{
			name:       "a panic while the order is fetched",
			methods:    map[string]behaviour{getOrder: panics("secret")},
			wantStatus: status.New(codes.Internal, "internal error"),
		},
	} {
		t.Run(sc.name, func(t *testing.T) {
			runScenario(t, sc, func(ctx context.Context, s *Server) (*bffv1.OrderDetails, error) {
				return s.GetOrderDetails(ctx, &bffv1.GetOrderDetailsRequest{OrderId: "o1"})
			})
		})
	}
}

func TestGetOrderDetailsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := healthy()
		if _, err := newServer(t, b, nil).GetOrderDetails(t.Context(), &bffv1.GetOrderDetailsRequest{OrderId: "o1"}); err != nil {
			t.Fatal(err)
		}
		for method, want := range map[string]proto.Message{
			getOrder:   &orderv1.GetOrderRequest{OrderId: "o1"},
			getUser:    &userv1.GetUserRequest{UserId: "ada"},
			getProfile: &profilev1.GetProfileRequest{UserId: "ada"},
		} {
			if got := b.calls[method]; got == nil || !proto.Equal(got.request, want) {
				t.Errorf("%s received %v, want %v", method, got, want)
			}
		}
	})
}

// Without the order nothing says whose user and profile to fetch.
func TestGetOrderDetailsStopsWithoutOrder(t *testing.T) {
	b := healthy().with(map[string]behaviour{getOrder: failsWith(codes.NotFound)})
	_, err := newServer(t, b, nil).GetOrderDetails(t.Context(), &bffv1.GetOrderDetailsRequest{OrderId: "o1"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("error %v, want NOT_FOUND", err)
	}
	if len(b.calls) != 1 {
		t.Errorf("%d methods were called, want only the order's", len(b.calls))
	}
}
