package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

type signer struct{}

func (signer) Sign(p *policy.Principal, audience string) (string, error) {
	return "for " + audience + " of " + p.Subject, nil
}

var public = &policyv1.Require{Public: true}

// edge is what gateway/rest does for a request, in short.
type edge struct {
	p         *proxy.Proxy
	principal *policy.Principal
	client    netip.Addr
	tracer    trace.Tracer // makes the span that gateway/rest makes; nil is none
	failed    atomic.Pointer[status.Status]
	call      atomic.Pointer[policy.Call]
}

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, ok := e.p.Match(r, r.Method, r.URL.Path, false)
	if !ok {
		if q, ok = e.p.Match(r, r.Method, r.URL.Path, true); !ok {
			http.NotFound(w, r)
			return
		}
	}
	if !q.WebSocket() {
		r.Header.Del("Upgrade")
		r.Header.Del("Connection")
	}
	if e.tracer != nil {
		ctx, span := e.tracer.Start(r.Context(), "edge")
		defer span.End()
		r = r.WithContext(ctx)
	}
	peer := netip.MustParseAddrPort(r.RemoteAddr)
	call := &policy.Call{Method: q.Method(), RequestID: "r-1", Principal: e.principal, Peer: peer, Client: e.client, Headers: r.Header.Values}
	if !call.Client.IsValid() {
		call.Client = peer.Addr()
	}
	w.Header().Set("X-Request-Id", "r-1")
	e.call.Store(call) // Before: the caller may have the whole answer while Serve still ends.
	err := q.Serve(w, r, call)
	st := status.Convert(err)
	e.failed.Store(st)
	if err != nil {
		w.WriteHeader(map[codes.Code]int{codes.Unavailable: 503, codes.Internal: 502, codes.DeadlineExceeded: 504, codes.InvalidArgument: 400, codes.PermissionDenied: 403, codes.Canceled: 499}[st.Code()])
	}
}

func start(t testing.TB, o proxy.Options) (*edge, string) {
	t.Helper()
	if o.Signer == nil {
		o.Signer = signer{}
	}
	for i := range o.Routes {
		if o.Routes[i].Rule.Require == nil {
			o.Routes[i].Rule.Require = public
		}
		if o.Routes[i].Rule.Deadline == 0 {
			o.Routes[i].Rule.Deadline = 10 * time.Second
		}
		o.Routes[i].Upstream = "up"
	}
	p, err := proxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{p: p, principal: policy.Anonymous}
	srv := httptest.NewUnstartedServer(e)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return e, srv.URL
}

