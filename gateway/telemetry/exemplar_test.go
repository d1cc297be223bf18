package telemetry

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

const (
	openMetrics = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
	ofCaller    = "0af7651916cd43dd8448eb211c80319c"
)

// scrape reads the metrics as one who accepts such an answer.
func scrape(t *testing.T, m *Metrics, accept string) (kind, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil)
	r.Header.Set("Accept", accept)
	m.Handler().ServeHTTP(w, r)
	b, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	return w.Header().Get("Content-Type"), string(b)
}

// exemplars are the lines that have one.
func exemplars(body string) (lines []string) {
	for l := range strings.Lines(body) {
		if strings.Contains(l, " # {") {
			lines = append(lines, l)
		}
	}
	return lines
}

// TestExemplars: a time names a trace that can be looked at, and no other.
func TestExemplars(t *testing.T) {
	header := func(flags string) http.Header {
		return http.Header{"Traceparent": {"00-" + ofCaller + "-b7ad6b7169203331-" + flags}}
	}
	method := &policy.Method{FullName: "/shop.user.v1.UserService/GetUser"}
	for _, c := range []struct {
		name   string
		tracer trace.Tracer
		header http.Header
		want   bool
	}{
		{"sampled by us", sampled(t, 1), header("01"), true},
		{"not sampled", sampled(t, 1), header("00"), false},
		{"nobody traces here, whatever the caller does", untraced(), header("01"), false},
		{"nobody traces at all", untraced(), http.Header{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMetrics()
			getUser(New(Options{Metrics: m, Tracer: c.tracer}), c.header, callOfAda())
			kind, body := scrape(t, m, openMetrics)
			if !strings.HasPrefix(kind, "application/openmetrics-text") {
				t.Fatalf("Content-Type %q", kind)
			}
			got := exemplars(body)
			if (len(got) == 1) != c.want || len(got) > 1 {
				t.Fatalf("exemplars %q, want some: %t", got, c.want)
			}
			if c.want && (!strings.HasPrefix(got[0], "sluice_request_duration_seconds_bucket{") || !strings.Contains(got[0], `# {trace_id="`+ofCaller+`"}`)) {
				t.Errorf("exemplar %q", got[0])
			}
			if !strings.Contains(body, `sluice_request_duration_seconds_count{edge="rest",method="GET",route="/v1/users/{user_id}"} 1`) {
				t.Error("the time was not observed once")
			}
		})
	}
	t.Run("a call of a service", func(t *testing.T) {
		m := NewMetrics()
		_, span := sampled(t, 1).Start(context.Background(), "call")
		span.End() // As it has when the call is counted.
		m.UpstreamDone(method, "one", codes.OK, 30*time.Millisecond, span)
		_, body := scrape(t, m, openMetrics)
		want := `sluice_upstream_duration_seconds_bucket{method="shop.user.v1.UserService/GetUser",target="one",le="0.05"} 1 # {trace_id="` + span.SpanContext().TraceID().String() + `"} 0.03`
		if got := exemplars(body); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("exemplars %q, want %s", got, want)
		}
	})
	t.Run("the text format has none", func(t *testing.T) {
		m := NewMetrics()
		getUser(New(Options{Metrics: m, Tracer: sampled(t, 1)}), header("01"), callOfAda())
		kind, body := scrape(t, m, "text/plain")
		if got := exemplars(body); len(got) != 0 || !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("%s, exemplars %q", kind, got)
		}
	})
}
