package aggregator

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// FuzzSplit: of bytes that a parser takes, the list that is split off and spliced
// into a composite is the list that the parser sees; no bytes make it panic.
func FuzzSplit(f *testing.F) {
	whole, err := proto.Marshal(adaOrders)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", string(whole), string(whole) + string(whole), string(whole[:len(whole)-1]),
		"\x0a\x00",                         // an empty order
		"\x12\x04more\x0a\x04\x0a\x02o1",   // the token first
		"\x08\x01\x0a\x04\x0a\x02o1",       // the list's number, but a varint
		"\x0b\x0a\x02o1\x0c\x0a\x00",       // … and a group
		"\x0a\x07\x22\x01\x00\x22\x02\x10", // malformed inside
		"\x0c", "\x0a\xff\xff\xff\xff\x0f", "\x02\x00", "\x7b\x0a\x00\x7c\x0a\x04\x48\x01\x48\x02",
	} {
		f.Add([]byte(seed))
	}
	number := (&orderv1.ListOrdersResponse{}).ProtoReflect().Descriptor().Fields().ByName("orders").Number()
	f.Fuzz(func(t *testing.T, b []byte) {
		before := string(b)
		list, err := split[orderv1.Order, *orderv1.Order](b, number)
		parsed := &orderv1.ListOrdersResponse{}
		if proto.Unmarshal(b, parsed) != nil {
			return // The connection refuses it.
		}
		if err != nil {
			t.Fatalf("refused what is parsed: %v", parsed)
		}
		got := read(t, &bffv1.UserOverview{RecentOrders: list})
		if want := (&bffv1.UserOverview{RecentOrders: parsed.GetOrders()}); !proto.Equal(got, want) {
			t.Fatalf("split: %v\nparsed: %v", got, want)
		}
		for _, o := range list { // The messages share the bytes, not their ends.
			o.ProtoReflect().SetUnknown(append(o.ProtoReflect().GetUnknown(), 0xff))
		}
		if string(b) != before {
			t.Fatal("appending to one message wrote into another")
		}
	})
}

// garbage answers with bytes that no conscientious connection
// would hand over.
type garbage struct{}

func (garbage) Call(_ context.Context, method string, _ []byte) ([]byte, error) {
	if method == listOrders || method == getOrder {
		return []byte("\x0a\x05o"), nil
	}
	return nil, nil
}

// A list that cannot be split, or an answer that cannot be read, is that branch's failure.
func TestUnsplittable(t *testing.T) {
	got, err := serverOf(t, garbage{}).GetUserOverview(t.Context(), &bffv1.GetUserOverviewRequest{UserId: "ada"})
	if err != nil || len(got.GetPartial()) != 1 || got.GetPartial()[0].GetCode() != "INTERNAL" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := serverOf(t, garbage{}).GetOrderDetails(t.Context(), &bffv1.GetOrderDetailsRequest{OrderId: "o1"}); status.Code(err) != codes.Internal {
		t.Errorf("an order that is none: %v", err)
	}
}

// What the composites' messages cannot hold stops the start.
func TestMethodsRefused(t *testing.T) {
	method := func(_ Method[userv1.GetUserRequest, userv1.User], err error) error { return err }
	list := func(_ ListMethod[orderv1.ListOrdersRequest, orderv1.Order], err error) error { return err }
	for want, err := range map[string]error{
		"not found":              method(NewMethod[userv1.GetUserRequest, userv1.User](noop{}, "/shop.user.v1.UserService/NoSuch")),
		"not a shop.user.v1.Get": method(NewMethod[userv1.GetUserRequest, userv1.User](noop{}, getProfile)),
		"not a shop.user.v1.User": method(func() (m Method[userv1.GetUserRequest, userv1.User], err error) {
			_, err = NewMethod[profilev1.GetProfileRequest, userv1.User](noop{}, getProfile)
			return m, err
		}()),
		"no unary method": list(NewListMethod[orderv1.ListOrdersRequest, orderv1.Order](noop{}, orderv1.OrderService_WatchOrder_FullMethodName, "orders")),
		`no list of messages named "next_page_token"`: list(NewListMethod[orderv1.ListOrdersRequest, orderv1.Order](noop{}, listOrders, "next_page_token")),
		`no list of messages named "order"`:           list(NewListMethod[orderv1.ListOrdersRequest, orderv1.Order](noop{}, listOrders, "order")),
		"not a shop.user.v1.User ": func() error {
			_, err := NewListMethod[orderv1.ListOrdersRequest, userv1.User](noop{}, listOrders, "orders")
			return err
		}(),
	} {
		if err == nil || !strings.Contains(err.Error()+" ", want) {
			t.Errorf("%v, want one that says %s", err, want)
		}
	}
}

// An answer that comes after its branch's end is not handed over, read or not.
func TestPassedTooLate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serverOf(t, late{cancel: cancel})
	user, list := &userv1.User{}, []*orderv1.Order{}
	for _, err := range []error{Fetch(&user, s.getUser, &userv1.GetUserRequest{})(ctx), Pass(&user, s.getUser, &userv1.GetUserRequest{})(ctx), PassList(&list, s.listOrders, &orderv1.ListOrdersRequest{})(ctx)} {
		if status.Code(err) != codes.Canceled {
			t.Errorf("error %v, want CANCELLED", err)
		}
	}
	if len(user.ProtoReflect().GetUnknown()) != 0 || len(list) != 0 {
		t.Errorf("handed over: %v, %v", user, list)
	}
}

type late struct{ cancel context.CancelFunc }

func (l late) Call(context.Context, string, []byte) ([]byte, error) {
	l.cancel()
	return []byte("\x0a\x03ada"), nil
}
