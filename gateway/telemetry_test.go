package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
	"github.com/sluice-gateway/sluice/gateway/wire"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// access returns the lines of the access log, once there are n.
func access(t *testing.T, g *gatewaytest.Gateway, n int) (lines []map[string]any) {
	t.Helper()
	eventually(t, "the access log has its lines", func() bool {
		lines = nil
		for _, l := range g.Log.Lines() {
			var m map[string]any
			if err := json.Unmarshal([]byte(l), &m); err != nil {
				t.Fatalf("no JSON: %q", l)
			}
			if m["msg"] == "request" {
				lines = append(lines, m)
			}
		}
		return len(lines) >= n
	})
	if len(lines) != n {
		t.Fatalf("%d lines for %d requests: %v", len(lines), n, lines)
	}
	return lines
}

// TestAccessLog: one line a request, on both edges, with every field an
// operator may rely on, and nothing of a token or a body.
func TestAccessLog(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	token := g.Token(t, "ada", "test.write")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	parent := "00-" + trace + "-b7ad6b7169203331-01"
	do(t, g, token, exchange{method: "POST", path: "/test/v1/echo/e1", body: `{"failMessage":"hunter2"}`, header: h("X-Request-Id", "id-1", "Traceparent", parent)})
	ctx := metadata.AppendToOutgoingContext(g.As(t, "ada", "test.write"), "x-request-id", "id-2", "traceparent", parent)
	if _, err := testv1.NewTestServiceClient(g.Conn).Echo(ctx, &testv1.EchoRequest{Id: "e1", FailMessage: "hunter2"}); err != nil {
		t.Fatal(err)
	}
	common := map[string]any{"level": "INFO", "msg": "request", "trace_id": trace, "grpc_method": testService + "/Echo", "client": "127.0.0.1",
		"principal": "ada", "upstream": "inprocess:test"}
	for i, want := range []map[string]any{
		{"edge": "rest", "request_id": "id-1", "method": "POST", "route": "/test/v1/echo/{id}", "status": "200", "bytes_in": 25.0},
		{"edge": "grpc", "request_id": "id-2", "method": testService + "/Echo", "route": "", "status": "OK", "bytes_in": 13.0},
	} {
		got := access(t, g, 2)[i]
		for _, fields := range []map[string]any{common, want} {
			for k, v := range fields {
				if got[k] != v {
					t.Errorf("%s: %s is %v, want %v", want["edge"], k, got[k], v)
				}
			}
		}
		if out, ok := got["bytes_out"].(float64); !ok || out < 100 || got["time"] == nil {
			t.Errorf("%v", got)
		}
		if ms, ok := got["duration_ms"].(float64); !ok || ms <= 0 {
			t.Errorf("%v", got)
		}
	}
	noSecrets(t, g, token, "hunter2", "eyJ")
}

func noSecrets(t *testing.T, g *gatewaytest.Gateway, secrets ...string) {
	t.Helper()
	for _, l := range g.Log.Lines() {
		for _, s := range secrets {
			if strings.Contains(l, s) {
				t.Errorf("the log has %q: %s", s, l)
			}
		}
	}
}

