package kit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

// shop serves the shop's contracts with nothing behind them: what is valid is
// UNIMPLEMENTED.
func shop(r grpc.ServiceRegistrar) {
	register(r)
	orderv1.RegisterOrderServiceServer(r, orderv1.UnimplementedOrderServiceServer{})
	profilev1.RegisterProfileServiceServer(r, profilev1.UnimplementedProfileServiceServer{})
	userv1.RegisterUserServiceServer(r, userv1.UnimplementedUserServiceServer{})
}

// wantSmall fails unless what is answered fits in any peer's trailers, and returns
// the violations.
func wantSmall(t *testing.T, err error) []*errdetails.BadRequest_FieldViolation {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != grpccodes.InvalidArgument || len(st.Details()) != 1 {
		t.Fatalf("err = %.500v, want INVALID_ARGUMENT with a detail", err)
	}
	if n := proto.Size(st.Proto()); n > 4<<10 {
		t.Errorf("the status has %d bytes, want 4 KiB at most", n)
	}
	bad := st.Details()[0].(*errdetails.BadRequest)
	for _, v := range bad.GetFieldViolations() {
		if v.GetField() == "" || v.GetReason() == "" || v.GetDescription() == "" {
			t.Errorf("violation = %v, want all of it", v)
		}
	}
	return bad.GetFieldViolations()
}

