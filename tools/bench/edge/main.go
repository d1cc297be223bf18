// Command edge is Sluice's gRPC edge with nothing switched on: gateway/rpc
// forwarding into gateway/upstream, every chain empty, no access log, no spans, no
// metrics of upstream. The edge cannot be without its own count of requests, and
// keeps its deadlines and its bounds. Its peer is tools/bench/proxy.
package main

import (
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/protobuf/reflect/protoreflect"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/tools/bench/peer"
)

func main() { peer.Main("edge", build) }

func build(backend string) (peer.Server, error) {
	services := []protoreflect.ServiceDescriptor{orderv1.File_shop_order_v1_order_proto.Services().Get(0)}
	catalogue, err := schema.New(services, schema.Options{Defaults: policy.Defaults{
		Deadline: 10 * time.Second, StreamIdle: time.Minute, StreamMaxAge: time.Hour, MaxRequestBytes: 1 << 20,
	}})
	if err != nil {
		return nil, err
	}
	target, err := upstream.Remote(upstream.RemoteOptions{Target: backend})
	if err != nil {
		return nil, err
	}
	log, tracer := slog.New(slog.NewTextHandler(os.Stderr, nil)), noop.NewTracerProvider().Tracer("")
	conn, err := upstream.New(upstream.Options{
		Catalogue: catalogue, Targets: map[string]upstream.Target{string(services[0].FullName()): target},
		Signer: nobody{}, Logger: log, Tracer: tracer,
	})
	if err != nil {
		return nil, err
	}
	return rpc.New(rpc.Options{
		Catalogue: catalogue, Conn: conn, Telemetry: telemetry.New(telemetry.Options{Metrics: telemetry.NewMetrics(), Tracer: tracer}),
		Logger: log,
	}).GRPC(), nil
}

// nobody signs nothing: the backend of the benchmark asks for no assertion.
type nobody struct{}

func (nobody) Sign(*policy.Principal, string) (string, error) { return "none", nil }