// TestAccessLogOfRefusals: what goes nowhere is logged too, by whom and why,
// and callers cannot write lines of their own.
func TestAccessLogOfRefusals(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	token := g.Token(t, "ada", "test.write")
	for i, tc := range []struct {
		x    exchange
		want map[string]any
	}{
		{exchange{method: "GET", path: "/no/such"}, map[string]any{"status": "404", "route": "", "grpc_method": ""}},
		{exchange{method: "BREW", path: "/no/such"}, map[string]any{"status": "404", "method": "OTHER"}},
		{exchange{method: "GET", path: "/test/v1/echo/x", anonymous: true}, map[string]any{"status": "401", "denied_by": "scopes", "principal": "", "route": "/test/v1/echo/{id}"}},
		{exchange{method: "GET", path: "/test/v1/echo/x", anonymous: true, header: h("Authorization", "Bearer forged-token")}, map[string]any{"status": "401", "denied_by": "authenticate"}},
		{exchange{method: "POST", path: "/test/v1/nothing", body: `{"inner":{"owner":"bob"}}`}, map[string]any{"status": "403", "denied_by": "owner", "principal": "ada"}},
		{exchange{method: "POST", path: "/test/v1/echo/x", body: `{"hunter2":`}, map[string]any{"status": "400"}},
		{exchange{method: "GET", path: "/test/v1/echo/%0a%7b%22msg%22%3a%22request%22%7d"}, map[string]any{"status": "400"}},
		{exchange{method: "GET", path: `/test/v1/echo/"},{"msg":"request"`}, map[string]any{"status": "200"}},
		{exchange{method: "GET", path: "/test/v1/echo/x?bare_error=true"}, map[string]any{"status": "500"}},
		{exchange{method: "GET", path: "/test/v1/echo/x", header: h("X-Request-Id", `a"},{"b":"c`)}, map[string]any{"status": "200", "request_id": `a"},{"b":"c`}},
		{exchange{method: "GET", path: "/test/v1/down?count=1&fail_code=5"}, map[string]any{"status": "200"}},
	} {
		res, body := do(t, g, token, tc.x)
		got := access(t, g, i+1)[i]
		for k, v := range tc.want {
			if g := got[k]; g != v && (v != "" || g != nil) {
				t.Errorf("%s %s: %s is %v, want %v (%d %s)", tc.x.method, tc.x.path, k, g, v, res.StatusCode, body)
			}
		}
	}
	noSecrets(t, g, token, "forged-token", `hunter2\":`)
}

