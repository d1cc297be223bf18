package transcode

import (
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// must marshals in the order of field numbers, and maps by key.
func must(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func anyOf(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: must(t, m)}
}

var aTime = &timestamppb.Timestamp{Seconds: 1767225600, Nanos: 250_000_000}

// scalars has every kind of scalar, list and choice, and no map or Any.
func scalars() *testv1.Kinds {
	return &testv1.Kinds{
		FDouble: 1.5e-9, FFloat: 3.25e10, FInt32: -7, FInt64: math.MinInt64, FUint32: math.MaxUint32, FUint64: math.MaxUint64,
		FSint32: -1, FSint64: math.MaxInt64, FFixed32: 5, FFixed64: 6, FSfixed32: -5, FSfixed64: -6, FBool: true,
		FString: "a \"quoted\" \\ string\nwith \u0001 and ünïcode 日本語", FBytes: []byte{0, 1, 2, 255}, FEnum: testv1.Kinds_COLOR_BLUE,
		FMessage: &testv1.Kinds{FInt32: 1}, OInt32: proto.Int32(0), OString: proto.String(""), OEnum: testv1.Kinds_COLOR_NEGATIVE.Enum(),
		RDouble: []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), 1e21, 1e-7, 123456789.125, 1e15, 9007199254740993},
		RInt32:  []int32{0, -1, 10, 99, 100, 12345, math.MaxInt32, math.MinInt32}, RInt64: []int64{0, 1, -1},
		RString: []string{"", "x", "four", "seven77", "eight888", "nine99999", "\u2028", "\x7f"}, RBytes: [][]byte{{}, {1}, {1, 2}, {1, 2, 3}},
		RBool: []bool{true, false}, REnum: []testv1.Kinds_Color{0, 1, 2, -1, 77},
		RMessage: []*testv1.Inner{{}, {Owner: "ada", Number: 3, Tags: []string{"a"}, Inner: &testv1.Inner{Owner: "b"}}},
		Choice:   &testv1.Kinds_CInt64{CInt64: 4}, WTimestamp: aTime, WDuration: &durationpb.Duration{Seconds: -3, Nanos: -1000},
		WMask: &fieldmaskpb.FieldMask{Paths: []string{"a_b.c_d", "e", "_x"}}, WEmpty: &emptypb.Empty{}, WBool: wrapperspb.Bool(false),
		WBytes: wrapperspb.Bytes([]byte("hi")), WDouble: wrapperspb.Double(math.NaN()), WFloat: wrapperspb.Float(0.1), WInt32: wrapperspb.Int32(-3),
		WInt64: wrapperspb.Int64(0), WString: wrapperspb.String("w"), WUint32: wrapperspb.UInt32(1), WUint64: wrapperspb.UInt64(2),
		RwString: []*wrapperspb.StringValue{{}, {Value: "x"}}, Renamed: "r",
	}
}

// full has what scalars has not.
func full(t testing.TB) *testv1.Kinds {
	t.Helper()
	k := scalars()
	k.MString = map[string]string{"": "", "b": "2", "a": "1", "ä": "3"}
	k.MInt64 = map[int64]*testv1.Inner{-1: {Owner: "x"}, 0: {}, 5: {Number: 1}}
	k.MBool = map[bool]testv1.Kinds_Color{true: 1, false: 99}
	k.Choice = &testv1.Kinds_CMessage{CMessage: &testv1.Inner{Owner: "c"}}
	s, err := structpb.NewStruct(map[string]any{"z": 1.0, "a": []any{nil, true, "x", map[string]any{}}, "m": map[string]any{"k": 1e300}})
	if err != nil {
		t.Fatal(err)
	}
	k.WStruct, k.WValue, k.WList = s, structpb.NewStructValue(s), &structpb.ListValue{Values: []*structpb.Value{structpb.NewNullValue()}}
	k.WAny = anyOf(t, anyOf(t, aTime))
	k.MwTimestamp = map[string]*timestamppb.Timestamp{"x": {}, "y": aTime}
	return k
}

