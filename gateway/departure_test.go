package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// idler is a service that reads nothing and answers nothing while its caller is there.
type idler struct {
	gatewaytest.Server
	begun chan struct{}
}

func (s *idler) hang(ctx context.Context) error {
	s.begun <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (s *idler) Echo(ctx context.Context, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return nil, s.hang(ctx)
}

func (s *idler) Down(_ *testv1.DownRequest, st grpc.ServerStreamingServer[testv1.EchoResponse]) error {
	return s.hang(st.Context())
}

func (s *idler) Up(st grpc.ClientStreamingServer[testv1.EchoRequest, testv1.EchoResponse]) error {
	return s.hang(st.Context())
}

// idleBackend is the same in plain HTTP: it reads a request's head, and no more.
func idleBackend(t *testing.T, begun chan<- struct{}) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	t.Cleanup(func() { stop(); _ = l.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					begun <- struct{}{}
				}
				<-ctx.Done()
				_ = c.Close()
			})
		}
	})
	return l.Addr().String()
}

// TestCallerLeavesWithItsBodyUnread: a caller who goes away is noticed at once, whatever
// of its body nobody has read: everything that it holds is let go. No deadline is near.
func TestCallerLeavesWithItsBodyUnread(t *testing.T) {
	begun := make(chan struct{}, 1)
	addr := idleBackend(t, begun)
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		override(c, "Echo", &configv1.MethodOverride{Deadline: seconds(50)})
		for _, m := range []string{"Down", "Up"} {
			override(c, m, &configv1.MethodOverride{StreamIdle: seconds(300), StreamMaxAge: seconds(600)})
		}
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"idle": {Target: addr,
			Resilience: &configv1.Resilience{Faults: []*configv1.Fault{{Delay: seconds(60), Percent: 100, Header: "X-Fault", Value: "delay"}}}}}
		c.HttpRoutes = []*configv1.HttpRoute{{Name: "idle", Upstream: "idle", Require: &policyv1.Require{Public: true}, Deadline: durationpb.New(5 * time.Minute),
			Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/idle"}}}}
	}, gateway.WithServices(gatewaytest.TestService(&idler{begun: begun})))
	token := g.Token(t, "ada", "test.write")
	const (
		sent   = "Content-Length: 5\r\n\r\nhello"
		part   = "Content-Length: 1000\r\n\r\nhello"
		chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
		value  = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
	)
	large := "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1_000_000)
	for name, tc := range map[string]struct{ line, body string }{
		"a call that takes no body: all of it":          {"GET /test/v1/echo/1", sent},
		"a call that takes no body: a part":             {"GET /test/v1/echo/2", part},
		"a call that takes no body: chunks":             {"GET /test/v1/echo/3", chunks},
		"a call that takes no body: large":              {"GET /test/v1/echo/4", large},
		"a call that takes no body: waits to be asked":  {"GET /test/v1/echo/5", "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"},
		"a stream that takes no body: all of it":        {"GET /test/v1/down?count=1", sent},
		"a stream that takes no body: a part":           {"GET /test/v1/down?count=2", part},
		"a stream whose service does not read":          {"POST /test/v1/up", value},
		"a stream whose service does not read, no more": {"POST /test/v1/up", value + strings.Repeat("2\r\n{}\r\n", 1_000)},
		"plain HTTP: all of it":                         {"POST /idle/1", sent},
		"plain HTTP: a part":                            {"POST /idle/2", part},
		"plain HTTP: chunks":                            {"POST /idle/3", chunks},
		"plain HTTP: large":                             {"POST /idle/4", large},
		"plain HTTP: GET":                               {"GET /idle/5", sent},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.Addrs().HTTP)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nX-Request-ID: %s\r\nAuthorization: Bearer %s\r\n%s", tc.line, id(name), token, tc.body); err != nil {
				t.Fatal(err)
			}
			select {
			case <-begun:
			case <-time.After(10 * time.Second):
				t.Fatal("it has not begun")
			}
			_ = c.Close()
			ended(t, g, name)
		})
	}
	t.Run("plain HTTP: before it is sent", func(t *testing.T) {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.Addrs().HTTP)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(c, "POST /idle/6 HTTP/1.1\r\nHost: x\r\nX-Request-ID: %s\r\nX-Fault: delay\r\n%s", id(t.Name()), sent)
		_ = c.Close()
		ended(t, g, t.Name())
	})
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	for _, line := range []string{"GET /test/v1/echo/1", "GET /test/v1/down?count=1", "POST /test/v1/up", "POST /idle/1"} {
		t.Run("HTTP/2: "+line, func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			method, path, _ := strings.Cut(line, " ")
			body, more := io.Pipe()
			defer func() { _ = more.Close() }()
			go func() { _, _ = io.WriteString(more, "{}") }()
			r, err := http.NewRequestWithContext(ctx, method, g.URL+path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{"X-Request-Id": {id(t.Name())}, "Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}}
			go func() { <-begun; leave() }()
			if res, err := h2.RoundTrip(r); err == nil {
				_ = res.Body.Close()
				t.Error("it answered", res.Status)
			}
			ended(t, g, t.Name())
		})
	}
}

// id is a request id that names a test.
func id(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// ended waits for the request of a test to end.
func ended(t *testing.T, g *gatewaytest.Gateway, name string) {
	t.Helper()
	for range 1000 {
		for _, line := range g.Log.Lines() {
			if strings.Contains(line, `"`+id(name)+`"`) {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the request goes on for a caller who has left")
}