// TestAccessLogOverGRPC has a line for calls of every kind and outcome.
func TestAccessLogOverGRPC(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	c, ctx := testv1.NewTestServiceClient(g.Conn), g.As(t, "ada", "")
	up, err := c.Up(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := up.Send(&testv1.EchoRequest{Id: "12345678"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := up.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if _, err := drain(c.Down(ctx, &testv1.DownRequest{Count: 2, Padding: 100})); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Echo(t.Context(), &testv1.EchoRequest{})
	_, _ = c.Nothing(g.As(t, "ada", "test.write"), &testv1.NothingRequest{})
	_ = rawConn(t, g).Invoke(ctx, "/made.up/Method", &wire.Frame{}, &wire.Frame{})
	seen := map[string]map[string]any{}
	for _, l := range access(t, g, 5) {
		seen[fmt.Sprint(l["grpc_method"], " ", l["status"])] = l
	}
	for name, want := range map[string]map[string]any{
		testService + "/Up OK":                    {"bytes_in": 30.0, "upstream": "inprocess:test"},
		testService + "/Down OK":                  {"principal": "ada"},
		testService + "/Echo Unauthenticated":     {"denied_by": "scopes"},
		testService + "/Nothing PermissionDenied": {"denied_by": "owner"},
		" Unimplemented":                          {"edge": "grpc"},
	} {
		for k, v := range want {
			if seen[name][k] != v {
				t.Errorf("%s: %s is %v, want %v", name, k, seen[name][k], v)
			}
		}
	}
}

func metrics(t *testing.T, g *gatewaytest.Gateway) string {
	t.Helper()
	res, err := http.Get(g.AdminURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var ours = regexp.MustCompile(`(?m)^sluice_.*$`)

// TestMetrics: labels come from templates and descriptors; what a caller makes
// up adds no series.
func TestMetrics(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	token := g.Token(t, "ada", "test.write")
	made := func(i int) {
		do(t, g, token, exchange{method: "GET", path: fmt.Sprintf("/made-up/%d", i)})
		do(t, g, token, exchange{method: fmt.Sprintf("M%d", i), path: "/made-up"})
		_ = g.Conn.Invoke(t.Context(), fmt.Sprintf("/made.up/M%d", i), &emptypb.Empty{}, &emptypb.Empty{})
	}
	do(t, g, token, exchange{method: "GET", path: "/test/v1/echo/e1"})
	do(t, g, token, exchange{method: "GET", path: "/test/v1/echo/e2?fail_code=14"})
	do(t, g, token, exchange{method: "POST", path: "/test/v1/nothing", body: "{}"})
	do(t, g, token, exchange{method: "GET", path: "/test/v1/echo/e3", anonymous: true})
	if _, err := testv1.NewTestServiceClient(g.Conn).Echo(g.As(t, "ada", ""), &testv1.EchoRequest{}); err != nil {
		t.Fatal(err)
	}
	made(0)
	access(t, g, 8)
	before := metrics(t, g)
	for i := range 1000 {
		made(i + 1)
	}
	access(t, g, 8+3000)
	after := metrics(t, g)
	if b, a := len(ours.FindAllString(before, -1)), len(ours.FindAllString(after, -1)); a != b || strings.Contains(after, "made") {
		t.Errorf("%d series became %d", b, a)
	}
	echo := testService + "/Echo"
	for _, want := range []string{
		`sluice_requests_total{code="200",edge="rest",method="GET",route="/test/v1/echo/{id}"} 1`,
		`sluice_requests_total{code="503",edge="rest",method="GET",route="/test/v1/echo/{id}"} 1`,
		`sluice_requests_total{code="404",edge="rest",method="GET",route=""} 1001`,
		`sluice_requests_total{code="404",edge="rest",method="OTHER",route=""} 1001`,
		`sluice_requests_total{code="OK",edge="grpc",method="` + echo + `",route=""} 1`,
		`sluice_requests_total{code="Unimplemented",edge="grpc",method="",route=""} 1001`,
		`sluice_request_duration_seconds_count{edge="rest",method="GET",route="/test/v1/echo/{id}"} 3`,
		`sluice_requests_in_flight{edge="rest"} 0`,
		`sluice_requests_in_flight{edge="grpc"} 0`,
		`sluice_denied_total{check="scopes",method="` + echo + `"} 1`,
		`sluice_denied_total{check="owner",method="` + testService + `/Nothing"} 1`,
		`sluice_upstream_requests_total{code="OK",method="` + echo + `",target="inprocess:test"} 2`,
		`sluice_upstream_requests_total{code="Unavailable",method="` + echo + `",target="inprocess:test"} 1`,
		`sluice_upstream_duration_seconds_count{method="` + echo + `",target="inprocess:test"} 3`,
	} {
		if !strings.Contains(after, want+"\n") {
			t.Errorf("no %s in\n%s", want, strings.Join(ours.FindAllString(after, -1), "\n"))
		}
	}
}

// BenchmarkRequest is a GET of a user over the REST edge, the service in the
// process, without a network.
func BenchmarkRequest(b *testing.B) {
	g := gatewaytest.Start(b, nil, gateway.WithServices(shop.Services()...))
	handler, credential := g.Handler(), "Bearer "+g.Token(b, "ada", "users.read")
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), "GET", "/v1/users/ada", nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header["Authorization"] = []string{credential}
		w := &discard{header: http.Header{}}
		if handler.ServeHTTP(w, r); w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}

// discard is a ResponseWriter of which only the status matters.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(code int)        { d.status = code }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// TestOneProcessForSeveralServices: services at one target are counted together, once:
// two of one series would fail the whole page.
func TestOneProcessForSeveralServices(t *testing.T) {
	const target = "127.0.0.1:1"
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Upstreams = map[string]*configv1.Upstream{fullNames["user"]: {Target: target}, fullNames["profile"]: {Target: target}}
	}, gateway.WithServices(shop.Services()...))
	got := metrics(t, g)
	for _, want := range []string{`sluice_upstream_ejections_total{target="` + target + `"} 0`, `sluice_breaker_state{class="read",service="` + fullNames["profile"]} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%d times %s in %.300s", strings.Count(got, want), want, got)
		}
	}
}
