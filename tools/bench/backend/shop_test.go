package main

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
)

// What is sent is what the handlers answer: the encoding made ahead says the
// same as the message, and other messages are encoded as ever.
func TestCodec(t *testing.T) {
	s, err := newShop()
	if err != nil {
		t.Fatal(err)
	}
	list, err := orders{shop: s}.ListOrders(t.Context(), &orderv1.ListOrdersRequest{UserId: userID})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(list.GetOrders()); n != pageSize {
		t.Errorf("%d orders, want %d", n, pageSize)
	}
	codec := s.codec()
	for _, m := range []proto.Message{s.user, s.profile, list, list.GetOrders()[0], &orderv1.GetOrderRequest{OrderId: "x"}} {
		encoded, err := codec.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := m.ProtoReflect().New().Interface()
		if err := codec.Unmarshal(encoded, got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, m) {
			t.Errorf("sent %v, want %v", got, m)
		}
	}
}

func TestListOrdersHonoursPageSize(t *testing.T) {
	s, err := newShop()
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int32]int{0: pageSize, 1: 1, 10: 10, 20: 20, 100: 100, 101: orderCount} {
		list, err := orders{shop: s}.ListOrders(t.Context(), &orderv1.ListOrdersRequest{UserId: userID, PageSize: size})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(list.GetOrders()); n != want || (n < orderCount) != (list.GetNextPageToken() != "") {
			t.Errorf("page_size %d: %d orders, next page %q; want %d", size, n, list.GetNextPageToken(), want)
		}
	}
}

func TestCreateOrderWantsWhatIsMeasured(t *testing.T) {
	s, err := newShop()
	if err != nil {
		t.Fatal(err)
	}
	order := &orderv1.Order{Lines: s.pages[1].GetOrders()[0].GetLines()}
	got, err := orders{shop: s}.CreateOrder(t.Context(), &orderv1.CreateOrderRequest{UserId: userID, Order: order})
	if err != nil || !proto.Equal(got, s.orders[got.GetOrderId()]) {
		t.Errorf("%v, error %v; want an order of the shop", got, err)
	}
	for name, req := range map[string]*orderv1.CreateOrderRequest{
		"another user": {UserId: "bob", Order: order},
		"no lines":     {UserId: userID, Order: &orderv1.Order{}},
	} {
		if _, err := (orders{shop: s}).CreateOrder(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: error %v, want INVALID_ARGUMENT", name, err)
		}
	}
}
