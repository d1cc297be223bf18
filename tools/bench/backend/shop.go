package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that frozenCodec wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

const (
	userID     = "ada"
	orderCount = 100
	pageSize   = 20 // of a list that names none
	lineCount  = 3
)

// shop is everything the services know. It never changes.
type shop struct {
	user    *userv1.User
	profile *profilev1.Profile
	orders  map[string]*orderv1.Order
	pages   []*orderv1.ListOrdersResponse // by page size, 0 to orderCount

	encoded map[proto.Message][]byte // the above, by identity
}

func newShop() (*shop, error) {
	placed := &timestamppb.Timestamp{Seconds: 1767225600, Nanos: 250_000_000}
	s := &shop{
		user: &userv1.User{
			UserId: userID, Email: "ada@example.com", DisplayName: "Ada Lovelace",
			Phone: new("+441632960001"), CreateTime: placed, UpdateTime: placed, Etag: "1",
		},
		profile: &profilev1.Profile{
			UserId: userID, Bio: "Writes programs for engines that are yet to be built.",
			Location: "London", Website: "https://example.com/ada", Languages: []string{"en", "fr"},
			Links: map[string]string{"notes": "https://example.com/notes"}, HasAvatar: true, UpdateTime: placed, Etag: "1",
		},
		orders: map[string]*orderv1.Order{},
	}
	var all []*orderv1.Order
	for i := range orderCount {
		o := newOrder(i, placed)
		s.orders[o.GetOrderId()] = o
		all = append(all, o)
	}
	for n := range orderCount + 1 {
		page := &orderv1.ListOrdersResponse{Orders: all[:n]}
		if n < orderCount {
			page.NextPageToken = fmt.Sprintf("from-%d", n)
		}
		s.pages = append(s.pages, page)
	}
	return s, s.encode()
}

func newOrder(i int, placed *timestamppb.Timestamp) *orderv1.Order {
	o := &orderv1.Order{
		OrderId: fmt.Sprintf("ada-%04d", i), UserId: userID, State: orderv1.OrderState_ORDER_STATE_PAID,
		Total:      &typev1.Money{CurrencyCode: "EUR", Units: 75},
		CreateTime: placed, UpdateTime: placed, Etag: "1", Note: "Leave it with the neighbour.",
	}
	for j := range lineCount {
		o.Lines = append(o.Lines, &orderv1.OrderLine{
			Sku: fmt.Sprintf("sku-%d", j), Title: "A fine thing to have", Quantity: 2,
			Price: &typev1.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000},
		})
	}
	return o
}

func (s *shop) encode() error {
	s.encoded = map[proto.Message][]byte{}
	all := []proto.Message{s.user, s.profile}
	for _, o := range s.orders {
		all = append(all, o)
	}
	for _, p := range s.pages {
		all = append(all, p)
	}
	for _, m := range all {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return err
		}
		s.encoded[m] = b
	}
	return nil
}

// codec is protobuf, except that the shop's own messages are encoded already.
func (s *shop) codec() encoding.CodecV2 {
	return frozenCodec{CodecV2: encoding.GetCodecV2("proto"), encoded: s.encoded}
}

type frozenCodec struct {
	encoding.CodecV2
	encoded map[proto.Message][]byte
}

func (c frozenCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(proto.Message); ok {
		if b, ok := c.encoded[m]; ok {
			return mem.BufferSlice{mem.SliceBuffer(b)}, nil
		}
	}
	return c.CodecV2.Marshal(v)
}

type users struct {
	userv1.UnimplementedUserServiceServer
	shop *shop
}

func (u users) GetUser(_ context.Context, req *userv1.GetUserRequest) (*userv1.User, error) {
	if req.GetUserId() != userID {
		return nil, status.Error(codes.NotFound, "user not found")
	}
	return u.shop.user, nil
}

type profiles struct {
	profilev1.UnimplementedProfileServiceServer
	shop *shop
}

func (p profiles) GetProfile(_ context.Context, req *profilev1.GetProfileRequest) (*profilev1.Profile, error) {
	if req.GetUserId() != userID {
		return nil, status.Error(codes.NotFound, "profile not found")
	}
	return p.shop.profile, nil
}

type orders struct {
	orderv1.UnimplementedOrderServiceServer
	shop *shop
}

func (o orders) GetOrder(_ context.Context, req *orderv1.GetOrderRequest) (*orderv1.Order, error) {
	if order, ok := o.shop.orders[req.GetOrderId()]; ok {
		return order, nil
	}
	return nil, status.Error(codes.NotFound, "order not found")
}

// CreateOrder answers an order as if it had just been placed. It stores nothing,
// so that a benchmark may place as many as it likes.
func (o orders) CreateOrder(_ context.Context, req *orderv1.CreateOrderRequest) (*orderv1.Order, error) {
	if req.GetUserId() != userID || len(req.GetOrder().GetLines()) != lineCount {
		return nil, status.Errorf(codes.InvalidArgument, "want an order of %s with %d lines", userID, lineCount)
	}
	return o.shop.pages[1].GetOrders()[0], nil
}

func (o orders) ListOrders(_ context.Context, req *orderv1.ListOrdersRequest) (*orderv1.ListOrdersResponse, error) {
	if req.GetUserId() != userID {
		return o.shop.pages[0], nil
	}
	n := int(req.GetPageSize())
	if n <= 0 {
		n = pageSize
	}
	return o.shop.pages[min(n, orderCount)], nil
}
