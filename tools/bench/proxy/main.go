// Command proxy is a bare grpc-go proxy: it decodes a call into the generated
// type, sends it on with the generated client, and encodes the answer again. The
// benchmark holds Sluice's gRPC forwarding against it.
package main

import (
	"context"

	"google.golang.org/grpc"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"

	"github.com/sluice-gateway/sluice/tools/bench/peer"
)

func main() { peer.Main("proxy", build) }

func build(backend string) (peer.Server, error) {
	conn, err := peer.Dial(backend)
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer()
	orderv1.RegisterOrderServiceServer(s, orders{client: orderv1.NewOrderServiceClient(conn)})
	return s, nil
}

type orders struct {
	orderv1.UnimplementedOrderServiceServer
	client orderv1.OrderServiceClient
}

func (o orders) ListOrders(ctx context.Context, req *orderv1.ListOrdersRequest) (*orderv1.ListOrdersResponse, error) {
	return o.client.ListOrders(ctx, req)
}