// TestBombs sends what is wrong in as many places as a request has room for. The
// answer is small, and the connection goes on serving others.
func TestBombs(t *testing.T) {
	emptyLines := &orderv1.CreateOrderRequest{UserId: "ada", Order: &orderv1.Order{Lines: make([]*orderv1.OrderLine, 100)}}
	for i := range emptyLines.Order.Lines {
		emptyLines.Order.Lines[i] = &orderv1.OrderLine{}
	}
	ids := make([]string, 300_000)
	longKeys := map[string]string{strings.Repeat("\x01", 300_000): "x", "b" + strings.Repeat("é", 300_000): "x"}
	for i := range 18 {
		longKeys[strings.Repeat("é", 1000+i)] = "x"
	}
	for _, transport := range kittest.Transports() {
		t.Run(transport, func(t *testing.T) {
			c := kittest.Serve(t, transport, shop, nil).As("ada", "admin")
			orders, profiles := orderv1.NewOrderServiceClient(c), profilev1.NewProfileServiceClient(c)
			others, err := testv1.NewTestServiceClient(c).Up(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, tt := range []struct {
				name, field, reason string // of the first violation, if they are told
				most                int
				call                func() error
			}{
				{"order of 349,000 empty lines", "order.lines", "repeated.max_items", 1, func() error {
					_, err := orders.CreateOrder(t.Context(), orderBomb())
					return err
				}},
				{"order of 100 empty lines", "order.lines[0].sku", "string.pattern", 20, func() error {
					_, err := orders.CreateOrder(t.Context(), emptyLines)
					return err
				}},
				{"profile of 65,000 links", "profile.links", "map.max_pairs", 1, func() error {
					_, err := profiles.UpdateProfile(t.Context(), linksBomb())
					return err
				}},
				{"profile of 20 links with long names", "", "", 20, func() error {
					_, err := profiles.UpdateProfile(t.Context(), &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada", Links: longKeys}})
					return err
				}},
				{"300,000 empty ids", "user_ids", "repeated.max_items", 1, func() error {
					_, err := userv1.NewUserServiceClient(c).BatchGetUsers(t.Context(), &userv1.BatchGetUsersRequest{UserIds: ids})
					return err
				}},
				{"NUL below a long name", `kinds.m_string["` + strings.Repeat("k", 37) + `…"]`, "string.nul", 1, func() error {
					_, err := testv1.NewTestServiceClient(c).Echo(t.Context(), &testv1.EchoRequest{Kinds: &testv1.Kinds{
						MString: map[string]string{strings.Repeat("k", 1<<20): "\x00"}}})
					return err
				}},
			} {
				t.Run(tt.name, func(t *testing.T) {
					got := wantSmall(t, tt.call())
					if len(got) == 0 || len(got) > tt.most {
						t.Fatalf("%d violations, want 1 to %d", len(got), tt.most)
					}
					if tt.field != "" && (got[0].GetField() != tt.field || got[0].GetReason() != tt.reason) {
						t.Errorf("first violation = %v, want %s of %s", got[0], tt.reason, tt.field)
					}
				})
			}
			if err := others.Send(&testv1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
			if resp, err := others.CloseAndRecv(); err != nil || resp.GetIndex() != 1 {
				t.Errorf("another's stream = %v, %v, want it unharmed", resp, err)
			}
			if _, err := orders.CreateOrder(t.Context(), goodOrder(100)); status.Code(err) != grpccodes.Unimplemented {
				t.Errorf("a good order of 100 lines = %v, want it accepted", err)
			}
		})
	}
}

// TestValidationCost counts allocations: they stand for the time and the memory
// that a request can take from the others.
func TestValidationCost(t *testing.T) {
	validate, err := kit.NewValidate()
	if err != nil {
		t.Fatal(err)
	}
	manyOrders := &orderv1.ListOrdersResponse{} // Its list has no limit.
	for range 100_000 {
		manyOrders.Orders = append(manyOrders.Orders, &orderv1.Order{OrderId: strings.Repeat("x", 64)})
	}
	for _, tt := range []struct {
		name       string
		req        proto.Message
		violations int
		most       float64
	}{
		{"order of 3 lines", goodOrder(3), 0, 20},
		{"order of 100 lines", goodOrder(100), 0, 300}, // 3 of them, and more under the race detector, whose pools forget.
		{"order of 349,000 empty lines", orderBomb(), 1, 60},
		{"profile of 65,000 links", linksBomb(), 1, 60},
		{"100,000 wrong orders in a list without limit", manyOrders, 1, 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := validate(tt.req) // Compiles the rules.
			if tt.violations == 0 && err != nil || tt.violations > 0 && len(wantSmall(t, err)) != tt.violations {
				t.Fatalf("err = %v, want %d violations", err, tt.violations)
			}
			if got := testing.AllocsPerRun(3, func() { _ = validate(tt.req) }); got > tt.most {
				t.Errorf("%v allocations, want %v at most", got, tt.most)
			}
		})
	}
}

func TestDepth(t *testing.T) {
	nested := func(n int) *testv1.EchoRequest {
		req := &testv1.EchoRequest{Inner: &testv1.Inner{}}
		for in := req.Inner; n > 2; n-- {
			in.Inner = &testv1.Inner{}
			in = in.Inner
		}
		return req
	}
	over(t, func(t *testing.T, c *kittest.Conn, _ *logBuffer) {
		for name, call := range calls {
			t.Run(name, func(t *testing.T) {
				if _, err := call(t.Context(), c.As("ada"), nested(100)); err != nil {
					t.Errorf("100 messages deep: %v", err)
				}
				for _, n := range []int{101, 9000} {
					_, err := call(t.Context(), c.As("ada"), nested(n))
					if got := wantSmall(t, err); len(got) != 1 || got[0].GetReason() != "message.depth" || !strings.HasPrefix(got[0].GetField(), "inner.inner.") {
						t.Errorf("%d messages deep: %v", n, got)
					}
				}
			})
		}
	})
}

func TestInvalidFieldIsBounded(t *testing.T) {
	for _, text := range []string{"x", "é", "€", "😀", "\x01", "\"", "\xff"} {
		long := strings.Repeat(text, 1<<20/len(text))
		_, masked := kit.UpdateMask(&fieldmaskpb.FieldMask{Paths: []string{long}}, &userv1.User{}, "email")
		for _, err := range []error{masked, kit.InvalidField("field", "reason", "%q is wrong", long)} {
			if got := wantSmall(t, err); len(got) != 1 || !strings.Contains(got[0].GetDescription(), "…") {
				t.Errorf("violations = %.300v, want one, shortened", got)
			}
		}
		if text == "\xff" { // No proto string can hold it, but in quotes.
			continue
		}
		v := wantSmall(t, kit.InvalidField(long, long, "%s", long))[0]
		for what, s := range map[string]string{"field": v.GetField(), "reason": v.GetReason(), "description": v.GetDescription()} {
			if !utf8.ValidString(s) || !strings.HasSuffix(s, "…") || !strings.HasPrefix(long, strings.TrimSuffix(s, "…")) {
				t.Errorf("%s = %q", what, s)
			}
		}
	}
	short := kit.InvalidField(strings.Repeat("f", 200), strings.Repeat("r", 100), "%s", strings.Repeat("d", 400))
	if v := wantSmall(t, short)[0]; len(v.GetField()) != 200 || len(v.GetReason()) != 100 || len(v.GetDescription()) != 400 {
		t.Errorf("violation = %v, want it whole", v)
	}
}

// TestManyViolations: as many are told as fit, the first ones.
func TestManyViolations(t *testing.T) {
	validate, err := kit.NewValidate()
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []int{1, 6, 7, 33} { // Lines, with three violations each.
		req := goodOrder(50)
		var want []string
		for i := range wrong {
			req.Order.Lines[i] = &orderv1.OrderLine{}
			want = append(want, fmt.Sprintf("order.lines[%d].sku", i), fmt.Sprintf("order.lines[%d].quantity", i), fmt.Sprintf("order.lines[%d].price", i))
		}
		got := wantSmall(t, validate(req))
		if len(got) != min(len(want), 20) {
			t.Errorf("%d violations of %d, want at most 20", len(got), len(want))
		}
		for i, v := range got {
			if v.GetField() != want[i] {
				t.Errorf("violation %d is of %s, want %s", i, v.GetField(), want[i])
			}
		}
	}
	var asStatus interface{ GRPCStatus() *status.Status }
	if err := validate("no message"); err != nil || errors.As(err, &asStatus) {
		t.Errorf("what is no message: %v", err)
	}
}
