package aggregator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

func partial(branch, code string, retryable bool) *bffv1.PartialFailure {
	return &bffv1.PartialFailure{Branch: branch, Code: code, Retryable: retryable}
}

// scenario is a call of a composite: what its backends do, and what must come of
// it, to the (fake) nanosecond.
type scenario[Resp proto.Message] struct {
	name     string
	methods  map[string]behaviour // in place of healthy ones
	deadline time.Duration        // the caller's; 0: none
	cancel   time.Duration        // the caller goes away then; 0: stays

	want       Resp
	wantStatus *status.Status // nil: want
	wantAfter  time.Duration
}

func runScenario[Resp proto.Message](t *testing.T, sc scenario[Resp], call func(context.Context, *Server) (Resp, error)) {
	synctest.Test(t, func(t *testing.T) {
		b := healthy().with(sc.methods)
		s := newServer(t, b, nil)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), ctxKey{}, "the caller's"))
		defer cancel()
		if sc.deadline > 0 {
			ctx, cancel = context.WithTimeout(ctx, sc.deadline)
			defer cancel()
		}
		if sc.cancel > 0 {
			time.AfterFunc(sc.cancel, cancel)
		}

		start := time.Now()
		got, err := call(ctx, s)
		if d := time.Since(start); d != sc.wantAfter {
			t.Errorf("answered after %v, want %v", d, sc.wantAfter)
		}
		if sc.wantStatus != nil {
			if diff := cmp.Diff(sc.wantStatus.Proto(), status.Convert(err).Proto(), protocmp.Transform()); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		} else if err != nil {
			t.Errorf("error %v, want an answer", err)
		} else if diff := cmp.Diff(sc.want, read(t, got), protocmp.Transform()); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
		for method, c := range b.calls {
			if c.value != "the caller's" {
				t.Errorf("%s was called without the caller's context", method)
			}
		}
	})
}

