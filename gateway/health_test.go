package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
)

// raw sends bytes and returns the status, the header and the body of the first
// answer.
func (d door) raw(t *testing.T, send string) (*http.Response, string) {
	t.Helper()
	c := d.dial(t, "http/1.1")
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(send, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// TestHealthPath: load balancers are answered in whatever way they ask, and told
// nothing else.
func TestHealthPath(t *testing.T) {
	web, _ := doors(t, func(c *configv1.Config) { c.Http.HealthPath = "/healthz" })
	for name, tc := range map[string]struct {
		send string
		want int
		body string
	}{
		"HTTP/1.1":                    {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ready\n"},
		"HEAD":                        {"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
		"HTTP/1.0 without a Host":     {"GET /healthz HTTP/1.0\r\n\r\n", 200, "ready\n"},
		"HTTP/1.0, to be kept":        {"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "ready\n"},
		"HTTP/1.1 with an empty Host": {"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 200, "ready\n"},
		"HTTP/1.1 without a Host":     {"GET /healthz HTTP/1.1\r\n\r\n", 400, ""},
		"an address as the Host":      {"GET /healthz HTTP/1.1\r\nHost: 192.0.2.1:8443\r\n\r\n", 200, "ready\n"},
		"a query":                     {"GET /healthz?x=1 HTTP/1.0\r\n\r\n", 200, "ready\n"},
		"a bad credential":            {"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n", 200, "ready\n"},
		"POST":                        {"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, ""},
		"a path below":                {"GET /healthz/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, ""},
		"another path":                {"GET /Healthz HTTP/1.1\r\nHost: x\r\n\r\n", 404, ""},
	} {
		for _, d := range web[:2] {
			res, body := d.raw(t, tc.send)
			if res.StatusCode != tc.want || tc.want == 200 && body != tc.body {
				t.Errorf("%s, %s: %d %q, want %d %q", d.name, name, res.StatusCode, body, tc.want, tc.body)
			}
			if tc.want == 200 && (res.Header.Get("Content-Type") != "text/plain; charset=utf-8" || res.Header.Get("Cache-Control") != "no-store") {
				t.Errorf("%s, %s: %v", d.name, name, res.Header)
			}
		}
	}
	for _, d := range web[:2] {
		c := rawhttp2.Dial(t, d.addr, d.tls)
		if err := c.Headers(1, true, ":method", "GET", ":scheme", "https", ":path", "/healthz"); err != nil {
			t.Fatal(err)
		}
		if got, reset := c.Answer(1, 20*time.Second); got[":status"] != "200" {
			t.Errorf("%s, HTTP/2: %v, %v", d.name, got, reset)
		}
	}
	if res, _ := web[0].raw(t, "GET /test/v1/names HTTP/1.0\r\n\r\n"); res.StatusCode != 200 {
		t.Errorf("a call without a Host: %d", res.StatusCode)
	}
}

// TestNoHealthPath: where nobody has asked for it, there is none.
func TestNoHealthPath(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	for _, path := range []string{"/healthz", "/"} {
		if res, _ := (door{addr: g.Addrs().HTTP}).raw(t, "GET "+path+" HTTP/1.0\r\n\r\n"); res.StatusCode != 404 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

// TestHealthCountsAsArrival: who asks for health too often is refused as everywhere.
func TestHealthCountsAsArrival(t *testing.T) {
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Http.HealthPath = "/healthz"
		c.Limits.Address = &configv1.AddressLimit{Requests: 1, Burst: 2}
	}, gateway.WithServices(gatewaytest.TestService(nil)))
	got := (door{addr: g.Addrs().HTTP}).answers(t, strings.Repeat("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 100))
	if len(got) != 100 || got[0] != 200 || !slices.Contains(got, 429) {
		t.Errorf("%v", got)
	}
}

// TestHealthWhileDraining: a gateway that drains says so while it still accepts.
func TestHealthWhileDraining(t *testing.T) {
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Http.HealthPath = "/healthz"
		c.Shutdown.NotReadyFor = durationpb.New(2 * time.Second)
	}, gateway.WithServices(gatewaytest.TestService(nil)))
	d := door{addr: g.Addrs().HTTP}
	if res, body := d.raw(t, "GET /healthz HTTP/1.0\r\n\r\n"); res.StatusCode != 200 {
		t.Fatal(res.StatusCode, body)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }()
	for {
		res, body := d.raw(t, "GET /healthz HTTP/1.0\r\n\r\n") // It fails where the listener has closed.
		if res.StatusCode == http.StatusServiceUnavailable && body == "not ready\n" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestHealthPathOfSomething: a path that means something else stops the start.
func TestHealthPathOfSomething(t *testing.T) {
	plain := func(m *configv1.HttpMatch) *configv1.HttpRoute {
		return &configv1.HttpRoute{Name: "plain", Match: m, Upstream: "up", Require: &policyv1.Require{Public: true}}
	}
	for name, tc := range map[string]struct {
		path  string
		match *configv1.HttpMatch
		want  string // "" means that it starts
	}{
		"nothing":                     {path: "/healthz"},
		"a route of an RPC":           {path: "/test/v1/names", want: "ListNames"},
		"a template of an RPC":        {path: "/test/v1/echo/health", want: "Echo"},
		"the docs":                    {path: "/docs", want: "/docs"},
		"below the docs":              {path: "/docs/health", want: "/docs/"},
		"dots":                        {path: "/a/../healthz", want: "no request has such a path"},
		"a plain route":               {path: "/healthz", match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Exact{Exact: "/healthz"}}, want: "http/plain"},
		"a plain route of one host":   {path: "/healthz", match: &configv1.HttpMatch{Hosts: []string{"a.test"}, Path: &configv1.HttpMatch_Exact{Exact: "/healthz"}}, want: "http/plain"},
		"a plain template":            {path: "/healthz", match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Template{Template: "/{name}"}}, want: "http/plain"},
		"a plain expression":          {path: "/healthz", match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Regex{Regex: "/[a-z]+"}}, want: "http/plain"},
		"a prefix of the same path":   {path: "/healthz", match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/healthz/"}}, want: "http/plain"},
		"below a prefix":              {path: "/app/healthz", match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/app"}}},
		"where all goes to a service": {path: "/healthz", match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := gatewaytest.Config(t)
			c.Http.HealthPath = tc.path
			if tc.match != nil {
				c.HttpUpstreams = map[string]*configv1.HttpUpstream{"up": {Target: "127.0.0.1:9"}}
				c.HttpRoutes = []*configv1.HttpRoute{plain(tc.match)}
			}
			g, err := gateway.New(c, gateway.WithDemo(), gateway.WithServices(gatewaytest.TestService(nil)), gateway.WithDocs("test", []byte("{}")))
			if err == nil {
				_ = g.Close()
			}
			if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "health")) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}
