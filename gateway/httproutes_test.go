package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// TestPayments is the demonstration: a service in plain HTTP behind the whole gateway.
func TestPayments(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...), gateway.WithHTTPServices(shop.HTTPServices()...))
	token := g.Token(t, "ada", "")
	ask := func(method, path, body string, chunked bool) (int, string) {
		t.Helper()
		var from io.Reader = strings.NewReader(body)
		if chunked {
			from = io.MultiReader(from) // Whose length net/http does not know.
		}
		r, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, from)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	const of = `{"orderId":"%","currency":"EUR","cents":"1999"}`
	large := strings.Repeat(" ", 2<<20)
	for _, tc := range []struct {
		method, path, body string
		chunked            bool
		code               int
		want               string
	}{
		{"GET", "/v1/payments/ada", "", false, 200, "ada-0001"},
		{"POST", "/v1/payments/ada", strings.Replace(of, "%", "ada-0002", 1), false, 201, "ada-0002"},
		{"POST", "/v1/payments/ada", strings.Replace(of, "%", "ada-0003", 1), true, 201, "ada-0003"},
		{"POST", "/v1/payments/ada", strings.Replace(of, "%", "ada-0003", 1), false, 409, "paid already"},
		{"POST", "/v1/payments/ada", large, false, 413, "BODY_TOO_LARGE"},
		{"GET", "/v1/payments/grace", "", false, 403, "NOT_OWNER"},
		{"DELETE", "/v1/payments/ada", "", false, 405, "METHOD_NOT_ALLOWED"},
		{"GET", "/v1/payments/ada;x=1", "", false, 400, "PATH_REFUSED"},
		{"GET", "/v1/payments/ada/nothing", "", false, 404, ""},
		{"GET", "/v1/users/ada/", "", false, 404, "NO_SUCH_PATH"},
	} {
		if code, body := ask(tc.method, tc.path, tc.body, tc.chunked); code != tc.code || !strings.Contains(body, tc.want) {
			t.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.path, code, body, tc.code, tc.want)
		}
	}
	token = ""
	if code, body := ask("GET", "/v1/payments/ada", "", false); code != 401 {
		t.Errorf("without a credential: %d %s", code, body)
	}
}

// TestPlainThroughTheEdge: what streams must work through the exchange of gateway/rest.
func TestPlainThroughTheEdge(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" { // Both ways at once.
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.Copy(flushing{w}, r.Body)
			return
		}
		c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		for {
			k, b, err := c.ReadMessage()
			if err != nil || c.WriteMessage(k, b) != nil {
				return
			}
		}
	}))
	defer backend.Close()
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"echo": {Target: backend.Listener.Addr().String()}}
		c.HttpRoutes = []*configv1.HttpRoute{{Name: "echo", Upstream: "echo", Websocket: true, Require: &policyv1.Require{Public: true},
			Match:    &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/echo"}},
			Deadline: durationpb.New(10 * time.Second), StreamIdle: durationpb.New(time.Minute), MaxRequestBytes: 100}}
	}, gateway.WithServices(shop.Services()...))

	c, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(g.URL, "http")+"/echo", nil)
	if err != nil {
		t.Fatal(err, res)
	}
	defer func() { _ = c.Close() }()
	if err := c.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.ReadMessage(); err != nil || string(b) != "hello" {
		t.Errorf("%q %v", b, err)
	}
	// A page of another origin may not.
	if _, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(g.URL, "http")+"/echo", http.Header{"Origin": {"https://evil.example"}}); err == nil || res.StatusCode != 403 {
		t.Errorf("another origin: %v", err)
	}

	in, out := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/echo", in)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(out, "one\n") }()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewReader(answer.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "one\n" {
		t.Fatalf("%q %v", line, err)
	}
	if _, err := io.WriteString(out, strings.Repeat("x", 200)); err == nil {
		_ = out.Close()
	}
	if rest, err := io.ReadAll(lines); err == nil {
		t.Errorf("an answer whose body was too large looks whole: %q", rest)
	}
}

type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	_ = http.NewResponseController(f.w).Flush()
	return n, err
}

// TestPlainRoutesAreListed: lists have plain HTTP routes, and a credential's class must
// hold what they cost.
func TestPlainRoutesAreListed(t *testing.T) {
	cost := func(c *configv1.Config) {
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"up": {Target: "127.0.0.1:1"}}
		c.HttpRoutes = []*configv1.HttpRoute{{Name: "dear", Upstream: "up", Require: &policyv1.Require{Authenticated: true, Owner: "id"},
			Match: &configv1.HttpMatch{Hosts: []string{"api.example.com"}, Methods: []string{"GET", "PUT"}, Path: &configv1.HttpMatch_Template{Template: "/things/{id}"}},
			Limit: &policyv1.Limit{Class: "read", Cost: 3}, Deadline: durationpb.New(time.Second)}}
	}
	g := gatewaytest.Start(t, cost, gateway.WithServices(shop.Services()...))
	all := g.Routes()
	got := all[len(all)-1]
	if got.Verb != "GET,PUT" || got.Template != "api.example.com/things/{id}" || got.Method != "http/dear" || got.Owner != "id" || got.LimitCost != 3 ||
		got.Deadline != "1s" || got.Target != "up" || got.Limit == "" {
		t.Errorf("%+v", got)
	}
}