func legacy() *testv1.Legacy {
	m := &testv1.Legacy{
		Id: proto.String("1"), Count: proto.Int32(0), Size: testv1.Legacy_SIZE_SMALL.Enum(), Loose: []int32{1, 2}, Tight: []int64{-1, 5},
		Sizes: []testv1.Legacy_Size{1, 5}, Part: &testv1.Legacy_Part{Name: proto.String("p"), Piece: []*testv1.Legacy_Part_Piece{{Number: proto.Int64(9)}, {}}},
		Row: []*testv1.Legacy_Row{{Cell: []byte("x")}, {}}, Choice: &testv1.Legacy_Chosen_{Chosen: &testv1.Legacy_Chosen{Flag: proto.Bool(true)}},
		MFit: map[string]testv1.Legacy_Fit{"a": 0, "b": 2}, Raws: []string{"r"}, Limit: proto.Float64(math.Inf(-1)),
	}
	proto.SetExtension(m, testv1.E_XNote, "note")
	proto.SetExtension(m, testv1.E_XNumbers, []int32{1, 2})
	proto.SetExtension(m, testv1.E_XLegacy, &testv1.Legacy{Id: proto.String("x")})
	proto.SetExtension(m, testv1.E_XSize, testv1.Legacy_SIZE_LARGE)
	return m
}

func edition() *testv1.Edition {
	return &testv1.Edition{
		Explicit: proto.Int32(0), Implicit: 3, Required: proto.String("r"), Delimited: &testv1.Edition{Required: proto.String("d"), Delimited: &testv1.Edition{Required: proto.String("dd")}},
		Delimiteds: []*testv1.Edition{{Required: proto.String("1")}, {Required: proto.String("2")}}, Expanded: []uint32{1, 2}, Packed: []uint32{3, 4},
		Unchecked: proto.String("u"), Checked: proto.String("c"), Level: testv1.Edition_LEVEL_HIGH.Enum(), Levels: []testv1.Edition_Level{0, 3},
		Children: map[string]*testv1.Edition{"k": {Required: proto.String("v")}}, Text: "t",
	}
}

// aUser and orders are what tools/bench/backend answers.
func aUser() *userv1.User {
	return &userv1.User{
		UserId: "ada", Email: "ada@example.com", DisplayName: "Ada Lovelace", Phone: proto.String("+441632960001"),
		CreateTime: aTime, UpdateTime: aTime, Etag: "1",
	}
}

func orders(n int) *orderv1.ListOrdersResponse {
	page := &orderv1.ListOrdersResponse{NextPageToken: fmt.Sprintf("from-%d", n)}
	for i := range n {
		o := &orderv1.Order{
			OrderId: fmt.Sprintf("ada-%04d", i), UserId: "ada", State: orderv1.OrderState_ORDER_STATE_PAID,
			Total:      &typev1.Money{CurrencyCode: "EUR", Units: 75},
			CreateTime: aTime, UpdateTime: aTime, Etag: "1", Note: "Leave it with the neighbour.",
		}
		for j := range 3 {
			o.Lines = append(o.Lines, &orderv1.OrderLine{
				Sku: fmt.Sprintf("sku-%d", j), Title: "A fine thing to have", Quantity: 2,
				Price: &typev1.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000},
			})
		}
		page.Orders = append(page.Orders, o)
	}
	return page
}

// samples are valid messages of every subject.
func samples(t testing.TB) []proto.Message {
	t.Helper()
	k := full(t)
	partial := anyOf(t, &testv1.Legacy{Part: &testv1.Legacy_Part{}})
	return []proto.Message{
		&testv1.Kinds{}, k, scalars(), &testv1.Kinds{FMessage: k, Choice: &testv1.Kinds_CString{CString: "s"}}, &testv1.Kinds{Choice: &testv1.Kinds_CNull{}},
		legacy(), &testv1.Legacy{Id: proto.String(""), Anything: anyOf(t, legacy())}, edition(), &testv1.Edition{Required: proto.String("")},
		&testv1.EchoResponse{Id: "i", Kinds: k, Metadata: map[string]string{"b": "x", "a": "y"}, DeadlineMs: -1, Scopes: []string{"a", "b"}},
		structpb.NewNumberValue(1.5), k.WValue, structpb.NewNullValue(), structpb.NewStringValue("s"), structpb.NewBoolValue(false),
		&anypb.Any{}, anyOf(t, k), anyOf(t, &emptypb.Empty{}), anyOf(t, wrapperspb.Int64(3)), anyOf(t, k.WValue), partial, anyOf(t, partial), anyOf(t, edition()),
		orders(2), &orderv1.ListOrdersResponse{},
	}
}
