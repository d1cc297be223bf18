package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// logFile is what an operator's stderr often is.
func logFile(tb testing.TB) *os.File {
	f, err := os.Create(filepath.Join(tb.TempDir(), "log"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.Close(); err != nil {
			tb.Error(err)
		}
	})
	return f
}

func untraced() trace.Tracer { return noop.NewTracerProvider().Tracer("") }

// sampled traces so much of all requests.
func sampled(tb testing.TB, part float64) trace.Tracer {
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(part))))
	tb.Cleanup(func() {
		if err := p.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return p.Tracer("")
}

func output(tb testing.TB) *Output {
	o := NewOutput(logFile(tb))
	tb.Cleanup(func() {
		if err := o.Close(); err != nil {
			tb.Error(err)
		}
	})
	return o
}

// getUser is a request as the REST edge observes it.
func getUser(t *Telemetry, header http.Header, call *policy.Call) {
	ctx, r := t.Begin(context.Background(), policy.EdgeREST, propagation.HeaderCarrier(header))
	r.ID, r.Method, r.Route, r.RPC = "b937b2dfac5be27d1dbb8a21604042c9", "GET", "/v1/users/{user_id}", "shop.user.v1.UserService/GetUser"
	r.Peer, r.Client = netip.AddrPortFrom(call.Client, 4711), call.Client
	r.Call, r.BytesOut = call, 230
	r.End(ctx, "200", false)
}

func callOfAda() *policy.Call {
	return &policy.Call{Client: netip.MustParseAddr("192.0.2.17"), Principal: &policy.Principal{Subject: "ada"}, Upstream: "inprocess:user"}
}

// BenchmarkObserve is what observing a request costs, without the request.
func BenchmarkObserve(b *testing.B) {
	none, parent := http.Header{}, http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}}
	for _, bc := range []struct {
		name   string
		o      func(b *testing.B) Options
		header http.Header
	}{
		{"metrics", func(*testing.B) Options { return Options{} }, none},
		{"metrics,trace=1%", func(b *testing.B) Options { return Options{Tracer: sampled(b, .01)} }, none},
		{"metrics,traceparent", func(*testing.B) Options { return Options{} }, parent},
		{"log=slog", func(b *testing.B) Options { return Options{Access: slog.New(slog.NewJSONHandler(logFile(b), nil))} }, none},
		{"log=slog,trace=1%", func(b *testing.B) Options {
			return Options{Access: slog.New(slog.NewJSONHandler(logFile(b), nil)), Tracer: sampled(b, .01)}
		}, none},
		{"log=zap", func(b *testing.B) Options { return Options{Output: output(b)} }, none},
		{"log=zap,trace=1%", func(b *testing.B) Options { return Options{Output: output(b), Tracer: sampled(b, .01)} }, none},
	} {
		b.Run(bc.name, func(b *testing.B) {
			o := bc.o(b)
			o.Metrics = NewMetrics()
			if o.Tracer == nil {
				o.Tracer = untraced()
			}
			t, call := New(o), callOfAda()
			b.ReportAllocs()
			for b.Loop() {
				getUser(t, bc.header, call)
			}
		})
	}
}

func BenchmarkRequestID(b *testing.B) {
	for _, sent := range []string{"", "b937b2dfac5be27d1dbb8a21604042c9"} {
		b.Run(fmt.Sprintf("sent=%t", sent != ""), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				RequestID(sent)
			}
		})
	}
}
