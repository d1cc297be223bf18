package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/payments"
)

// door is the protocol that a service speaks.
type door interface {
	// Serve answers until it is stopped, and returns nil then.
	Serve(l net.Listener) error
	// Serving tells those who ask for its health.
	Serving(ok bool)
	// Unready says that it does not serve, for good.
	Unready()
	// GracefulStop takes nothing new, and waits for what runs.
	GracefulStop()
	// Stop ends what runs.
	Stop()
}

// grpcDoor is gRPC, with its health service.
type grpcDoor struct {
	*grpc.Server
	health *health.Server
	name   string
}

func (d *grpcDoor) Serving(ok bool) {
	state := healthv1.HealthCheckResponse_NOT_SERVING
	if ok {
		state = healthv1.HealthCheckResponse_SERVING
	}
	d.health.SetServingStatus("", state)
	d.health.SetServingStatus(d.name, state)
}

func (d *grpcDoor) Unready() { d.health.Shutdown() } // From here on its answer cannot change.

// Bounds of a server of plain HTTP.
const (
	readHeaderTimeout = 10 * time.Second
	// lameDuck is how long a server that drains takes requests after it has said that it
	// is not healthy: HTTP/1 has no GOAWAY, so each answer ends its connection meanwhile.
	lameDuck = time.Second
)

// httpDoor is plain HTTP. Its service answers at /healthz.
type httpDoor struct {
	server   *http.Server
	draining atomic.Bool
}

// openPayments opens the service that speaks plain HTTP, and its door.
func openPayments(ctx context.Context, o options, keys *kit.KeyFiles, tracer trace.TracerProvider, log *slog.Logger) (*kit.Service, door, error) {
	v, err := kit.NewVerifierFunc(keys.Keys)
	if err != nil {
		return nil, nil, err
	}
	d := &httpDoor{server: &http.Server{ReadHeaderTimeout: readHeaderTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}}
	if o.tlsCert != "" {
		if d.server.TLSConfig, err = tlsConfig(o); err != nil {
			return nil, nil, err
		}
	}
	s, err := payments.Open(ctx, o.db, v, log)
	if err != nil {
		return nil, nil, err
	}
	d.server.Handler = d.handler(traced(s, tracer.Tracer("sluice/services/payments")))
	return &kit.Service{Name: payments.Name, Seed: s.Seed, Check: s.Check, Drain: s.Drain, Close: s.Close}, d, nil
}

func (d *httpDoor) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.draining.Load() {
			w.Header().Set("Connection", "close")
			if r.URL.Path == payments.HealthPath {
				http.Error(w, "draining", http.StatusServiceUnavailable)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// traced makes a span of each request that a traced gateway sends.
func traced(next http.Handler, tracer trace.Tracer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		if !trace.SpanContextFromContext(ctx).IsValid() {
			next.ServeHTTP(w, r)
			return
		}
		ctx, span := tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path)))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (d *httpDoor) Serve(l net.Listener) error {
	serve := d.server.Serve
	if d.server.TLSConfig != nil {
		serve = func(l net.Listener) error { return d.server.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Serving is for gRPC: here health is asked for, and looked at then.
func (d *httpDoor) Serving(bool) {}

func (d *httpDoor) Unready() { d.draining.Store(true) }

func (d *httpDoor) GracefulStop() {
	time.Sleep(lameDuck)
	_ = d.server.Shutdown(context.Background()) // Stop ends it.
}

func (d *httpDoor) Stop() { _ = d.server.Close() }
