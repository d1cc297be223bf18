package gateway_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// telling says something beside its answers.
type telling struct {
	gatewaytest.Server
	calls           atomic.Int64
	header, trailer metadata.MD
}

func (s *telling) tell(ctx context.Context) error {
	s.calls.Add(1)
	if err := grpc.SetHeader(ctx, s.header); err != nil {
		return err
	}
	return grpc.SetTrailer(ctx, s.trailer)
}

func (s *telling) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	if err := s.tell(ctx); err != nil {
		return nil, err
	}
	return s.Server.Echo(ctx, r)
}

func (s *telling) Down(r *testv1.DownRequest, st grpc.ServerStreamingServer[testv1.EchoResponse]) error {
	if err := s.tell(st.Context()); err != nil {
		return err
	}
	return s.Server.Down(r, st)
}

func (s *telling) Up(st grpc.ClientStreamingServer[testv1.EchoRequest, testv1.EchoResponse]) error {
	if err := s.tell(st.Context()); err != nil {
		return err
	}
	return s.Server.Up(st)
}

func (s *telling) Download(r *testv1.DownRequest, st grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	if err := s.tell(st.Context()); err != nil {
		return err
	}
	return s.Server.Download(r, st)
}

var told = &policyv1.Metadata{Response: []string{"X-Total", "x-bytes-bin", "x-end", "set-cookie", "x-bad", "x-huge"}}

func newTelling() *telling {
	return &telling{
		header: metadata.Pairs("x-total", "1", "x-total", "2", "x-bytes-bin", "\x00\xff\x01\x02", "set-cookie", "a=b; HttpOnly",
			"x-secret", "hunter2", "x-huge", strings.Repeat("x", 5000)),
		trailer: metadata.Pairs("x-end", "done", "x-secret", "hunter2"),
	}
}

// beside is what must arrive, as REST writes it: header and trailer.
var (
	besideHeader  = http.Header{"X-Total": {"1", "2"}, "X-Bytes-Bin": {"AP8BAg=="}, "Set-Cookie": {"a=b; HttpOnly"}}
	besideTrailer = http.Header{"X-End": {"done"}}
)

// holds says which of the names that matter an answer has, with what.
func holds(h http.Header) http.Header {
	out := http.Header{}
	for _, name := range append(told.GetResponse(), "X-Secret", "X-Sluice-Header", "Grpc-Metadata-X-Total", "Trailer") {
		if v := h.Values(name); len(v) > 0 {
			out[http.CanonicalHeaderKey(name)] = v
		}
	}
	return out
}

func sameHeaders(a, b http.Header) bool { return maps.EqualFunc(a, b, slices.Equal) }

func together(all ...http.Header) http.Header {
	out := http.Header{}
	for _, h := range all {
		maps.Copy(out, h)
	}
	return out
}

// overGRPCHeader is metadata as REST would write it.
func overGRPCHeader(md metadata.MD) http.Header {
	out := http.Header{}
	for k, v := range md {
		if k == "x-bytes-bin" && len(v) == 1 && v[0] == "\x00\xff\x01\x02" {
			v = []string{"AP8BAg=="}
		}
		out[http.CanonicalHeaderKey(k)] = v
	}
	return holds(out)
}

