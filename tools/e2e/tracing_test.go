package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
)

// flushWithin is how long the end of a process with nothing in flight may take,
// which tries for 5 s to get rid of its spans.
const flushWithin = 5*time.Second + patience/3

// TestTraces: what one request has caused is one tree of spans, over processes
// and both edges, under the trace that its caller has begun; the access log names
// it.
func TestTraces(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http/protobuf", ""} {
		t.Run("protocol "+protocol, func(t *testing.T) {
			c := newCollector(t)
			endpoint := c.httpURL
			if protocol == "grpc" {
				endpoint = c.grpcURL
			}
			env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol, "OTEL_BSP_SCHEDULE_DELAY=50"}
			k := makeKeys(t)
			users := startService(t, service{name: "user", k: k, env: env})
			config := remote(k, map[string]*service{userService: users})
			config["cache"] = object{"off": true} // A branch that is kept has no span: see TestTracesTellWhatHappened.
			g := startGateway(t, setup{env: env, config: config})
			token := g.token(t)

			t.Run("REST", func(t *testing.T) {
				trace := "4bf92f3577b34da6a3ce929d0e0e4736"
				a, err := g.send(bounded(t), "GET", "/v1/users/ada", token, nil, "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
				if err != nil || a.status != 200 {
					t.Fatal(a.status, err)
				}
				tree(t, c, trace, "\x00\xf0\x67\xaa\x0b\xa9\x02\xb7",
					"sluice server GET /v1/users/{user_id}",
					"sluice client "+userService+"/GetUser",
					"shop-user server "+userService+"/GetUser")
				logged(t, g, a.header.Get("X-Request-Id"), trace)
			})
			t.Run("composite over REST", func(t *testing.T) {
				a := g.rest(t, "GET", "/v1/users/ada/overview", token, "")
				id := a.header.Get("X-Request-Id")
				composite(t, c, logged(t, g, id, ""), "", "GET /v1/users/{user_id}/overview")
			})
			t.Run("composite over gRPC", func(t *testing.T) {
				trace := "5bf92f3577b34da6a3ce929d0e0e4736"
				ctx := metadata.AppendToOutgoingContext(as(t, token), "traceparent", "00-"+trace+"-00f067aa0ba902b7-01", "x-request-id", "e2e")
				if _, err := bffv1.NewBffServiceClient(g.conn).GetUserOverview(ctx, &bffv1.GetUserOverviewRequest{UserId: "ada"}); err != nil {
					t.Fatal(err)
				}
				composite(t, c, trace, "\x00\xf0\x67\xaa\x0b\xa9\x02\xb7", "shop.bff.v1.BffService/GetUserOverview")
				logged(t, g, "e2e", trace)
			})
		})
	}
}

// TestTracesGoNowhere: a collector that is not there, or hangs, costs callers
// nothing and does not hold up the end of the process.
func TestTracesGoNowhere(t *testing.T) {
	t.Parallel()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, endpoint := range map[string]string{"absent": "http://127.0.0.1:1", "silent": "http://" + silent.Addr().String()} {
		for _, protocol := range []string{"grpc", "http/protobuf"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				endsWithoutCollector(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol})
			})
		}
	}
}

func endsWithoutCollector(t *testing.T, env []string) {
	k := makeKeys(t)
	users := startService(t, service{name: "user", k: k, env: env})
	g := startGateway(t, setup{env: env, config: remote(k, map[string]*service{userService: users})})
	ctx, cancel := context.WithTimeout(t.Context(), deadline+slack)
	defer cancel()
	if a, err := g.send(ctx, "GET", "/v1/users/ada/overview", g.token(t), nil); err != nil || a.status != 200 {
		t.Fatalf("%d %v", a.status, err)
	}
	processes := map[string]*process{"gateway": g.process, "service": users.process}
	for _, p := range processes {
		p.signal(t, syscall.SIGTERM)
	}
	for name, p := range processes {
		if code := p.exitCode(t, flushWithin); code != 0 {
			t.Errorf("the %s ended with %d", name, code)
		}
	}
}

// composite is the tree of an overview whose users are in another process.
func composite(t *testing.T, c *collector, trace, parent, root string) {
	t.Helper()
	const overview = "shop.bff.v1.BffService/GetUserOverview"
	tree(t, c, trace, parent,
		"sluice server "+root,
		"sluice client "+overview, "sluice server "+overview,
		"sluice client "+userService+"/GetUser", "shop-user server "+userService+"/GetUser",
		"sluice client "+profileService+"/GetProfile", "sluice server "+profileService+"/GetProfile",
		"sluice client "+orderService+"/ListOrders", "sluice server "+orderService+"/ListOrders")
}

// tree waits until the trace has these spans, no other, and checks that each but
// the root (whose parent is the caller's span) hangs where it should: a server's
// span under the client's of the same method, a client's under the server's of
// what called it.
func tree(t *testing.T, c *collector, trace, parent string, want ...string) {
	t.Helper()
	slices.Sort(want)
	var spans map[string]span
	eventually(t, patience, func() error {
		spans = c.of(trace)
		var got []string
		for _, s := range spans {
			got = append(got, describe(s))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("trace %s: %q, want %q", trace, got, want)
		}
		return nil
	})
	roots := 0
	for _, s := range spans {
		above, ok := spans[string(s.GetParentSpanId())]
		switch {
		case !ok && string(s.GetParentSpanId()) == parent:
			roots++
		case !ok:
			t.Errorf("%s has a parent that never was", describe(s))
		case kind(s) == "server" && (kind(above) != "client" || s.GetName() != above.GetName()):
			t.Errorf("%s is under %s", describe(s), describe(above))
		case kind(s) == "client" && kind(above) != "server":
			t.Errorf("%s is under %s", describe(s), describe(above))
		case s.GetStartTimeUnixNano() > s.GetEndTimeUnixNano():
			t.Errorf("%s ends before it begins", describe(s))
		}
	}
	if roots != 1 {
		t.Errorf("%d spans are the caller's children, want one", roots)
	}
}

func describe(s span) string { return s.service + " " + kind(s) + " " + s.GetName() }

func kind(s span) string {
	return strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_"))
}

// logged waits for the request's line in the access log and returns its trace id,
// which must be trace unless that is empty.
func logged(t *testing.T, g *gateway, requestID, trace string) string {
	t.Helper()
	var line struct {
		Msg       string
		TraceID   string `json:"trace_id"`
		RequestID string `json:"request_id"`
	}
	eventually(t, patience, func() error {
		for l := range strings.Lines(g.stderr.String()) {
			if json.Unmarshal([]byte(l), &line) == nil && line.Msg == "request" && line.RequestID == requestID {
				return nil
			}
		}
		return errors.New("no line in the access log for " + requestID)
	})
	if len(line.TraceID) != 32 || trace != "" && line.TraceID != trace {
		t.Errorf("trace_id %q in the access log, want %q", line.TraceID, trace)
	}
	return line.TraceID
}
