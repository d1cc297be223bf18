package gateway_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
	"github.com/sluice-gateway/sluice/services/kit"
	services "github.com/sluice-gateway/sluice/services/shop"
)

// remote is a gateway whose services run behind TCP.
type remote struct {
	*gatewaytest.Gateway
	// kill ends a service at once, by its short name.
	kill map[string]func()
}

var fullNames = map[string]string{
	"user": "shop.user.v1.UserService", "order": "shop.order.v1.OrderService", "profile": "shop.profile.v1.ProfileService",
}

// remoteShop serves the shop's services on TCP, with their interceptors and
// demo data, and a gateway that calls them there.
func remoteShop(t *testing.T, opts ...gateway.Option) *remote {
	t.Helper()
	cfg := gatewaytest.Config(t)
	signer, err := auth.OpenSigner(filepath.Join(cfg.GetDataDir(), "assertion-key.pem"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := kit.NewVerifier(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	o := kit.InterceptorOptions{Verifier: verifier, Logger: log}
	unary, err := kit.Unary(o)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := kit.Stream(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &remote{kill: map[string]func(){}}
	cfg.Upstreams = map[string]*configv1.Upstream{}
	for name, full := range fullNames {
		svc, err := services.Open(t.Context(), name, "sqlite:"+filepath.Join(cfg.GetDataDir(), name+".db"), log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := svc.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := svc.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		var addr string
		addr, r.kill[name] = gatewaytest.Serve(t, svc.Register, grpc.UnaryInterceptor(unary), grpc.StreamInterceptor(stream))
		cfg.Upstreams[full] = &configv1.Upstream{Target: addr}
	}
	r.Gateway = gatewaytest.Run(t, cfg, append([]gateway.Option{gateway.WithServices(shop.Services()...)}, opts...)...)
	return r
}
