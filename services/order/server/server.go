// Package server is the gRPC face of the order service: it reads requests, checks
// whose order it is, and leaves rules to order/domain, rows to order/store and the
// waking of watchers to order/watch.
package server

import (
	"context"
	"database/sql"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/idempotency"
	"github.com/sluice-gateway/sluice/services/order/domain"
	"github.com/sluice-gateway/sluice/services/order/store"
	"github.com/sluice-gateway/sluice/services/order/watch"
)

// Server implements shop.order.v1.OrderService behind the interceptors of kit,
// which have validated the request and named the caller.
type Server struct {
	orderv1.UnimplementedOrderServiceServer
	store *store.Store
	keys  *idempotency.Keys
	hub   *watch.Hub
}

// New returns a server of the orders in s.
func New(s *store.Store, keys *idempotency.Keys, hub *watch.Hub) *Server {
	return &Server{store: s, keys: keys, hub: hub}
}

// CreateOrder implements orderv1.OrderServiceServer.
func (s *Server) CreateOrder(ctx context.Context, req *orderv1.CreateOrderRequest) (*orderv1.Order, error) {
	if err := kit.RequireOwner(ctx, req.GetUserId()); err != nil {
		return nil, err
	}
	key := idempotency.Request{Scope: req.GetUserId(), ID: req.GetRequestId(), Message: req}
	return idempotency.Do(ctx, s.keys, key, &orderv1.Order{}, func(tx *sql.Tx) (*orderv1.Order, error) {
		o, err := domain.Place(kit.NewID(), req.GetUserId(), req.GetOrder().GetNote(), linesFrom(req.GetOrder().GetLines()), kit.Now())
		if err != nil {
			return nil, err
		}
		if err := s.store.Insert(ctx, tx, o); err != nil {
			return nil, err
		}
		return toProto(o), nil
	})
}

// GetOrder implements orderv1.OrderServiceServer.
func (s *Server) GetOrder(ctx context.Context, req *orderv1.GetOrderRequest) (*orderv1.Order, error) {
	o, err := s.owned(ctx, req.GetOrderId())
	if err != nil {
		return nil, err
	}
	return toProto(o), nil
}

// owned returns the caller's order. Somebody else's is NOT_FOUND, in the words of
// one that does not exist: ids are not to be probed.
func (s *Server) owned(ctx context.Context, id string) (domain.Order, error) {
	o, err := s.store.Get(ctx, id)
	if err != nil {
		return domain.Order{}, err
	}
	if !kit.CallerFrom(ctx).Owns(o.UserID) {
		return domain.Order{}, store.NotFound(id)
	}
	return o, nil
}

// ListOrders implements orderv1.OrderServiceServer.
func (s *Server) ListOrders(ctx context.Context, req *orderv1.ListOrdersRequest) (*orderv1.ListOrdersResponse, error) {
	if err := kit.RequireOwner(ctx, req.GetUserId()); err != nil {
		return nil, err
	}
	params := []string{"ListOrders", req.GetUserId()}
	after, err := kit.ParsePageToken(req.GetPageToken(), params...)
	if err != nil {
		return nil, err
	}
	size := kit.PageSize(req.GetPageSize())
	orders, err := s.store.List(ctx, req.GetUserId(), after, size+1) // One more tells whether there is a next page.
	if err != nil {
		return nil, err
	}
	resp := &orderv1.ListOrdersResponse{}
	if len(orders) > size {
		orders = orders[:size]
		last := orders[size-1]
		resp.NextPageToken = kit.PageToken(kit.Cursor{Time: last.Created, ID: last.ID}, params...)
	}
	for _, o := range orders {
		resp.Orders = append(resp.Orders, toProto(o))
	}
	return resp, nil
}

// CancelOrder implements orderv1.OrderServiceServer.
func (s *Server) CancelOrder(ctx context.Context, req *orderv1.CancelOrderRequest) (*orderv1.Order, error) {
	// Before the row is locked: a stranger must not even hold it up. An order
	// never changes its owner.
	if _, err := s.owned(ctx, req.GetOrderId()); err != nil {
		return nil, err
	}
	return s.move(ctx, req.GetOrderId(), func(o domain.Order) (domain.State, error) { return o.Cancel(req.GetEtag()) })
}

// AdvanceOrder implements orderv1.OrderServiceServer.
func (s *Server) AdvanceOrder(ctx context.Context, req *orderv1.AdvanceOrderRequest) (*orderv1.Order, error) {
	if err := kit.RequireScope(ctx, "admin"); err != nil {
		return nil, err
	}
	return s.move(ctx, req.GetOrderId(), func(o domain.Order) (domain.State, error) {
		return o.Advance(domain.State(req.GetState()), req.GetEtag())
	})
}

func (s *Server) move(ctx context.Context, id string, decide store.Decide) (*orderv1.Order, error) {
	o, err := s.store.Move(ctx, id, kit.Now(), decide)
	if err != nil {
		return nil, err
	}
	s.hub.Changed(o.ID, o.Revision)
	return toProto(o), nil
}
