package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestSparse: so many lines a second, and every request is either a line or
// counted in a later one.
func TestSparse(t *testing.T) {
	var s sparse
	start, seen := time.Unix(1000, 0), 0
	for _, tc := range []struct {
		at          time.Duration
		asked, want int // lines
		left        int // that the first of them counts
	}{
		{0, 1, 1, 0},
		{10 * time.Millisecond, 1000, sparseLines - 1, 0},
		{999 * time.Millisecond, 50, 0, 0},
		{time.Second, 5, 5, 1041},
		{1500 * time.Millisecond, 5, 5, 0},
		{1900 * time.Millisecond, 7, 0, 0},
		{time.Hour, 1, 1, 7},
		{time.Hour + 1, 1, 1, 0},
	} {
		lines := 0
		for i := range tc.asked {
			left, ok := s.line(start.Add(tc.at))
			if ok {
				lines++
				seen += 1 + left
			}
			if want := tc.left; i == 0 && left != want || i > 0 && left != 0 {
				t.Errorf("after %v, line %d: %d left out, want %d", tc.at, i, left, want)
			}
		}
		if lines != tc.want {
			t.Errorf("after %v: %d lines of %d, want %d", tc.at, lines, tc.asked, tc.want)
		}
	}
	if seen != 1+1000+50+5+5+7+1+1 {
		t.Errorf("%d are accounted for", seen)
	}
}

// TestSparseLog: of a flood at one step the log has a part, with the number of
// what it leaves out; of everything else each line; the metrics count all.
func TestSparseLog(t *testing.T) {
	var b lockedBuffer
	m := NewMetrics()
	tele := New(Options{Access: slog.New(slog.NewJSONHandler(&b, nil)), Metrics: m, Tracer: noop.NewTracerProvider().Tracer(""), Sparse: "address"})
	const each, callers = 200, 4
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			for i := range each {
				ctx, r := tele.Begin(context.Background(), policy.EdgeREST, propagation.MapCarrier{})
				r.Call = &policy.Call{DeniedBy: "address"}
				if i%2 == 1 {
					r.Call.DeniedBy = "limits"
				}
				r.End(ctx, "429", false)
			}
		})
	}
	work.Wait()
	tele.flood.since = time.Time{} // Another second.
	ctx, r := tele.Begin(context.Background(), policy.EdgeREST, propagation.MapCarrier{})
	r.Call = &policy.Call{DeniedBy: "address"}
	r.End(ctx, "429", false)

	lines, left := map[string]int{}, 0
	for _, l := range bytes.Split(bytes.TrimSpace(b.Bytes()), []byte("\n")) {
		var line struct {
			DeniedBy string `json:"denied_by"`
			Left     int    `json:"suppressed"`
		}
		if err := json.Unmarshal(l, &line); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		lines[line.DeniedBy]++
		left += line.Left
	}
	if lines["limits"] != each*callers/2 {
		t.Errorf("%d lines of other refusals, want %d", lines["limits"], each*callers/2)
	}
	if sum := lines["address"] + left; sum != each*callers/2+1 || left == 0 {
		t.Errorf("%d lines and %d left out, want %d together", lines["address"], left, each*callers/2+1)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sluice_requests_total" && f.GetMetric()[0].GetCounter().GetValue() != each*callers+1 {
			t.Errorf("the metrics count %v", f)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// String is what has been written so far.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}