func backend(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func to(addrs ...string) map[string]proxy.Upstream {
	u := proxy.Upstream{}
	for _, a := range addrs {
		u.Endpoints = append(u.Endpoints, discovery.Backend{Addr: a})
	}
	return map[string]proxy.Upstream{"up": u}
}

func get(t testing.TB, url string, h http.Header) (*http.Response, string) {
	t.Helper()
	return do(t, http.MethodGet, url, nil, h)
}

func do(t testing.TB, method, url string, body io.Reader, h http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range h {
		r.Header[k] = v
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return res, string(b)
}

func TestMatchAndRewrite(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.RequestURI) })
	_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{
		{Name: "strip", Match: proxy.Match{Prefix: "/strip"}, Rewrite: proxy.Rewrite{Prefix: "/"}},
		{Name: "put", Match: proxy.Match{Prefix: "/put/"}, Rewrite: proxy.Rewrite{Prefix: "/other/"}},
		{Name: "exact", Match: proxy.Match{Exact: "/exact", Methods: []string{"GET"}}},
		{Name: "regex", Match: proxy.Match{Regex: `/re/(?P<a>[^/]*)/(?P<b>[^/]*)`}, Rewrite: proxy.Rewrite{Regex: "/new/${b}${a}"}},
		{Name: "template", Match: proxy.Match{Template: "/t/{id}/**"}},
		{Name: "header", Match: proxy.Match{Prefix: "/h", Headers: []proxy.HeaderMatch{{Name: "x-beta", Value: "1"}}}},
	}})
	for _, tc := range []struct {
		path string
		code int
		want string
	}{
		{"/strip", 200, "/"}, {"/strip/a/b", 200, "/a/b"}, {"/stripped", 404, ""},
		{"/put/a", 200, "/other/a"}, {"/exact", 200, "/exact"}, {"/exact/", 404, ""},
		{"/re/x/y", 200, "/new/yx"}, {"/re/x/y/z", 404, ""}, {"/t/1", 200, "/t/1"}, {"/t/1/a%20b", 200, "/t/1/a%20b"},
		{"/h", 404, ""},
		{"/re/%2Ex/.a", 200, "/new/.a%2Ex"}, {"/re/%2e/.", 400, ""},
		{"/strip/Products('1')%2B?a;b&%", 200, "/Products('1')%2B?a;b&%"}, {"/put/%c3%A9?", 200, "/other/%c3%A9?"}, {"/%74/1?q", 200, "/%74/1?q"},
		{"/t/a;b=c", 400, ""},     // A matrix parameter is cut off by some.
		{"/t/a%3Bb", 400, ""},     // As is one that is encoded.
		{"/strip/%2561", 400, ""}, // What is left could be decoded again.
	} {
		res, body := get(t, url+tc.path, nil)
		if res.StatusCode != tc.code || tc.code == 200 && body != tc.want {
			t.Errorf("%s: %d %q, want %d %q", tc.path, res.StatusCode, body, tc.code, tc.want)
		}
	}
	if res, _ := get(t, url+"/h", http.Header{"X-Beta": {"1"}}); res.StatusCode != 200 {
		t.Errorf("with the header: %d", res.StatusCode)
	}
}

