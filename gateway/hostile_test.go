package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/shop"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// TestBodyThatDoesNotCome: a caller who is refused learns it at once, and does
// not hold a connection by sending nothing.
func TestBodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...))
	for _, x := range []struct {
		name, head string
		want       int
	}{
		{"no credential, no body", "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", 401},
		{"no such path, no body", "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", 404},
		{"chunks that stop", "POST /v1/users HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 401},
		{"a call that takes none", "GET /v1/users/ada/profile HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + g.Token(t, "ada", "profiles.read") + "\r\nContent-Length: 1000\r\n\r\n", 200},
		{"too large, and slow", "POST /v1/users/ada/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " +
			g.Token(t, "ada", "orders.write") + "\r\nContent-Length: 2000000\r\n\r\n{", 413},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, err := net.Dial("tcp", g.Addrs().HTTP)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte(x.head)); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			defer res.Body.Close()
			if res.StatusCode != x.want {
				t.Errorf("status %d, want %d", res.StatusCode, x.want)
			}
		})
	}
}

// TestStreamOutlivesItsBody: a stream that takes no body, but was sent one, is not
// ended by the time that bodies have.
func TestStreamOutlivesItsBody(t *testing.T) {
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Http.ReadTimeout = durationpb.New(200 * time.Millisecond)
		override(c, "Down", &configv1.MethodOverride{StreamIdle: seconds(10), StreamMaxAge: seconds(60)})
	}, gateway.WithServices(gatewaytest.TestService(nil)))
	for name, body := range map[string]string{"sent": "Content-Length: 5\r\n\r\nhello", "none": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", g.Addrs().HTTP)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "GET /test/v1/down?count=3&gap=0.7s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+g.Token(t, "ada", "test.write")+"\r\n"+body); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != 200 || strings.Count(string(got), "\n") != 3 || strings.Contains(string(got), "error") {
				t.Errorf("%d %q, %v", res.StatusCode, got, err)
			}
		})
	}
}

// TestBranchesEndTheirCalls: what a check registers with OnDone runs for every
// branch of a composite, too.
func TestBranchesEndTheirCalls(t *testing.T) {
	var started, done atomic.Int32
	g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...),
		gateway.WithCheck(gateway.AtEntry, "count", func(ctx context.Context, c *policy.Call) (context.Context, error) {
			started.Add(1)
			c.OnDone(func(error) { done.Add(1) })
			return ctx, nil
		}))
	res, body := do(t, g, g.Token(t, "ada", "users.read orders.read"), exchange{method: "GET", path: "/v1/users/ada/overview"})
	if res.StatusCode != 200 {
		t.Fatal(body)
	}
	for end := time.Now().Add(5 * time.Second); done.Load() != 4 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // The edge ends its call after the last byte.
	}
	if started.Load() != 4 || done.Load() != 4 {
		t.Errorf("%d calls entered, %d ended, want 4 and 4", started.Load(), done.Load())
	}
}

// TestCompositeOfGarbage: a composite passes on that a required branch's answer
// cannot be read.
func TestCompositeOfGarbage(t *testing.T) {
	addr, _ := gatewaytest.Serve(t, func(grpc.ServiceRegistrar) {}, grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			return ss.SendMsg(&wire.Frame{Data: []byte("\xff\xff\xff garbage")})
		}))
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Upstreams = map[string]*configv1.Upstream{fullNames["user"]: {Target: addr}}
	}, gateway.WithServices(shop.Services()...))
	token := g.Token(t, "ada", "users.read orders.read")
	for _, path := range []string{"/v1/users/ada", "/v1/users/ada/overview"} {
		res, body := do(t, g, token, exchange{method: "GET", path: path})
		if res.StatusCode != 502 || !strings.Contains(body, "BAD_UPSTREAM_RESPONSE") {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

// TestCredentialThatExpiresOnTheWay is the caller's 401, not our 500.
func TestCredentialThatExpiresOnTheWay(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...))
	token, err := g.DevKey().Mint("ada", []string{"orders.write"}, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", g.Addrs().HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := `{"lines":[` + teaJSON + `]}`
	fmt.Fprintf(c, "POST /v1/users/ada/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", token, len(body))
	time.Sleep(3 * time.Second)
	if _, err := c.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("status %d, want 401", res.StatusCode)
	}
}

// TestReaderWhoDoesNotRead: a stream that has ended on the service's side lets
// go of a gRPC caller who leaves its messages lie.
func TestReaderWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	ended := make(chan policy.Edge, 1)
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)),
		gateway.WithCheck(gateway.AfterAuthorization, "ended", func(ctx context.Context, c *policy.Call) (context.Context, error) {
			c.OnDone(func(error) { ended <- c.Edge })
			return ctx, nil
		}))
	st, err := testv1.NewTestServiceClient(g.Conn).Down(g.As(t, "ada", ""), &testv1.DownRequest{Count: 10000, Padding: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	select { // Nothing more is read: flow control holds the gateway's sends.
	case <-ended:
	case <-time.After(40 * time.Second):
		t.Error("the call goes on though the service's stream is over")
	}
}