// TestResponseMetadata: what a rule names of a service's metadata reaches callers over
// both edges, of calls that succeed and that fail, whole, and nothing else does.
func TestResponseMetadata(t *testing.T) {
	srv := newTelling()
	everyPlace(t, srv, func(c *configv1.Config) {
		for _, m := range []string{"Echo", "Down", "Up", "Download"} {
			override(c, m, &configv1.MethodOverride{Metadata: told})
		}
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		all := together(besideHeader, besideTrailer)
		for name, tc := range map[string]struct {
			x    exchange
			code int
			want http.Header
		}{
			"unary":                 {exchange{method: "GET", path: "/test/v1/echo/a"}, 200, all},
			"unary, fails":          {exchange{method: "GET", path: "/test/v1/echo/a?fail_code=5"}, 404, all},
			"client's stream":       {exchange{method: "POST", path: "/test/v1/up", body: `{"id":"a"}`}, 200, all},
			"stream":                {exchange{method: "GET", path: "/test/v1/down?count=2"}, 200, besideHeader},
			"stream, fails at once": {exchange{method: "GET", path: "/test/v1/down?fail_code=5"}, 404, all},
			"bytes":                 {exchange{method: "GET", path: "/test/v1/download?count=2"}, 200, besideHeader},
			"bytes, fail at once":   {exchange{method: "GET", path: "/test/v1/download?fail_code=5"}, 404, all},
		} {
			res, body := do(t, g, g.Token(t, "ada", ""), tc.x)
			if got := holds(res.Header); res.StatusCode != tc.code || !sameHeaders(got, tc.want) {
				t.Errorf("REST, %s: %d %v, want %v: %s", name, res.StatusCode, got, tc.want, body)
			}
		}
		c, as := testv1.NewTestServiceClient(g.Conn), g.As(t, "ada", "")
		for _, code := range []int32{0, 5} {
			var header, trailer metadata.MD
			_, err := c.Echo(as, &testv1.EchoRequest{FailCode: code}, grpc.Header(&header), grpc.Trailer(&trailer))
			if status.Code(err) != codes.Code(code) || !sameHeaders(overGRPCHeader(header), besideHeader) || !sameHeaders(overGRPCHeader(trailer), besideTrailer) {
				t.Errorf("gRPC, unary: %v, %v, %v", header, trailer, err)
			}
			st, err := c.Down(as, &testv1.DownRequest{Count: 1, FailCode: code})
			if err != nil {
				t.Fatal(err)
			}
			header, _ = st.Header()
			for err == nil {
				_, err = st.Recv()
			}
			if !sameHeaders(overGRPCHeader(header), besideHeader) || !sameHeaders(overGRPCHeader(st.Trailer()), besideTrailer) {
				t.Errorf("gRPC, stream: %v, %v, %v", header, st.Trailer(), err)
			}
		}
		if log := strings.Join(g.Log.Lines(), "\n"); !strings.Contains(log, "x-huge") || strings.Contains(log, "hunter2") {
			t.Error("what cannot be passed on is not in the log, by its name alone")
		}
	})
	without := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(srv)))
	if res, _ := do(t, without, without.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/a"}); len(holds(res.Header)) > 0 {
		t.Errorf("without a rule: %v", res.Header)
	}
}

// TestResponseMetadataEndsNoLine: what a service in this process writes into a value
// does not become another header; nor is a part of a header passed on.
func TestResponseMetadataEndsNoLine(t *testing.T) {
	srv := &telling{header: metadata.MD{"x-total": {"1"}, "x-bad": {"fine", "a\r\nX-Admin: 1"}}}
	g := gatewaytest.Start(t, func(c *configv1.Config) { override(c, "Echo", &configv1.MethodOverride{Metadata: told}) }, gateway.WithServices(gatewaytest.TestService(srv)))
	res, _ := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/a"})
	var header metadata.MD
	if _, err := testv1.NewTestServiceClient(g.Conn).Echo(g.As(t, "ada", ""), &testv1.EchoRequest{}, grpc.Header(&header)); err != nil {
		t.Error(err)
	}
	for edge, h := range map[string]http.Header{"REST": res.Header, "gRPC": overGRPCHeader(header)} {
		if len(h["X-Bad"]) > 0 || len(h["X-Admin"]) > 0 || h.Get("X-Total") != "1" {
			t.Errorf("%s: %v", edge, h)
		}
	}
}