// TestRegexCannotClimb: what groups make of a path is read again.
func TestRegexCannotClimb(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.URL.Path) })
	_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{
		{Name: "regex", Match: proxy.Match{Regex: `/re/(.)x(.)`}, Rewrite: proxy.Rewrite{Regex: "/a/$1$2/b"}},
	}})
	if res, body := get(t, url+"/re/.x.", nil); res.StatusCode != 400 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestHeadersThatPass(t *testing.T) {
	var seen atomic.Pointer[http.Request]
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		h := w.Header()
		h.Set("X-Sluice-Assertion", "forged")
		h.Set("X-Request-Id", "forged")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Alt-Svc", `h3="evil:443"`)
		h.Set("X-App", "1")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusFound)
	})
	u := to(addr)
	up := u["up"]
	up.UserID = true
	u["up"] = up
	e, url := start(t, proxy.Options{Upstreams: u, APIKeyHeader: "X-Api-Key", Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
	e.principal = policy.NewPrincipal("ada", "i", nil, time.Time{})
	sent := http.Header{
		"Authorization": {"Bearer secret"}, "X-Api-Key": {"secret"}, "X-User-Id": {"root"}, "X_user_id": {"root"}, "X-Sluice-Assertion": {"forged"},
		"X-Forwarded-For": {"6.6.6.6"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=6.6.6.6"}, "X-Real-Ip": {"6.6.6.6"},
		"X-Original-Url": {"/admin"}, "X-Http-Method-Override": {"DELETE"}, "Proxy": {"evil"}, "Cookie": {"app=1"}, "X-Mine": {"1"},
		"Connection": {"x-mine, x-sluice-assertion"}, "Te": {"trailers"},
	}
	res, _ := get(t, url+"/", sent)
	if res.StatusCode != http.StatusFound || res.Header.Get("X-App") != "1" {
		t.Errorf("a redirect must pass: %d %v", res.StatusCode, res.Header)
	}
	for _, name := range []string{"X-Sluice-Assertion", "Access-Control-Allow-Origin", "Alt-Svc"} {
		if v := res.Header.Get(name); v != "" {
			t.Errorf("the answer has %s: %s", name, v)
		}
	}
	if got := res.Header.Values("X-Request-Id"); len(got) != 1 || got[0] != "r-1" {
		t.Errorf("request id %q", got)
	}
	h := seen.Load().Header
	for name, want := range map[string]string{
		"Authorization": "", "X-Api-Key": "", "X-User-Id": "ada", "X_user_id": "", "X-Sluice-Assertion": "for up of ada", "X-Forwarded-For": "127.0.0.1",
		"X-Forwarded-Proto": "http", "X-Real-Ip": "", "X-Original-Url": "", "X-Http-Method-Override": "", "Proxy": "", "Cookie": "app=1", "X-Request-Id": "r-1",
	} {
		if got := strings.Join(h[name], "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := h.Get("Forwarded"); !strings.HasPrefix(got, "for=127.0.0.1;host=") || strings.Contains(got, "6.6.6.6") {
		t.Errorf("Forwarded: %q", got)
	}
	// Through a trusted proxy, its word about the scheme counts.
	e.client = netip.MustParseAddr("2001:db8::1")
	get(t, url+"/", http.Header{"X-Forwarded-Proto": {"https"}})
	h = seen.Load().Header
	if h.Get("X-Forwarded-For") != "2001:db8::1, 127.0.0.1" || h.Get("X-Forwarded-Proto") != "https" || !strings.Contains(h.Get("Forwarded"), `for="[2001:db8::1]"`) {
		t.Errorf("%v", h)
	}
}

// raw answers every connection with bytes, and closes it.
func raw(t testing.TB, answer string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// TestFailuresAreToldApart: 503 for nobody there, 502 for nonsense, 504 for too late.
func TestFailuresAreToldApart(t *testing.T) {
	hang := make(chan struct{})
	slow := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	gone := raw(t, "")
	for name, tc := range map[string]struct {
		addr string
		code int
	}{
		"refused":               {"127.0.0.1:1", 503},
		"closed without answer": {gone, 503},
		"no HTTP":               {raw(t, "SSH-2.0-OpenSSH\r\n\r\n"), 502},
		"a huge header":         {raw(t, "HTTP/1.1 200 OK\r\nX-Big: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"), 502},
		"an upgrade unasked":    {raw(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), 502},
		"too late":              {slow, 504},
	} {
		t.Run(name, func(t *testing.T) {
			_, url := start(t, proxy.Options{Upstreams: to(tc.addr), Routes: []proxy.Route{
				{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: policy.HTTPOptions{Deadline: 500 * time.Millisecond}}}})
			if res, body := get(t, url+"/", nil); res.StatusCode != tc.code {
				t.Errorf("%d %s, want %d", res.StatusCode, body, tc.code)
			}
		})
	}
}

func TestRetries(t *testing.T) {
	var calls atomic.Int64
	var bodies atomic.Int64
	flaky := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies.Add(int64(len(b)))
		if calls.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(b)
	})
	for name, tc := range map[string]struct {
		method, body string
		idempotent   bool
		code, calls  int
	}{
		"GET":                {"GET", "", false, 200, 2},
		"POST":               {"POST", "x", false, 503, 1},
		"an idempotent POST": {"POST", "xyz", true, 200, 2},
		"too large to keep":  {"POST", strings.Repeat("x", 65<<10), true, 503, 1},
	} {
		t.Run(name, func(t *testing.T) {
			calls.Store(0)
			e, url := start(t, proxy.Options{Upstreams: to(flaky), Routes: []proxy.Route{
				{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: policy.HTTPOptions{Idempotent: tc.idempotent}}}})
			res, body := do(t, tc.method, url+"/", strings.NewReader(tc.body), nil)
			if res.StatusCode != tc.code || int(calls.Load()) != tc.calls || tc.code == 200 && body != tc.body {
				t.Errorf("%d after %d calls: %.20q", res.StatusCode, calls.Load(), body)
			}
			if got := e.call.Load().Attempts; got != tc.calls {
				t.Errorf("attempts %d", got)
			}
		})
	}
}

// TestAttemptTimeout: an attempt that is ended by its own bound goes to another
// backend, whatever codes say, and 504 is the answer when there is none.
func TestAttemptTimeout(t *testing.T) {
	hang := make(chan struct{})
	slow := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(hang) })
	ok := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "in time") })
	for name, tc := range map[string]struct {
		addrs          []string
		method         string
		code, attempts int
	}{
		"another answers":   {[]string{slow, ok}, "GET", 200, 0},
		"nobody answers":    {[]string{slow}, "GET", 504, 2},
		"no second attempt": {[]string{slow}, "POST", 504, 1},
	} {
		t.Run(name, func(t *testing.T) {
			e, url := start(t, proxy.Options{Upstreams: to(tc.addrs...), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"},
				Rule: policy.HTTPOptions{Retry: &policyv1.Retry{MaxAttempts: 2, AttemptTimeout: durationpb.New(100 * time.Millisecond)}}}}})
			for range 4 { // Of two backends, each is the first of some calls.
				res, _ := do(t, tc.method, url+"/", http.NoBody, nil)
				if got := e.call.Load().Attempts; res.StatusCode != tc.code || tc.attempts > 0 && got != tc.attempts {
					t.Errorf("%d after %d attempts", res.StatusCode, got)
				}
			}
		})
	}
}