func detailed(t *testing.T) *status.Status {
	t.Helper()
	st, err := status.New(codes.NotFound, "user ada not found").
		WithDetails(&errdetails.ErrorInfo{Reason: "USER_DELETED", Domain: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestGetUserOverview(t *testing.T) {
	const ms = time.Millisecond
	orders := adaOrders.GetOrders()
	whole := &bffv1.UserOverview{User: ada, Profile: adaProfile, RecentOrders: orders}
	noProfile := func(p ...*bffv1.PartialFailure) *bffv1.UserOverview {
		return &bffv1.UserOverview{User: ada, RecentOrders: orders, Partial: p}
	}
	late := status.FromContextError(context.DeadlineExceeded)
	gone := status.FromContextError(context.Canceled)

	for _, sc := range []scenario[*bffv1.UserOverview]{
		{name: "all there", want: whole},
		{
			name: "branches run at once",
			methods: map[string]behaviour{
				getUser:    after(30*ms, answers(ada)),
				getProfile: after(20*ms, answers(adaProfile)),
				listOrders: after(10*ms, answers(adaOrders)),
			},
			want: whole, wantAfter: 30 * ms,
		},
		{
			name:    "a user without a profile is no failure",
			methods: map[string]behaviour{getProfile: failsWith(codes.NotFound)},
			want:    noProfile(),
		},
		{
			name:    "orders not found is one",
			methods: map[string]behaviour{listOrders: failsWith(codes.NotFound)},
			want:    &bffv1.UserOverview{User: ada, Profile: adaProfile, Partial: []*bffv1.PartialFailure{partial("recent_orders", "NOT_FOUND", false)}},
		},
		{
			name: "entries in the order of declaration, whoever failed first",
			methods: map[string]behaviour{
				getProfile: after(20*ms, failsWith(codes.Unavailable)),
				listOrders: after(10*ms, failsWith(codes.ResourceExhausted)),
			},
			want: &bffv1.UserOverview{User: ada, Partial: []*bffv1.PartialFailure{
				partial("profile", "UNAVAILABLE", true), partial("recent_orders", "RESOURCE_EXHAUSTED", true)}},
			wantAfter: 20 * ms,
		},
		{
			name:    "what the caller may not see is named, not retryable",
			methods: map[string]behaviour{getProfile: failsWith(codes.PermissionDenied), listOrders: failsWith(codes.Unauthenticated)},
			want: &bffv1.UserOverview{User: ada, Partial: []*bffv1.PartialFailure{
				partial("profile", "PERMISSION_DENIED", false), partial("recent_orders", "UNAUTHENTICATED", false)}},
		},
		{
			name:    "an optional branch that is late is left out in time: a tenth of 2s is kept back",
			methods: map[string]behaviour{getProfile: hangs()}, deadline: 2 * time.Second,
			want: noProfile(partial("profile", "DEADLINE_EXCEEDED", true)), wantAfter: 1800 * ms,
		},
		{
			name:    "of 200ms, 50ms are kept back",
			methods: map[string]behaviour{getProfile: hangs()}, deadline: 200 * ms,
			want: noProfile(partial("profile", "DEADLINE_EXCEEDED", true)), wantAfter: 150 * ms,
		},
		{
			name:    "of 40ms, half",
			methods: map[string]behaviour{getProfile: hangs()}, deadline: 40 * ms,
			want: noProfile(partial("profile", "DEADLINE_EXCEEDED", true)), wantAfter: 20 * ms,
		},
		{
			name:    "without a caller's deadline, DefaultBranchTimeout holds",
			methods: map[string]behaviour{getProfile: hangs()},
			want:    noProfile(partial("profile", "DEADLINE_EXCEEDED", true)), wantAfter: DefaultBranchTimeout,
		},
		{
			name:    "an answer after the branch's deadline is not handed over",
			methods: map[string]behaviour{getProfile: stubborn(190*ms, answers(adaProfile))}, deadline: 200 * ms,
			want: noProfile(partial("profile", "DEADLINE_EXCEEDED", true)), wantAfter: 190 * ms,
		},
		{
			name:    "the required branch may use what the optional ones may not",
			methods: map[string]behaviour{getUser: after(190*ms, answers(ada)), getProfile: hangs()}, deadline: 200 * ms,
			want: noProfile(partial("profile", "DEADLINE_EXCEEDED", true)), wantAfter: 190 * ms,
		},
		{
			name:       "the required branch's status is the answer, with its details, at once",
			methods:    map[string]behaviour{getUser: after(10*ms, fails(detailed(t).Err())), getProfile: hangs(), listOrders: hangs()},
			wantStatus: detailed(t), wantAfter: 10 * ms,
		},
		{
			name:       "a wrapped status comes without its wrapping",
			methods:    map[string]behaviour{getUser: fails(fmt.Errorf("dial 10.0.0.7: %w", detailed(t).Err()))},
			wantStatus: detailed(t),
		},
		{
			name:       "an error that is no status leaks nothing",
			methods:    map[string]behaviour{getUser: fails(errors.New("secret"))},
			wantStatus: status.New(codes.Unknown, "unknown error"),
		},
		{
			name:       "a failed optional branch does not hide the required one's failure",
			methods:    map[string]behaviour{getProfile: failsWith(codes.Internal), getUser: after(10*ms, failsWith(codes.Unavailable))},
			wantStatus: status.New(codes.Unavailable, "as told"), wantAfter: 10 * ms,
		},
		{
			name:    "the required branch misses the caller's deadline",
			methods: map[string]behaviour{getUser: hangs()}, deadline: 200 * ms,
			wantStatus: late, wantAfter: 200 * ms,
		},
		{
			name: "whatever a branch makes of the caller's deadline, the answer is that",
			methods: map[string]behaviour{
				getUser: stubborn(201*ms, failsWith(codes.Unavailable)),
			}, deadline: 200 * ms,
			wantStatus: late, wantAfter: 201 * ms,
		},
		{
			name: "the caller goes away", cancel: 30 * ms,
			methods:    map[string]behaviour{getUser: hangs(), getProfile: hangs(), listOrders: hangs()},
			wantStatus: gone, wantAfter: 30 * ms,
		},
		{
			name: "the caller goes away while only optional branches are left", cancel: 30 * ms,
			methods:    map[string]behaviour{getProfile: hangs()},
			wantStatus: gone, wantAfter: 30 * ms,
		},
		{
			name:       "a panic in the required branch",
			methods:    map[string]behaviour{getUser: panics("secret"), listOrders: hangs()},
			wantStatus: status.New(codes.Internal, "internal error"),
		},
		{
			name:    "a panic in an optional branch",
			methods: map[string]behaviour{getProfile: panics(errors.New("secret"))},
			want:    noProfile(partial("profile", "INTERNAL", false)),
		},
	} {
		t.Run(sc.name, func(t *testing.T) {
			runScenario(t, sc, func(ctx context.Context, s *Server) (*bffv1.UserOverview, error) {
				return s.GetUserOverview(ctx, &bffv1.GetUserOverviewRequest{UserId: "ada"})
			})
		})
	}
}

// The table above sees answers; this is what the services see.
func TestGetUserOverviewCalls(t *testing.T) {
	for _, tc := range []struct {
		orderLimit, wantPageSize int32
	}{{0, 10}, {1, 1}, {50, 50}} {
		synctest.Test(t, func(t *testing.T) {
			b := healthy()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			start := time.Now()
			if _, err := newServer(t, b, nil).GetUserOverview(ctx, &bffv1.GetUserOverviewRequest{UserId: "ada", OrderLimit: tc.orderLimit}); err != nil {
				t.Fatal(err)
			}
			for method, want := range map[string]*received{
				getUser:    {request: &userv1.GetUserRequest{UserId: "ada"}, deadline: start.Add(2 * time.Second)},
				getProfile: {request: &profilev1.GetProfileRequest{UserId: "ada"}, deadline: start.Add(1800 * time.Millisecond)},
				listOrders: {request: &orderv1.ListOrdersRequest{UserId: "ada", PageSize: tc.wantPageSize}, deadline: start.Add(1800 * time.Millisecond)},
			} {
				got := b.calls[method]
				if got == nil {
					t.Fatalf("%s was not called", method)
				}
				if !proto.Equal(got.request, want.request) {
					t.Errorf("%s received %v, want %v", method, got.request, want.request)
				}
				if !got.deadline.Equal(want.deadline) {
					t.Errorf("%s has a deadline in %v, want %v", method, got.deadline.Sub(start), want.deadline.Sub(start))
				}
			}
			if len(b.calls) != 3 {
				t.Errorf("%d methods were called, want 3", len(b.calls))
			}
		})
	}
}

func TestRequiredFailureCancelsSiblings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := healthy().with(map[string]behaviour{
			getUser: after(time.Millisecond, failsWith(codes.Unavailable)), getProfile: hangs(), listOrders: hangs(),
		})
		_, err := newServer(t, b, nil).GetUserOverview(t.Context(), &bffv1.GetUserOverviewRequest{UserId: "ada"})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("error %v, want UNAVAILABLE", err)
		}
		for _, sibling := range []string{getProfile, listOrders} {
			if got := b.calls[sibling].ended; !errors.Is(got, context.Canceled) {
				t.Errorf("%s ended with %v, want it cancelled", sibling, got)
			}
		}
	})
}

func TestPanicIsLoggedNotTold(t *testing.T) {
	var logs bytes.Buffer
	b := healthy().with(map[string]behaviour{getProfile: panics("secret")})
	got, err := newServer(t, b, &logs).GetUserOverview(t.Context(), &bffv1.GetUserOverviewRequest{UserId: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(read(t, got).String(), "secret") {
		t.Errorf("the answer tells the panic: %v", got)
	}
	for _, want := range []string{"level=ERROR", "branch=profile", "panic=secret", "fake_test.go"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, logs.String())
		}
	}
}