// TestMetadataOfCachedCalls: what a service says beside its answer is cached with it,
// and what it gets of a caller is in the key.
func TestMetadataOfCachedCalls(t *testing.T) {
	srv := &telling{header: metadata.Pairs("x-total", "1"), trailer: metadata.Pairs("x-end", "done")}
	everyPlace(t, srv, func(c *configv1.Config) {
		override(c, "Echo", &configv1.MethodOverride{
			Metadata: &policyv1.Metadata{Request: []string{"X-Lang"}, Response: []string{"x-total", "x-end"}},
			Cache:    &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PUBLIC, Ttl: durationpb.New(time.Minute), NegativeTtl: durationpb.New(time.Minute)},
		})
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		srv.calls.Store(0)
		for _, path := range []string{"/test/v1/echo/a", "/test/v1/echo/a?fail_code=5"} {
			for i, lang := range []string{"en", "en", "de", "de", ""} {
				h := http.Header{"X-Lang": {lang}}
				if lang == "" {
					h = nil
				}
				res, body := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: path, header: h})
				if res.Header.Get("X-Total") != "1" || res.Header.Get("X-End") != "done" || strings.Contains(path, "fail") != (res.StatusCode == 404) ||
					res.StatusCode == 200 && (lang != "") != strings.Contains(body, `"x-lang":"`+lang+`"`) {
					t.Errorf("%s, %d: %d %v %s", path, i, res.StatusCode, res.Header, body)
				}
				if res.StatusCode == 200 && (!slices.Contains(res.Header["Vary"], "X-Lang") || !strings.HasPrefix(res.Header.Get("Cache-Control"), "private")) {
					t.Errorf("HTTP caches would mix callers up: %v", res.Header)
				}
			}
		}
		if n := srv.calls.Load(); n != 6 {
			t.Errorf("%d calls of the service, not one for each value of X-Lang", n)
		}
		if res, _ := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/a?fail_code=9"}); res.StatusCode != 400 || res.Header.Get("X-Total") != "1" || res.Header.Get("X-End") != "done" {
			t.Errorf("a failure that is not cached: %d %v", res.StatusCode, res.Header)
		}
		srv.calls.Store(6)
		var header, trailer metadata.MD
		_, err := testv1.NewTestServiceClient(g.Conn).Echo(metadata.AppendToOutgoingContext(g.As(t, "ada", ""), "x-lang", "en"), &testv1.EchoRequest{Id: "a"}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil || srv.calls.Load() != 6 || len(header["x-total"]) != 1 || len(trailer["x-end"]) != 1 {
			t.Errorf("over gRPC: %v, %d calls, %v, %v", err, srv.calls.Load(), header, trailer)
		}
	})
}

// TestRequestMetadata: of a caller's headers the service gets what the rule names, as it
// was sent, and nothing else; what cannot be sent on is refused by name.
func TestRequestMetadata(t *testing.T) {
	everyPlace(t, nil, func(c *configv1.Config) {
		override(c, "Echo", &configv1.MethodOverride{Metadata: &policyv1.Metadata{Request: []string{"X-Lang", "x-blob-bin"}}})
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		res, body := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/a", header: http.Header{
			"X-Lang": {"en", "de"}, "X-Blob-Bin": {"aGk", "aG8="}, "X-Other": {"1"}, "X-Sluice-Assertion": {"forged"}, "X-User-Id": {"root"}}})
		if res.StatusCode != 200 || !strings.Contains(body, `"x-lang":"en,de"`) || !strings.Contains(body, `"x-blob-bin":"hi,ho"`) || strings.Contains(body, "x-other") || strings.Contains(body, "forged") || strings.Contains(body, "root") {
			t.Errorf("REST: %d %s", res.StatusCode, body)
		}
		as := metadata.AppendToOutgoingContext(g.As(t, "ada", ""), "x-lang", "en", "x-lang", "de", "x-blob-bin", "hi", "x-other", "1", "x-sluice-assertion", "forged")
		out, err := testv1.NewTestServiceClient(g.Conn).Echo(as, &testv1.EchoRequest{})
		if md := out.GetMetadata(); err != nil || md["x-lang"] != "en,de" || md["x-blob-bin"] != "hi" || md["x-other"] != "" || strings.Contains(md["x-sluice-assertion"], "forged") {
			t.Errorf("gRPC: %v, %v", md, err)
		}
		for name, h := range map[string]http.Header{
			"X-Lang":     {"X-Lang": {"grüße"}},
			"X-Blob-Bin": {"X-Blob-Bin": {"no base64!"}},
		} {
			res, body := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/a", header: h})
			if res.StatusCode != 400 || !strings.Contains(body, `"field":"`+name+`"`) {
				t.Errorf("%s: %d %s", name, res.StatusCode, body)
			}
		}
		res, body = do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/a", header: http.Header{"X-Lang": {strings.Repeat("x", 9000)}}})
		if res.StatusCode != 400 || !strings.Contains(body, "8192 bytes") {
			t.Errorf("too large: %d %s", res.StatusCode, body)
		}
	})
}

