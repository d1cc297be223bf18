package gateway_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

const testService = "sluice.test.v1.TestService"

// everyPlace runs a test against the test service in the gateway's process and
// behind TCP: nobody may tell which it is.
func everyPlace(t *testing.T, srv testv1.TestServiceServer, edit func(*configv1.Config), run func(*testing.T, *gatewaytest.Gateway), opts ...gateway.Option) {
	t.Helper()
	if srv == nil {
		srv = &gatewaytest.Server{}
	}
	opts = append(opts, gateway.WithServices(gatewaytest.TestService(srv)))
	t.Run("in-process", func(t *testing.T) { run(t, gatewaytest.Start(t, edit, opts...)) })
	t.Run("remote", func(t *testing.T) {
		addr, _ := gatewaytest.Serve(t, func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, srv) },
			grpc.UnaryInterceptor(recoverUnary), grpc.StreamInterceptor(recoverStream))
		run(t, gatewaytest.Start(t, func(c *configv1.Config) {
			c.Upstreams = upstreams(addr)
			if edit != nil {
				edit(c)
			}
		}, opts...))
	})
}

// upstreams says that the test service is at addr.
func upstreams(addr string) map[string]*configv1.Upstream {
	return map[string]*configv1.Upstream{testService: {Target: addr}}
}

// A server behind TCP does not survive panics by itself; what it says of them
// must not reach a caller either.
func recoverUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (_ any, err error) {
	defer asStatus(&err)
	return next(ctx, req)
}

func recoverStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer asStatus(&err)
	return next(srv, ss)
}

func asStatus(err *error) {
	if v := recover(); v != nil {
		*err = status.Errorf(codes.Unknown, "panic: %v", v)
	}
}

// override changes the bounds of a method of the test service.
func override(c *configv1.Config, method string, o *configv1.MethodOverride) {
	if c.Methods == nil {
		c.Methods = map[string]*configv1.MethodOverride{}
	}
	c.Methods[testService+"/"+method] = o
}

func seconds(s float64) *durationpb.Duration {
	return durationpb.New(time.Duration(s * float64(time.Second)))
}

// rawConn sends frames: bytes that need not be a message.
func rawConn(t *testing.T, g *gatewaytest.Gateway) *grpc.ClientConn {
	t.Helper()
	return gatewaytest.Dial(t, g.Addrs().GRPC, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{})))
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
