package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// TestMain: nothing that any test of this package started outlives it. Each
// gateway is stopped by its test, so what is left is a leak.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if err := left(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// left waits for goroutines to end, and says which have not.
func left(ignore ...goleak.Option) (err error) {
	for range 10 { // Each waits for half a second.
		if err = goleak.Find(ignore...); err == nil {
			return nil
		}
	}
	return err
}

// TestNoGoroutineOutlivesACall: calls that ended in every way there is leave
// nothing behind in a gateway that goes on running.
func TestNoGoroutineOutlivesACall(t *testing.T) {
	everyPlace(t, nil, func(c *configv1.Config) {
		override(c, "Down", &configv1.MethodOverride{StreamIdle: seconds(60), StreamMaxAge: seconds(600)})
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		round := func() { everyEnd(t, g) }
		round() // Opens the connections that stay.
		http.DefaultClient.CloseIdleConnections()
		settled := goleak.IgnoreCurrent()
		for range 5 {
			round()
		}
		http.DefaultClient.CloseIdleConnections()
		if err := left(settled); err != nil {
			t.Error(err)
		}
	})
}

// everyEnd makes calls that end well, in error, and by clients that leave.
func everyEnd(t *testing.T, g *gatewaytest.Gateway) {
	t.Helper()
	token := g.Token(t, "ada", "test.write")
	c, as := testv1.NewTestServiceClient(g.Conn), g.As(t, "ada", "test.write")
	for _, path := range []string{"/test/v1/echo/x", "/test/v1/echo/x?fail_code=5", "/test/v1/echo/x?panic=true", "/test/v1/down?count=3", "/test/v1/down?count=1&panic=true", "/none"} {
		do(t, g, token, exchange{method: "GET", path: path})
	}
	if _, err := drain(c.Down(as, &testv1.DownRequest{Count: 3})); err != nil {
		t.Fatal(err)
	}
	leave := func(call func(ctx context.Context)) {
		ctx, cancel := context.WithCancel(as)
		call(ctx)
		cancel()
	}
	leave(func(ctx context.Context) { // With the service waiting.
		st, err := c.Down(ctx, &testv1.DownRequest{Count: 2, Gap: seconds(50)})
		if err == nil {
			_, err = st.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	leave(func(ctx context.Context) { // With the stream full, for nobody reads.
		st, err := c.Down(ctx, &testv1.DownRequest{Count: 10000, Padding: 100_000})
		if err == nil {
			_, err = st.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	leave(func(ctx context.Context) { // In the middle of sending.
		chat, err := c.Chat(ctx)
		for range 100 {
			if err == nil {
				err = chat.Send(&testv1.EchoRequest{FailMessage: strings.Repeat("x", 10_000)})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	leaveREST(t, g, token, "GET", "/test/v1/down?count=2&gap=50s", http.NoBody)
	r, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, `{"id":"a"}`) }()
	leaveREST(t, g, token, "POST", "/test/v1/chat", r)
	_ = w.Close()
}

// leaveREST reads the first line of an answer and goes.
func leaveREST(t *testing.T, g *gatewaytest.Gateway, token, method, path string, body io.Reader) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, g.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
}