// TestUnauthenticatedByService: only where the rule says so does a service's
// UNAUTHENTICATED reach the caller; it never counts against the service.
func TestUnauthenticatedByService(t *testing.T) {
	everyPlace(t, nil, func(c *configv1.Config) {
		override(c, "Echo", &configv1.MethodOverride{UnauthenticatedByService: true})
		override(c, "Download", &configv1.MethodOverride{UnauthenticatedByService: true})
		c.Resilience = &configv1.Resilience{Breaker: &configv1.Breaker{MinRequests: 3, OpenFor: seconds(60)}}
		if u := c.GetUpstreams()[testService]; u != nil {
			u.Resilience = c.Resilience
		}
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		token, c := g.Token(t, "ada", ""), testv1.NewTestServiceClient(g.Conn)
		for range 10 {
			for _, x := range []exchange{{method: "POST", path: "/test/v1/echo/a", body: `{"failCode":16,"failMessage":"wrong password"}`}, {method: "GET", path: "/test/v1/download?fail_code=16"}} {
				res, body := do(t, g, token, x)
				if res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") == "" || !strings.Contains(body, `"UNAUTHENTICATED"`) || x.method == "POST" && !strings.Contains(body, "wrong password") {
					t.Errorf("REST: %d %v %s", res.StatusCode, res.Header, body)
				}
			}
			_, err := c.Echo(g.As(t, "ada", ""), &testv1.EchoRequest{FailCode: 16, FailMessage: "wrong password"})
			wantCode(t, err, codes.Unauthenticated, "wrong password")
		}
		if res, body := do(t, g, token, exchange{method: "GET", path: "/test/v1/echo/a"}); res.StatusCode != 200 {
			t.Errorf("the breaker: %d %s", res.StatusCode, body)
		}
		if res, body := do(t, g, token, exchange{method: "GET", path: "/test/v1/down?fail_code=16"}); res.StatusCode != 500 || strings.Contains(body, "UNAUTHENTICATED") {
			t.Errorf("without the rule: %d %s", res.StatusCode, body)
		}
	})
}

