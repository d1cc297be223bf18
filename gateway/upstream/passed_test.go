package upstream_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

var (
	overviewOfAda = &bffv1.GetUserOverviewRequest{UserId: "ada"}
	detailsOfO1   = &bffv1.GetOrderDetailsRequest{OrderId: "o1"}
)

// TestPassedIsParsed: whatever legal bytes services send, a composite says what it
// would have said had it parsed them.
func TestPassedIsParsed(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := compose(t, kind)
			r := rand.New(rand.NewPCG(1, 4))
			for range 200 {
				user, profile, order, list := &userv1.User{}, &profilev1.Profile{}, &orderv1.Order{}, &orderv1.ListOrdersResponse{}
				for _, answer := range []struct {
					method string
					parsed proto.Message
				}{{getUser, user}, {getProfile, profile}, {listOrders, list}, {getOrder, order}} {
					b := unusual(r, answer.parsed.ProtoReflect().Descriptor(), 3)
					if answer.method == getOrder { // Whose user ada may see.
						b = append(b, field(2, "ada")...)
					}
					if err := proto.Unmarshal(b, answer.parsed); err != nil {
						t.Fatalf("%s: %x: %v", answer.method, b, err)
					}
					c.set(answer.method, b)
				}
				c.mustAnswer(t, getOverview, overviewOfAda, &bffv1.UserOverview{User: user, Profile: profile, RecentOrders: list.GetOrders()})
				c.mustAnswer(t, getDetails, detailsOfO1, &bffv1.OrderDetails{Order: order, User: user, Profile: profile})
			}
		})
	}
}

func (c *composites) mustAnswer(t testing.TB, method string, in, want proto.Message) {
	t.Helper()
	got := want.ProtoReflect().New().Interface()
	if err := c.call(t, method, in, got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Fatalf("%s: passed on: %v\nparsed: %v\nanswers: %x", method, got, want, c.answers)
	}
}

// unusual is a message as no generated code would write it, but as any parser must
// read it: fields in any order and again, lists and messages in pieces, unknown
// fields, groups, wrong wire types.
func unusual(r *rand.Rand, md protoreflect.MessageDescriptor, depth int) []byte {
	var b []byte
	fields := md.Fields()
	for range r.IntN(8) {
		switch r.IntN(8) {
		case 0:
			b = protowire.AppendTag(b, 7000, protowire.StartGroupType)
			b = append(b, field(1, "unknown")...)
			b = protowire.AppendTag(b, 7000, protowire.EndGroupType)
		case 1: // Of a list's number, too: number 1 is the orders of a ListOrdersResponse.
			b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(1+r.IntN(30)), protowire.VarintType), r.Uint64())
		case 2:
			b = protowire.AppendFixed32(protowire.AppendTag(b, protowire.Number(1+r.IntN(30)), protowire.Fixed32Type), r.Uint32())
		default:
			fd := fields.Get(r.IntN(fields.Len()))
			switch fd.Kind() {
			case protoreflect.MessageKind:
				if depth > 0 {
					b = append(b, field(fd.Number(), string(unusual(r, fd.Message(), depth-1)))...)
				}
			case protoreflect.StringKind, protoreflect.BytesKind:
				b = append(b, field(fd.Number(), []string{"", "ada", "Zoë", strings.Repeat("x", 300)}[r.IntN(4)])...)
			default:
				b = protowire.AppendVarint(protowire.AppendTag(b, fd.Number(), protowire.VarintType), r.Uint64())
			}
		}
	}
	return b
}

func field(n protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), value)
}

// nonsense is bytes that are no User, no Profile, no ListOrdersResponse, each for
// another reason.
var nonsense = map[string][]byte{
	"cut off":               {0x0a, 5, 'a'},
	"no tag":                {0xff, 0xff, 0xff},
	"field 0":               {0x02, 0},
	"a group without end":   {0x0b, 0x08, 1},
	"an end without group":  {0x0c},
	"wire type 7":           {0x0f, 0},
	"not UTF-8, far inside": {},
}

