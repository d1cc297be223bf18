package gateway_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// older answers requests that have a required field.
type older struct{ *gatewaytest.Server }

func (older) Old(_ context.Context, r *testv1.Legacy) (*testv1.Legacy, error) { return r, nil }

// TestRequestsThatAreNone: who sends requests that cannot be sent on gets 400, with the
// field's name; however many they are, others are served.
func TestRequestsThatAreNone(t *testing.T) {
	srv := older{&gatewaytest.Server{}}
	for name, g := range map[string]func(*testing.T) *gatewaytest.Gateway{
		"remote": func(t *testing.T) *gatewaytest.Gateway {
			addr, _ := gatewaytest.Serve(t, func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, srv) })
			return at(t, addr)
		},
		"inprocess": func(t *testing.T) *gatewaytest.Gateway {
			return gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(srv)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := g(t)
			old := func(query string) (int, string) {
				res, body := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/old" + query})
				return res.StatusCode, body
			}
			rpc := func(b []byte) error {
				return g.Conn.Invoke(t.Context(), "/sluice.test.v1.TestService/Old", &wire.Frame{Data: b}, &wire.Frame{}, grpc.ForceCodecV2(wire.Codec{}))
			}
			for range 25 { // A breaker opens with the 20th failure.
				if code, body := old("?note=x"); code != http.StatusBadRequest || !strings.Contains(body, `"errors":[{"field":"id","reason":"is required"}]`) {
					t.Fatalf("%d %s", code, body)
				}
				if err := rpc([]byte("\x1a\x01x")); firstField(err) != "id: is required" {
					t.Fatalf("%v, field %q", err, firstField(err))
				}
				wantCode(t, rpc([]byte{0xff}), codes.InvalidArgument, "not a valid message")
			}
			if code, body := old("?id=a"); code != http.StatusOK {
				t.Errorf("%d %s", code, body)
			}
			if err := rpc([]byte("\x0a\x01a")); err != nil {
				t.Error(err)
			}
		})
	}
}

// firstField is the first field that an error names, and why.
func firstField(err error) string {
	for _, d := range status.Convert(err).Details() {
		if br, ok := d.(*errdetails.BadRequest); ok && len(br.GetFieldViolations()) > 0 {
			return br.GetFieldViolations()[0].GetField() + ": " + br.GetFieldViolations()[0].GetDescription()
		}
	}
	return ""
}

// counting counts the connections that are open.
type counting struct {
	net.Listener
	open atomic.Int32
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.open.Add(1)
		c = &countedConn{Conn: c, l: l}
	}
	return c, err
}

type countedConn struct {
	net.Conn
	l    *counting
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}

func listening(t *testing.T) *counting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &counting{Listener: l}
}

// TestIdleConnections: idle_timeout of either kind of upstream closes its connections, and
// the next request has another.
func TestIdleConnections(t *testing.T) {
	rpc, plain := listening(t), listening(t)
	srv := grpc.NewServer()
	testv1.RegisterTestServiceServer(srv, &gatewaytest.Server{})
	go func() { _ = srv.Serve(rpc) }()
	t.Cleanup(srv.Stop)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	_ = web.Listener.Close()
	web.Listener = plain
	web.Start()
	t.Cleanup(web.Close)
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Upstreams = upstreams(rpc.Addr().String())
		for _, u := range c.GetUpstreams() {
			u.IdleTimeout = seconds(0.2)
		}
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"web": {Target: plain.Addr().String(), IdleTimeout: seconds(0.2)}}
		c.HttpRoutes = []*configv1.HttpRoute{{Name: "web", Upstream: "web", Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/web"}}, Require: &policyv1.Require{Public: true}}}
	}, gateway.WithServices(gatewaytest.TestService(nil)))
	for range 2 {
		if res, body := getEcho(t, g); res.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		if res, body := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/web"}); res.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		eventually(t, "both connections are closed", func() bool { return rpc.open.Load() == 0 && plain.open.Load() == 0 })
	}
}