// TestDeadBackendIsPassedOver: a GET that meets a backend which is gone goes to another.
func TestDeadBackendIsPassedOver(t *testing.T) {
	ok := backend(t, func(http.ResponseWriter, *http.Request) {})
	_, url := start(t, proxy.Options{Upstreams: to(ok, "127.0.0.1:1"), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
	for range 10 {
		if res, _ := get(t, url+"/", nil); res.StatusCode != 200 {
			t.Fatal(res.StatusCode)
		}
	}
}

func TestWebSocket(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
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
	})
	dial := func(t *testing.T, url string) *websocket.Conn {
		t.Helper()
		c, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		t.Cleanup(func() { _ = c.Close() })
		if err := c.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.ReadMessage(); err != nil || string(b) != "hello" {
			t.Fatalf("%q %v", b, err)
		}
		return c
	}
	for name, tc := range map[string]struct {
		idle    time.Duration
		age     time.Duration
		expires time.Duration
		drain   bool
		want    codes.Code
	}{
		"idle":                            {idle: 100 * time.Millisecond, want: codes.DeadlineExceeded},
		"expired":                         {expires: 500 * time.Millisecond, want: codes.Unauthenticated},
		"old":                             {age: 500 * time.Millisecond, want: codes.DeadlineExceeded},
		"old, before its credential ends": {age: 500 * time.Millisecond, expires: time.Hour, want: codes.DeadlineExceeded},
		"drained":                         {drain: true, want: codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			e, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{
				{Name: "ws", Match: proxy.Match{Prefix: "/"}, WebSocket: true, Rule: policy.HTTPOptions{StreamIdle: tc.idle, StreamMaxAge: tc.age}}}})
			if tc.expires > 0 {
				e.principal = policy.NewPrincipal("ada", "i", nil, time.Now().Add(tc.expires))
			}
			c := dial(t, url)
			if tc.drain {
				e.p.EndStreams()
			}
			if _, _, err := c.ReadMessage(); err == nil {
				t.Error("it goes on")
			}
			for range 500 {
				if st := e.failed.Load(); st != nil {
					if st.Code() != tc.want {
						t.Errorf("ended by %v", st)
					}
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Error("it never ended")
		})
	}
	t.Run("not where the route does not say so", func(t *testing.T) {
		_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{{Name: "plain", Match: proxy.Match{Prefix: "/"}}}})
		_, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/", nil)
		if err == nil || res == nil || res.StatusCode == http.StatusSwitchingProtocols {
			t.Errorf("%v %v", res, err)
		}
		if res != nil {
			_ = res.Body.Close()
		}
	})
}

func TestEventStreamIsFlushed(t *testing.T) {
	more := make(chan struct{})
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "data: 2\n\n")
	})
	_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}}}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b := bufio.NewReader(res.Body)
	if line, err := b.ReadString('\n'); err != nil || line != "data: 1\n" {
		t.Fatalf("%q %v", line, err)
	}
	close(more)
	if rest, err := io.ReadAll(b); err != nil || !strings.Contains(string(rest), "data: 2") {
		t.Errorf("%q %v", rest, err)
	}
}

