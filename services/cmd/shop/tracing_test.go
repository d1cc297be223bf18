package main

import (
	"context"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// collector is an OTLP receiver.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	got chan *collectorv1.ExportTraceServiceRequest
}

func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.got <- req
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func TestTracesGoOutOverOTLP(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, received := grpc.NewServer(), &collector{got: make(chan *collectorv1.ExportTraceServiceRequest, 16)}
	collectorv1.RegisterTraceServiceServer(server, received)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() { server.Stop(); <-served }()

	g := newGateway(t)
	c := start(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "--service", "user", "--addr", "127.0.0.1:0",
		"--db", "sqlite:"+filepath.Join(t.TempDir(), "u.db"), "--assertion-keys", g.file, "--seed")
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	ctx := metadata.AppendToOutgoingContext(g.as(t, userService, "ada"), "traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
	conn := c.dial()
	if _, err := userv1.NewUserServiceClient(conn).GetUser(ctx, &userv1.GetUserRequest{UserId: "ada"}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGTERM) // Which flushes.
	if err := c.wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, c.stderr)
	}
	select {
	case req := <-received.got:
		r := req.GetResourceSpans()[0]
		span := r.GetScopeSpans()[0].GetSpans()[0]
		if span.GetName() != userService+"/GetUser" || len(span.GetTraceId()) != 16 || span.GetTraceId()[0] != 0x4b {
			t.Errorf("span = %v", span)
		}
		name := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				name = a.GetValue().GetStringValue()
			}
		}
		if name != "shop-user" {
			t.Errorf("service.name = %q", name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no span arrived")
	}
}

func TestTracingRefusesOtherProtocols(t *testing.T) {
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}
	if _, _, err := tracing(t.Context(), "user", func(k string) string { return env[k] }); err == nil {
		t.Error("a protocol that is not spoken is taken")
	}
}
