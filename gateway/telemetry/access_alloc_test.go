//go:build !race

package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/propagation"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestObservingAllocatesNothing but the Request, which an edge may have in a
// value of its own: not with a line in the log, nor with a caller's trace in it.
// (The race detector makes pools forget, so it is no judge of this.)
func TestObservingAllocatesNothing(t *testing.T) {
	call, header := callOfAda(), propagation.HeaderCarrier(http.Header{})
	call.DeniedBy, call.Why = "conditions", `condition "small-pages" is false`
	for name, o := range map[string]Options{
		"without a log": {},
		"with a log":    {Output: output(t)},
	} {
		o.Metrics, o.Tracer = NewMetrics(), untraced()
		tele, r := New(o), new(Request)
		if n := testing.AllocsPerRun(1000, func() {
			*r = Request{}
			ctx := tele.BeginIn(context.Background(), r, policy.EdgeREST, header)
			r.ID, r.Method, r.Route, r.Client, r.Call = "id", "GET", "/v1/users/{user_id}", call.Client, call
			r.End(ctx, StatusCode(403), false)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		// The context and the span of a trace are OpenTelemetry's; its id in the line is ours.
		parent := propagation.HeaderCarrier{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
		ctx := tele.BeginIn(context.Background(), r, policy.EdgeREST, parent)
		if n := testing.AllocsPerRun(1000, func() {
			tele.o.Metrics.gauge(policy.EdgeREST).Inc()
			r.End(ctx, StatusCode(403), false)
		}); n != 0 {
			t.Errorf("%s, the end of a request that has a trace: %v allocations", name, n)
		}
		tele.o.Metrics.gauge(policy.EdgeREST).Dec()
	}
}

// TestSlogLinesAllocateLittle: what slog itself needs for a record of so many
// attributes, and their numbers.
func TestSlogLinesAllocateLittle(t *testing.T) {
	tele := New(Options{Metrics: NewMetrics(), Tracer: untraced(), Access: slog.New(slog.NewJSONHandler(logFile(t), nil))})
	call := callOfAda()
	if n := testing.AllocsPerRun(1000, func() { getUser(tele, http.Header{}, call) }); n > 4 {
		t.Errorf("%v allocations", n)
	}
}
