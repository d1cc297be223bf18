package e2e

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// TestTracesTellWhatHappened: a trace goes through every kind of hop, and says what a
// retry, a canary and the cache did on the way.
func TestTracesTellWhatHappened(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.httpURL, "OTEL_BSP_SCHEDULE_DELAY=50"}
	k := makeKeys(t)
	users := startService(t, service{name: "user", k: k, env: env})
	next := startService(t, service{name: "user", k: k, env: env})
	failing, plain := failingService(t), &recording{}
	backend := httptest.NewServer(plain)
	t.Cleanup(backend.Close)
	retry := object{"max_attempts": 3}
	config := object{
		"assertion": object{"key_file": k.private},
		"upstreams": object{userService: object{
			"endpoints": []object{{"address": failing}, {"address": users.addr}},
			"canaries":  []object{{"name": "next", "target": next.addr, "match": []object{{"header": "X-Canary", "value": "next"}}}},
		}},
		"methods":        object{userService + "/GetUser": object{"retry": retry}},
		"http_upstreams": object{"plain": object{"target": backend.Listener.Addr().String()}},
		"http_routes": []object{{"name": "plain", "upstream": "plain", "match": object{"prefix": "/plain"}, "require": object{"public": true},
			"idempotent": true, "retry": retry}},
	}
	g := startGateway(t, setup{env: env, config: config})
	token := g.token(t)

	t.Run("composite: a branch that is tried again, one that is kept", func(t *testing.T) {
		composed(t, c, g, token, failing)
	})
	t.Run("canary over gRPC", func(t *testing.T) {
		trace, parent := callersTrace("2")
		ctx := metadata.AppendToOutgoingContext(as(t, token), "traceparent", parent, "x-canary", "next")
		if _, err := userv1.NewUserServiceClient(g.conn).GetUser(ctx, &userv1.GetUserRequest{UserId: "ada"}); err != nil {
			t.Fatal(err)
		}
		spans := waitFor(t, c, trace, "sluice server "+userService+"/GetUser", "sluice client "+userService+"/GetUser", "shop-user server "+userService+"/GetUser")
		for _, s := range spans[:2] {
			if got := attribute(s.GetAttributes(), "sluice.variant"); got != "next" {
				t.Errorf("%s: variant %q", describe(s), got)
			}
		}
	})
	t.Run("kept answer over REST", func(t *testing.T) {
		trace, parent := callersTrace("3")
		if a, err := g.send(bounded(t), "GET", "/v1/users/ada/profile", token, nil, "Traceparent", parent); err != nil || a.status != 200 {
			t.Fatal(a.status, err)
		}
		spans := waitFor(t, c, trace, "sluice server GET /v1/users/{user_id}/profile")
		if got := attribute(spans[0].GetAttributes(), "sluice.cache"); got != "hit" {
			t.Errorf("cache %q", got)
		}
	})
	t.Run("plain HTTP, tried again", func(t *testing.T) {
		trace, parent := callersTrace("4")
		if a, err := g.send(bounded(t), "GET", "/plain/x", token, nil, "Traceparent", parent); err != nil || a.status != 200 {
			t.Fatal(a.status, err)
		}
		spans := waitFor(t, c, trace, "sluice client GET plain", "sluice client GET plain")
		var sent, attempts []string
		for _, s := range spans {
			sent = append(sent, "00-"+trace+"-"+hex.EncodeToString(s.GetSpanId())+"-01")
			attempts = append(attempts, attribute(s.GetAttributes(), "sluice.attempt"))
		}
		slices.Sort(sent)
		slices.Sort(attempts)
		if got := plain.seen(); !slices.Equal(got, sent) || !slices.Equal(attempts, []string{"1", "2"}) {
			t.Errorf("the backend got %q, the client spans are %q, attempts %q", got, sent, attempts)
		}
	})
}

// composed asks for overviews until one of them has met the backend that fails.
func composed(t *testing.T, c *collector, g *gateway, token, failing string) {
	t.Helper()
	const overview, getUser = "shop.bff.v1.BffService/GetUserOverview", userService + "/GetUser"
	for n := range 4 { // The first fills the cache; of the others one must begin at the backend that fails.
		trace, parent := callersTrace(fmt.Sprintf("1%d", n))
		if a, err := g.send(bounded(t), "GET", "/v1/users/ada/overview", token, nil, "Traceparent", parent); err != nil || a.status != 200 {
			t.Fatal(a.status, err)
		}
		spans := waitFor(t, c, trace, "sluice server GET /v1/users/{user_id}/overview", "sluice server "+overview, "sluice client "+getUser, "shop-user server "+getUser)
		tried := event(spans[2], "retry")
		if n == 0 || tried == nil {
			continue
		}
		if got := attribute(tried, "sluice.backend"); got != failing {
			t.Errorf("the first attempt went to %q, want %q", got, failing)
		}
		if got := attribute(spans[2].GetAttributes(), "sluice.attempts"); got != "2" {
			t.Errorf("attempts %q", got)
		}
		if string(spans[3].GetParentSpanId()) != string(spans[2].GetSpanId()) {
			t.Error("the service's span is not below the call's")
		}
		kept := event(spans[1], "cache")
		if attribute(kept, "sluice.cache") != "hit" || attribute(kept, "rpc.method") != profileService+"/GetProfile" {
			t.Errorf("the branch that is kept: %v", kept)
		}
		return
	}
	t.Error("no call was tried again")
}

// callersTrace is a trace that a caller has begun, and its header.
func callersTrace(tail string) (trace, header string) {
	trace = strings.Repeat("a", 32-len(tail)) + tail
	return trace, "00-" + trace + "-00f067aa0ba902b7-01"
}

// waitFor waits until the trace has these spans, and returns them in this order.
func waitFor(t *testing.T, c *collector, trace string, want ...string) []span {
	t.Helper()
	out := make([]span, len(want))
	eventually(t, patience, func() error {
		spans := c.of(trace)
		for i, w := range want {
			found := false
			for id, s := range spans {
				if found = describe(s) == w; found {
					out[i] = s
					delete(spans, id) // Each is found once.
					break
				}
			}
			if !found {
				return errors.New("no span " + w + " in " + trace)
			}
		}
		return nil
	})
	return out
}

func event(s span, name string) []*commonv1.KeyValue {
	for _, e := range s.GetEvents() {
		if e.GetName() == name {
			return e.GetAttributes()
		}
	}
	return nil
}

func attribute(all []*commonv1.KeyValue, key string) string {
	for _, a := range all {
		if a.GetKey() != key {
			continue
		}
		if v, ok := a.GetValue().GetValue().(*commonv1.AnyValue_IntValue); ok {
			return fmt.Sprint(v.IntValue)
		}
		return a.GetValue().GetStringValue()
	}
	return ""
}

// failingService is a backend that is there, and answers UNAVAILABLE.
func failingService(t *testing.T) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, done := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		return status.Error(codes.Unavailable, "always")
	})), make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return l.Addr().String()
}

// recording answers 503 at first, and keeps the traces it was asked in.
type recording struct {
	mu     sync.Mutex
	traces []string
}

func (r *recording) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.traces = append(r.traces, req.Header.Get("Traceparent"))
	if len(r.traces) == 1 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (r *recording) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.traces))
}
