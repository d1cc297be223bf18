package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// TestWebSocketEndsWithItsService: a caller who says nothing more does not hold its
// connection, the request and the configuration that it began by, once the service
// has hung up.
func TestWebSocketEndsWithItsService(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil); err == nil {
			_ = c.WriteMessage(websocket.TextMessage, []byte("bye"))
			_ = c.Close()
		}
	})
	e, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{
		{Name: "ws", Match: proxy.Match{Prefix: "/"}, WebSocket: true, Rule: policy.HTTPOptions{StreamIdle: time.Second}}}})
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", url[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", res, err)
	}
	_ = res.Body.Close()
	for range 500 {
		if e.call.Load() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it is held although its service has hung up")
}

// TestWritesHaveNoShadow: a copy of what changes something would change it twice.
func TestWritesHaveNoShadow(t *testing.T) {
	var copies atomic.Int32
	marked := make(chan string, 10)
	shadow := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		copies.Add(1)
		marked <- r.Method + " " + r.Header.Get("X-Sluice-Shadow")
	})
	ups := to(backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Sluice-Shadow") != "" {
			t.Error("the service itself is told that it is a shadow")
		}
	}))
	up := ups["up"]
	up.Shadow = &proxy.Shadow{Target: proxy.Target{Endpoints: []discovery.Backend{{Addr: shadow}}}, Percent: 100}
	ups["up"] = up
	_, url := start(t, proxy.Options{Upstreams: ups, Routes: []proxy.Route{
		{Name: "again", Match: proxy.Match{Prefix: "/again"}, Rule: policy.HTTPOptions{Idempotent: true}},
		{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "PURGE"} {
		_, _ = do(t, method, url+"/a", nil, nil)
	}
	_, _ = do(t, "GET", url+"/a", nil, nil)
	_, _ = do(t, "DELETE", url+"/again", nil, nil)
	got := map[string]bool{<-marked: true, <-marked: true}
	if !got["GET 1"] || !got["DELETE 1"] || copies.Load() != 2 {
		t.Errorf("%d copies, %v", copies.Load(), got)
	}
}

// TestTraceIsNotPassed: a service that answers TRACE (RFC 9110, 9.3.8) would show a
// caller the assertion.
func TestTraceIsNotPassed(t *testing.T) {
	var asked atomic.Int32
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_ = r.Header.Write(w)
	})
	_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
	if res, body := do(t, http.MethodTrace, url+"/", nil, nil); asked.Load() != 0 || res.StatusCode == http.StatusOK {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// TestKeptIsNotPoisoned: what a caller sends beside the key, and what templates make of
// it, shapes nobody else's answer; nor does a session of the service's own that a
// caller without a credential has.
func TestKeptIsNotPoisoned(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Session") != "" {
			w.Header().Set("Cache-Control", "private")
		}
		_, _ = io.WriteString(w, r.Header.Get("X-Made")+"|"+r.Header.Get("X-Session"))
	}
	for name, tc := range map[string]struct {
		rule      *policyv1.Cache
		made      string
		anonymous bool
		h         http.Header
	}{
		"header":    {shared(), "{header.x-evil}", false, http.Header{"X-Evil": {"evil"}}},
		"principal": {shared(), "{principal.subject}", false, nil},
		"session":   {private(), "", true, http.Header{"X-Session": {"ada's"}}},
		"made":      {private(), "{header.x-evil}", true, http.Header{"X-Evil": {"evil"}}},
	} {
		t.Run(name, func(t *testing.T) {
			k := keep(t, tc.rule, echo, func(r *proxy.Route) {
				r.Rule.Require = public
				if tc.made != "" {
					r.RequestHeaders = headers.Rules{Set: map[string]string{"X-Made": tc.made}}
				}
			})
			if tc.anonymous {
				k.principal = policy.Anonymous
			}
			res, first, _ := k.ask(t, "GET", "/u/a/x", tc.h)
			if !tc.anonymous {
				k.principal = policy.NewPrincipal("grace", "i", nil, time.Time{})
			}
			if _, second, how := k.ask(t, "GET", "/u/a/x", nil); strings.Contains(second, "evil") || strings.Contains(second, "ada") {
				t.Errorf("%q after %q, by %s", second, first, how)
			}
			if c := res.Header.Get("Cache-Control"); strings.Contains(c, "public") {
				t.Errorf("%q", c)
			}
		})
	}
}
