package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// untyped sends bytes of which it does not say what they are.
type untyped struct{ gatewaytest.Server }

func (untyped) Download(_ *testv1.DownRequest, st grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	return st.Send(&httpbody.HttpBody{Data: []byte("<html>body{color:red}")})
}

// verbatim is a backend that answers each request with the bytes that its path names,
// and notes the heads that it gets.
type verbatim struct {
	addr  string
	mu    sync.Mutex
	heads []string
}

func startVerbatim(t *testing.T, answers map[string]string) *verbatim {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &verbatim{addr: l.Addr().String()}
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
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				defer func() { _ = c.Close() }()
				v.serve(c, answers)
			})
		}
	})
	return v
}

func (v *verbatim) serve(c net.Conn, answers map[string]string) {
	in := bufio.NewReader(c)
	for {
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		v.mu.Lock()
		v.heads = append(v.heads, head)
		v.mu.Unlock()
		path := strings.Fields(head)[1]
		if _, err := io.WriteString(c, answers[strings.TrimPrefix(path, "/as-is/")]); err != nil {
			return
		}
	}
}

func (v *verbatim) last() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.heads[len(v.heads)-1]
}

const handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: x\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"

// TestAnswersPassAsTheyAre: nothing is added to what a service says of its answer, and
// nothing is taken away that no rule is about.
func TestAnswersPassAsTheyAre(t *testing.T) {
	const css = "body{color:red}"
	v := startVerbatim(t, map[string]string{
		"css":     "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + css,
		"chunks":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + css + "\r\n0\r\n\r\n",
		"error":   "HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n" + css,
		"empty":   "HTTP/1.1 200 OK\r\nContent-Type:\r\nContent-Length: 15\r\n\r\n" + css,
		"lines":   "HTTP/1.1 200 OK\r\nX-Two: 1\r\nX-Two: 2, 3\r\nX-Two: 1\r\nX-Empty:\r\nSet-Cookie: a=1\r\nSet-Cookie: a=1\r\nServer: it\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 15\r\n\r\n" + css,
		"none":    "HTTP/1.1 204 No Content\r\nContent-Type: text/css\r\n\r\n",
		"odd":     "HTTP/1.1 799 Whatever\r\nContent-Length: 15\r\n\r\n" + css,
		"too-odd": "HTTP/1.1 099 Whatever\r\nContent-Length: 15\r\n\r\n" + css,
		"head":    "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n",
		"ws":      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nsec-websocket-accept: abc=\r\nSEC-WEBSOCKET-PROTOCOL: chat\r\nSec-WebSocket-Extensions: x\r\n\r\n",
		"no-ws":   "HTTP/1.1 400 Bad Request\r\nsec-websocket-version: 8, 7\r\nContent-Length: 15\r\n\r\n" + css,
		"early":   "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + css,
	})
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"as-is": {Target: v.addr}}
		c.HttpRoutes = []*configv1.HttpRoute{{Name: "as-is", Upstream: "as-is", Websocket: true, Require: &policyv1.Require{Public: true}, Retry: &policyv1.Retry{MaxAttempts: 1},
			Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/as-is"}}}}
	}, gateway.WithServices(gatewaytest.TestService(&untyped{})))
	authorized := "Authorization: Bearer " + g.Token(t, "ada", "test.write") + "\r\n"
	for name, tc := range map[string]struct {
		line, head string
		has, lacks []string
		body       string
	}{
		"no type":                 {line: "GET /as-is/css", has: []string{" 200 OK", "Content-Length: 15"}, lacks: []string{"\nContent-Type"}, body: css},
		"no type, in chunks":      {line: "GET /as-is/chunks", lacks: []string{"\nContent-Type"}},
		"no type, of an error":    {line: "GET /as-is/error", has: []string{" 404 "}, lacks: []string{"\nContent-Type"}, body: css},
		"an empty type":           {line: "GET /as-is/empty", has: []string{"Content-Type: \r\n"}, body: css},
		"lines":                   {line: "GET /as-is/lines", has: []string{"X-Two: 1\r\nX-Two: 2, 3\r\nX-Two: 1\r\n", "X-Empty: \r\n", "Set-Cookie: a=1\r\nSet-Cookie: a=1\r\n", "Server: it", "Date: Thu, 01 Jan 1970 00:00:00 GMT"}, body: css},
		"nothing, and its type":   {line: "GET /as-is/none", has: []string{" 204 ", "Content-Type: text/css"}, lacks: []string{"Content-Length"}},
		"an odd status":           {line: "GET /as-is/odd", has: []string{" 799 "}, body: css},
		"a status that is none":   {line: "GET /as-is/too-odd", has: []string{" 502 ", "application/problem+json"}},
		"HEAD":                    {line: "HEAD /as-is/head", has: []string{" 200 OK", "Content-Length: 15"}, lacks: []string{"\nContent-Type", "Transfer-Encoding"}},
		"a WebSocket":             {line: "GET /as-is/ws", head: handshake, has: []string{" 101 ", "Sec-WebSocket-Accept: abc=", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: x"}, lacks: []string{"Websocket"}},
		"a WebSocket refused":     {line: "GET /as-is/no-ws", head: handshake, has: []string{" 400 ", "Sec-WebSocket-Version: 8, 7"}, lacks: []string{"Websocket", "\nContent-Type"}, body: css},
		"HttpBody of no type":     {line: "GET /test/v1/download?count=1", head: authorized, has: []string{" 200 OK"}, lacks: []string{"text/"}},
		"an answer too early":     {line: "POST /as-is/early", head: "Content-Length: 100\r\n", has: []string{" 200 OK", "Connection: close"}, lacks: []string{"\nContent-Type"}, body: css},
		"an RPC's without a body": {line: "OPTIONS /test/v1/echo/1", has: []string{" 204 "}, lacks: []string{"\nContent-Type", "Content-Length"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.Addrs().HTTP)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(c, tc.line+" HTTP/1.1\r\nHost: x\r\n"+tc.head+"\r\n"); err != nil {
				t.Fatal(err)
			}
			in, head := bufio.NewReader(c), ""
			for !strings.HasSuffix(head, "\r\n\r\n") {
				line, err := in.ReadString('\n')
				if err != nil {
					t.Fatalf("%q %v", head, err)
				}
				head += line
			}
			for _, has := range tc.has {
				if !strings.Contains(head, has) {
					t.Errorf("no %q in\n%s", has, head)
				}
			}
			for _, lacks := range tc.lacks {
				if strings.Contains(head, lacks) {
					t.Errorf("%q in\n%s", lacks, head)
				}
			}
			body := make([]byte, len(tc.body))
			if _, err := io.ReadFull(in, body); err != nil || string(body) != tc.body {
				t.Errorf("%q %v", body, err)
			}
			if tc.head != handshake {
				return
			}
			for _, name := range []string{"Sec-WebSocket-Key: MDEy", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: x"} {
				if !strings.Contains(v.last(), name) {
					t.Errorf("the service got no %q:\n%s", name, v.last())
				}
			}
		})
	}
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "GET", g.URL+"/as-is/css", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := h2.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != css || res.Header["Content-Type"] != nil {
		t.Errorf("over HTTP/2: %q %v %v", body, err, res.Header)
	}
}
