package rpc_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// TestMessageThatDoesNotCome: headers alone hold a call for so long and no
// longer, whoever sent them.
func TestMessageThatDoesNotCome(t *testing.T) {
	services := []protoreflect.ServiceDescriptor{testv1.File_sluice_test_v1_test_proto.Services().Get(0)}
	table, err := schema.New(services, schema.Options{Defaults: policy.Defaults{Deadline: time.Second, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.New(rpc.Options{
		Catalogue: table, Patience: 200 * time.Millisecond,
		Telemetry: telemetry.New(telemetry.Options{Metrics: telemetry.NewMetrics(), Tracer: noop.NewTracerProvider().Tracer("")}),
		Logger:    slog.New(slog.DiscardHandler),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.GRPC().Serve(l) }()
	t.Cleanup(s.GRPC().Stop)
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	for _, m := range []struct {
		method string
		desc   grpc.StreamDesc
	}{
		{"/sluice.test.v1.TestService/Echo", grpc.StreamDesc{}},
		{"/sluice.test.v1.TestService/ListNames", grpc.StreamDesc{}},
		{"/sluice.test.v1.TestService/Download", grpc.StreamDesc{ServerStreams: true}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		st, err := cc.NewStream(ctx, &m.desc, m.method)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(&testv1.EchoResponse{}); err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v, and the call's own end %v", m.method, err, ctx.Err())
		}
		cancel()
	}
}