// TestNonsensePassed: what is not read is checked all the same. A required branch
// that answers nonsense fails the composite, an optional one is named.
func TestNonsensePassed(t *testing.T) {
	ok := map[string][]byte{getUser: field(1, "ada"), getProfile: field(1, "ada"), listOrders: field(1, string(field(1, "o1"))), getOrder: field(2, "ada")}
	deep := map[string][]byte{
		getUser:    field(1, "\xff"),
		getProfile: field(1, "\xff"),
		listOrders: field(1, string(field(3, string(field(2, "\xff"))))),
		getOrder:   field(3, string(field(2, "\xff"))),
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := compose(t, kind)
			for why, bad := range nonsense {
				for _, tc := range []struct {
					method, branch, part string // no part: required
					in, out              proto.Message
				}{
					{getOverview, getUser, "", overviewOfAda, &bffv1.UserOverview{}},
					{getOverview, getProfile, "profile", overviewOfAda, &bffv1.UserOverview{}},
					{getOverview, listOrders, "recent_orders", overviewOfAda, &bffv1.UserOverview{}},
					{getDetails, getOrder, "", detailsOfO1, &bffv1.OrderDetails{}},
					{getDetails, getUser, "user", detailsOfO1, &bffv1.OrderDetails{}},
				} {
					for method, b := range ok {
						c.set(method, b)
					}
					if c.set(tc.branch, bad); len(bad) == 0 {
						c.set(tc.branch, deep[tc.branch])
					}
					err := c.call(t, tc.method, tc.in, tc.out)
					if tc.part == "" {
						if status.Code(err) != codes.Internal || !badResponse(err) {
							t.Errorf("%s, %s of %s: %v", tc.method, why, tc.branch, err)
						}
						continue
					}
					partial := tc.out.(interface {
						GetPartial() []*bffv1.PartialFailure
					}).GetPartial()
					if err != nil || len(partial) != 1 || partial[0].GetBranch() != tc.part || partial[0].GetCode() != "INTERNAL" {
						t.Errorf("%s, %s of %s: %v, %v", tc.method, why, tc.branch, partial, err)
					}
				}
			}
		})
	}
}

func badResponse(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == upstream.ReasonBadResponse {
			return true
		}
	}
	return false
}

// TestEmptyPassed: an answer of no bytes is a message, not a missing one; a list of
// none is none.
func TestEmptyPassed(t *testing.T) {
	for _, kind := range kinds {
		c := compose(t, kind)
		for _, method := range []string{getUser, getProfile, listOrders} {
			c.set(method, nil)
		}
		c.mustAnswer(t, getOverview, overviewOfAda, &bffv1.UserOverview{User: &userv1.User{}, Profile: &profilev1.Profile{}})
	}
}

// TestPassedAtOnce: a large answer in many pieces, many times at once; nobody reads
// another's bytes, nor memory that was given back.
func TestPassedAtOnce(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := compose(t, kind)
			want := &bffv1.UserOverview{User: &userv1.User{UserId: "ada", DisplayName: strings.Repeat("a", 2000)}, Profile: &profilev1.Profile{Bio: strings.Repeat("b", 40000)}}
			list := &orderv1.ListOrdersResponse{NextPageToken: "more"}
			for i := range 500 {
				list.Orders = append(list.Orders, &orderv1.Order{OrderId: fmt.Sprint(i), Note: strings.Repeat("c", 400)})
			}
			want.RecentOrders = list.GetOrders()
			for method, m := range map[string]proto.Message{getUser: want.GetUser(), getProfile: want.GetProfile(), listOrders: list} {
				b, err := proto.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				c.set(method, b)
			}
			var wg sync.WaitGroup
			for range 4 {
				ctx := c.admit(t, getOverview)
				wg.Go(func() {
					for range 10 {
						var f wire.Frame
						if err := c.Invoke(ctx, getOverview, overviewOfAda, &f); err != nil {
							t.Error(err)
							return
						}
						got := &bffv1.UserOverview{}
						if err := proto.Unmarshal(f.Data, got); err != nil || !proto.Equal(got, want) {
							t.Errorf("another answer, or none: %v", err)
							return
						}
						f.Free()
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestPassedIntoRequest: what a composite has not read and sends on is seen by the
// entry checks, as the service will see it.
func TestPassedIntoRequest(t *testing.T) {
	f := connect(t, signer{})
	for owner, want := range map[string]codes.Code{"ada": codes.OK, "bob": codes.PermissionDenied} {
		inner := &testv1.Inner{}
		inner.ProtoReflect().SetUnknown(field(testv1.File_sluice_test_v1_test_proto.Messages().ByName("Inner").Fields().ByName("owner").Number(), owner))
		code(t, f.Branches().Invoke(f.admit(t, "Echo", "test.write"), service+"Nothing", &testv1.NothingRequest{Inner: inner}, &emptypb.Empty{}), want)
	}
	code(t, f.Branches().Invoke(f.admit(t, "Echo", "test.write"), service+"Nothing", &testv1.NothingRequest{Inner: &testv1.Inner{Owner: "\xff"}}, &emptypb.Empty{}), codes.Internal)
}