// TestMetadataThatMayNotPass stops the start, and says what is wrong with each name.
func TestMetadataThatMayNotPass(t *testing.T) {
	refused := func(m *configv1.MethodOverride, edit func(*configv1.Config)) error {
		cfg := gatewaytest.Config(t)
		if edit != nil {
			edit(cfg)
		}
		override(cfg, "Echo", m)
		return gateway.Check(cfg, gateway.WithServices(gatewaytest.TestService(nil)))
	}
	request := []string{"Authorization", "authorization", "Cookie", "X-API-Key", "X-Sluice-Assertion", "x-sluice-anything", "X-User-ID", "x_user_id", "X-Forwarded-For", "x-forwarded-user",
		"Forwarded", "grpc-timeout", "grpc-encoding", "te", "content-type", "host", ":authority", ":path", "connection", "x-request-id", "traceparent", "user-agent", "X-Remote-User",
		"x-auth-request-email", "x-real-ip", "X-Tenant-ID", "x a", "x-a\r\nb", ""}
	response := []string{"grpc-status", "grpc-status-details-bin", "connection", "transfer-encoding", "content-type", "Content-Length", "content-disposition", "content-security-policy",
		"x-request-id", "RateLimit", "ratelimit-policy", "Access-Control-Allow-Origin", "WWW-Authenticate", "cache-control", "etag", "vary", "location", "retry-after", "age",
		"x-sluice-header", "Strict-Transport-Security", "trailer", ":status", "x a", ""}
	for list, names := range map[string][]string{"request": request, "response": response} {
		for _, name := range names {
			m := &policyv1.Metadata{Request: []string{name}}
			if list == "response" {
				m = &policyv1.Metadata{Response: []string{name}}
			}
			err := refused(&configv1.MethodOverride{Metadata: m}, nil)
			if err == nil || !strings.Contains(err.Error(), "sluice.test.v1.TestService/Echo: metadata."+list) {
				t.Errorf("%s %q: %v", list, name, err)
			}
		}
	}
	cached := &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: durationpb.New(time.Minute)}
	for name, tc := range map[string]struct {
		m    *configv1.MethodOverride
		edit func(*configv1.Config)
		want string
	}{
		"twice":                        {&configv1.MethodOverride{Metadata: &policyv1.Metadata{Request: []string{"x-a", "X-A"}}}, nil, "twice"},
		"too many":                     {&configv1.MethodOverride{Metadata: &policyv1.Metadata{Request: make([]string, 33)}}, nil, "33 headers"},
		"a cookie that is cached":      {&configv1.MethodOverride{Metadata: &policyv1.Metadata{Response: []string{"set-cookie"}}, Cache: cached}, nil, "cached"},
		"set by a rule":                {&configv1.MethodOverride{Metadata: &policyv1.Metadata{Request: []string{"x-env"}}, RequestHeaders: &configv1.HeaderRules{Set: map[string]string{"X-Env": "prod"}}}, nil, "both name"},
		"set by a rule of answers":     {&configv1.MethodOverride{Metadata: &policyv1.Metadata{Response: []string{"x-env"}}, ResponseHeaders: &configv1.HeaderRules{Add: map[string]string{"X-Env": "prod"}}}, nil, "both name"},
		"the configuration's API keys": {&configv1.MethodOverride{Metadata: &policyv1.Metadata{Request: []string{"x-shop-key"}}}, func(c *configv1.Config) { c.Auth.ApiKeys = &configv1.ApiKeys{Header: "X-Shop-Key"} }, "assertion"},
	} {
		if err := refused(tc.m, tc.edit); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := refused(&configv1.MethodOverride{Metadata: &policyv1.Metadata{Request: []string{"Accept-Language", "x-lang", "x-blob-bin", "baggage"}, Response: []string{"set-cookie", "X-Total-Count", "deprecation", "link"}}}, nil); err != nil {
		t.Error(err)
	}
}

// TestPlainRoutesPassUnauthorized: a plain HTTP service's 401 is its own, with its
// challenge, and opens no breaker.
func TestPlainRoutesPassUnauthorized(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="theirs"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
	}))
	t.Cleanup(srv.Close)
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"up": {Target: srv.Listener.Addr().String(), Resilience: &configv1.Resilience{Breaker: &configv1.Breaker{MinRequests: 3, OpenFor: seconds(60)}}}}
		for _, name := range []string{"plain", "kept"} {
			r := &configv1.HttpRoute{Name: name, Upstream: "up", Require: &policyv1.Require{Public: true}, Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/" + name}}}
			if name == "kept" {
				r.Cache = &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PUBLIC, Ttl: seconds(60)}
			}
			c.HttpRoutes = append(c.HttpRoutes, r)
		}
	}, gateway.WithServices(gatewaytest.TestService(nil)))
	for range 10 {
		for _, path := range []string{"/plain", "/kept"} {
			res, body := do(t, g, "", exchange{method: "GET", path: path, anonymous: true})
			if res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") != `Basic realm="theirs"` || body != "who are you?\n" {
				t.Errorf("%s: %d %v %q", path, res.StatusCode, res.Header, body)
			}
		}
	}
}
