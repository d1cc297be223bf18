package server

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	"github.com/sluice-gateway/sluice/services/order/domain"
)

// watchingKey is header metadata that says that the watch has begun. In-process,
// headers without any metadata would not be sent before the first message.
const watchingKey = "watching"

// WatchOrder implements orderv1.OrderServiceServer: the present state first, then
// every later one in order, until a final one. The history decides what is sent;
// the hub only says when to read it.
func (s *Server) WatchOrder(req *orderv1.WatchOrderRequest, stream grpc.ServerStreamingServer[orderv1.Order]) error {
	ctx, id := stream.Context(), req.GetOrderId()
	watcher := s.hub.Watch(id) // Before the read, so that nothing falls between.
	defer watcher.Close()
	o, err := s.owned(ctx, id)
	if err != nil {
		return err
	}
	if err := stream.SendHeader(metadata.Pairs(watchingKey, id)); err != nil {
		return err
	}
	if err := stream.Send(toProto(o)); err != nil {
		return err
	}
	for !o.State.Final() {
		watcher.Seen(o.Revision)
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.hub.Draining():
			return status.Error(codes.Unavailable, "the service is stopping: watch again")
		case <-watcher.Wake():
		}
		if o, err = s.sendLater(stream, o); err != nil {
			return err
		}
	}
	return nil
}

// sendLater sends the states that the order has reached since o, and returns the
// last of them.
func (s *Server) sendLater(stream grpc.ServerStreamingServer[orderv1.Order], o domain.Order) (domain.Order, error) {
	events, err := s.store.Events(stream.Context(), o.ID, o.Revision)
	if err != nil {
		return o, err
	}
	for _, e := range events {
		o.Revision, o.State, o.Updated = e.Revision, e.State, e.Updated
		if err := stream.Send(toProto(o)); err != nil {
			return o, err
		}
	}
	return o, nil
}