func TestJSONRules(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", `"1"`)
		if r.Method == http.MethodGet {
			b = []byte(`[1]`)
		}
		_, _ = w.Write(b)
	})
	_, url := start(t, proxy.Options{Upstreams: to(addr), Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"},
		RequestJSON:  proxy.JSONRules{Set: map[string]string{"meta.source": `"gateway"`}, Remove: []string{"admin"}},
		ResponseJSON: proxy.JSONRules{Rename: map[string]string{"amount": "value"}},
	}}})
	json := http.Header{"Content-Type": {"application/json"}}
	res, body := do(t, "POST", url+"/", strings.NewReader(`{"amount":12345678901234567890.10,"admin":true}`), json)
	if want := `{"meta":{"source":"gateway"},"value":12345678901234567890.10}`; body != want || res.ContentLength != int64(len(want)) || res.Header.Get("Etag") != `W/"1"` {
		t.Errorf("%s %v", body, res.Header)
	}
	for _, body := range []string{`[1]`, `{"a":1} {"b":2}`, `{`, `{"meta":1}`} {
		if res, _ := do(t, "POST", url+"/", strings.NewReader(body), json); res.StatusCode != 400 {
			t.Errorf("%s: %d", body, res.StatusCode)
		}
	}
	if res, _ := get(t, url+"/", nil); res.StatusCode != 502 {
		t.Errorf("an answer that is no object: %d", res.StatusCode)
	}
}

func TestCanaryAndEntry(t *testing.T) {
	old := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "old") })
	next := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "next") })
	u := to(old)
	up := u["up"]
	up.Canaries = []proxy.Canary{{Name: "next", Target: proxy.Target{Target: next}, Match: []proxy.CanaryMatch{{Cookie: "beta", Value: "1"}}}}
	u["up"] = up
	e, url := start(t, proxy.Options{Upstreams: u, Entry: policy.Chain{{Name: "owner", Check: policy.RequireOwner}}, Routes: []proxy.Route{
		{Name: "mine", Match: proxy.Match{Template: "/u/{user_id}/**"}, Rule: policy.HTTPOptions{Require: &policyv1.Require{Authenticated: true, Owner: "user_id"}}},
	}})
	e.principal = policy.NewPrincipal("ada", "i", nil, time.Time{})
	for _, tc := range []struct {
		path, cookie, want string
		code               int
	}{{"/u/ada/x", "", "old", 200}, {"/u/ada/x", "beta=1", "next", 200}, {"/u/%61da/x", "", "old", 200}, {"/u/grace/x", "", "", 403}} {
		res, body := get(t, url+tc.path, http.Header{"Cookie": {tc.cookie}})
		if res.StatusCode != tc.code || body != tc.want {
			t.Errorf("%s %s: %d %q", tc.path, tc.cookie, res.StatusCode, body)
		}
	}
}

// TestAllIsToldAtOnce: a configuration's errors come together, each with its route.
func TestAllIsToldAtOnce(t *testing.T) {
	_, err := proxy.New(proxy.Options{Signer: signer{}, Upstreams: to("127.0.0.1:1"), Routes: []proxy.Route{
		{Name: "a", Upstream: "up", Match: proxy.Match{Regex: "("}, Rule: policy.HTTPOptions{Require: public}},
		{Name: "b", Upstream: "none", Match: proxy.Match{Exact: "/a/../b"}, Rule: policy.HTTPOptions{}},
		{Name: "c", Upstream: "up", Match: proxy.Match{Prefix: "/c"}, Rule: policy.HTTPOptions{Require: &policyv1.Require{Authenticated: true, Owner: "id",
			Conditions: []*policyv1.Condition{{Id: "x", Expression: "request.page_size < 1"}}}}},
		{Name: "d", Upstream: "up", Match: proxy.Match{Regex: "/(x)"}, Rewrite: proxy.Rewrite{Regex: "/$2"}, Rule: policy.HTTPOptions{Require: public}},
	}})
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, want := range []string{"a: match.regex", "b: match.exact", `"none" is none of`, "require needs", "c: owner", "page_size", "d: rewrite.regex"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing of %q in:\n%v", want, err)
		}
	}
}
