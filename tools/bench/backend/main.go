// Command backend is the one backend of the benchmark: the shop's three services
// answering fixed messages, encoded once. It costs the same whoever asks and
// looks at no identity, so that both gateways meet the same thing and neither
// waits for it.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string) error {
	shop, err := newShop()
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(shop.codec()))
	userv1.RegisterUserServiceServer(s, users{shop: shop})
	orderv1.RegisterOrderServiceServer(s, orders{shop: shop})
	profilev1.RegisterProfileServiceServer(s, profiles{shop: shop})
	healthv1.RegisterHealthServer(s, health.NewServer())
	go func() {
		<-ctx.Done()
		s.Stop()
	}()
	return s.Serve(l)
}
