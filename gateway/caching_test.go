package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// counted answers who asked, and may be held up.
type counted struct {
	gatewaytest.Server
	calls atomic.Int32
	gate  chan struct{} // nil lets everyone through
}

func (s *counted) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	n := s.calls.Add(1)
	if s.gate != nil {
		<-s.gate
	}
	out, err := s.Server.Echo(ctx, r)
	if out != nil {
		out.Metadata = nil
		out.Index = n
	}
	return out, err
}

func (s *counted) GetNamed(_ context.Context, r *testv1.GetNamedRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Name: r.GetName(), Index: s.calls.Add(1), Padding: strings.Repeat("x", 4000)}, nil
}

// keeping starts a gateway whose test service keeps Echo for each principal and
// GetNamed for everyone.
func keeping(t *testing.T, s *counted) *gatewaytest.Gateway {
	t.Helper()
	minute := durationpb.New(time.Minute)
	return gatewaytest.Start(t, func(c *configv1.Config) {
		c.Methods = map[string]*configv1.MethodOverride{
			"sluice.test.v1.TestService/Echo": {Deadline: minute, Cache: &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: minute}},
			"sluice.test.v1.TestService/GetNamed": {Cache: &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PUBLIC, Ttl: minute,
				StaleWhileRevalidate: durationpb.New(10 * time.Second)}},
		}
	}, gateway.WithServices(gatewaytest.TestService(s)))
}

// TestThousandMisses: a thousand callers who miss at once, half over each edge, are one
// call of the service.
func TestThousandMisses(t *testing.T) {
	s := &counted{gate: make(chan struct{})}
	g := keeping(t, s)
	token := g.Token(t, "ada", "")
	const each = 500
	var wrong atomic.Int32
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: each}}
	defer client.CloseIdleConnections()
	for range each {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+"/test/v1/echo/x", nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(b), `"id":"x"`) {
				wrong.Add(1)
			}
		})
	}
	var conns []*grpc.ClientConn
	for range 10 {
		conns = append(conns, gatewaytest.Dial(t, g.Addrs().GRPC))
	}
	as := g.As(t, "ada", "")
	for i := range each {
		wg.Go(func() {
			out, err := testv1.NewTestServiceClient(conns[i%len(conns)]).Echo(as, &testv1.EchoRequest{Id: "x"})
			if err != nil || out.GetId() != "x" || out.GetSubject() != "ada" {
				wrong.Add(1)
			}
		})
	}
	inFlight := func() (n int) {
		for _, line := range strings.Split(scrape(t, g), "\n") {
			var edge int
			if _, err := fmt.Sscanf(line[strings.LastIndex(line, " ")+1:], "%d", &edge); err == nil && strings.HasPrefix(line, "sluice_requests_in_flight{") {
				n += edge
			}
		}
		return n
	}
	eventually(t, "all wait", func() bool { return inFlight() >= 2*each })
	close(s.gate)
	wg.Wait()
	if n := s.calls.Load(); n != 1 || wrong.Load() != 0 {
		t.Errorf("%d calls, %d wrong answers", n, wrong.Load())
	}
}

func scrape(t *testing.T, g *gatewaytest.Gateway) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.AdminURL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPrincipalsAreNotMixed: nobody is given what was kept for another, whatever the
// request says of itself.
func TestPrincipalsAreNotMixed(t *testing.T) {
	s := &counted{}
	g := keeping(t, s)
	callers := []struct{ subject, scopes string }{{"ada", ""}, {"ada", "users.read"}, {"ada", "users.read orders.read"}, {"ad", ""}, {"grace", ""}, {"ada2", ""}, {"ada", "admin"}}
	spoofed := []http.Header{nil, h("X-User-Id", "ada"), h("Grpc-Metadata-X-Sluice-Assertion", "x"), h("X-Sluice-Assertion", "x"), h("Cookie", "sub=ada"), h("X-Forwarded-User", "ada")}
	for i, c := range callers {
		token := g.Token(t, c.subject, c.scopes)
		want := ""
		for j, header := range spoofed {
			res, body := do(t, g, token, exchange{method: "GET", path: "/test/v1/echo/x", header: header})
			if want == "" {
				want = body
			}
			if res.StatusCode != http.StatusOK || body != want || !strings.Contains(body, fmt.Sprintf(`"subject":%q`, c.subject)) || (j > 0) != (res.Header.Get("Age") != "") {
				t.Errorf("%+v %v: %d %s %v", c, header, res.StatusCode, body, res.Header)
			}
		}
		out, err := testv1.NewTestServiceClient(g.Conn).Echo(g.As(t, c.subject, c.scopes), &testv1.EchoRequest{Id: "x"})
		if err != nil || out.GetSubject() != c.subject || int(out.GetIndex()) != i+1 {
			t.Errorf("%+v over gRPC: %v %v", c, out, err)
		}
	}
	if n := int(s.calls.Load()); n != len(callers) {
		t.Errorf("%d calls for %d principals", n, len(callers))
	}
	if res, body := do(t, g, "", exchange{method: "GET", path: "/test/v1/echo/x", anonymous: true}); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a credential: %d %s", res.StatusCode, body)
	}
}

// TestConditional: what kept answers say of themselves, and what is answered to those
// who have them.
func TestConditional(t *testing.T) {
	s := &counted{}
	g := keeping(t, s)
	token := g.Token(t, "ada", "")
	named, echo := "/test/v1/shelves/a/books/n", "/test/v1/echo/x"
	first, body := do(t, g, token, exchange{method: "GET", path: named, anonymous: true})
	if first.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", first.StatusCode, body)
	}
	tag := first.Header.Get("Etag")
	own, _ := do(t, g, token, exchange{method: "GET", path: echo})
	ownTag := own.Header.Get("Etag")
	part, partBody := do(t, g, token, exchange{method: "GET", path: named + "?fields=name", anonymous: true})
	partTag := part.Header.Get("Etag")
	if tag == "" || ownTag == "" || partTag == "" || tag == ownTag || tag == partTag || partBody != `{"name":"shelves/a/books/n"}` || first.Header.Get("Age") != "" {
		t.Fatalf("%v, %v, %v %s", first.Header, own.Header, part.Header, partBody)
	}
	const public, private = "public, max-age=60, stale-while-revalidate=10", "private, max-age=60"
	for name, test := range map[string]struct {
		exchange
		length, control, tag, vary string
	}{
		"kept":                {exchange{method: "GET", path: named, anonymous: true, status: 200}, fmt.Sprint(len(body)), public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"HEAD":                {exchange{method: "HEAD", path: named, anonymous: true, status: 200}, fmt.Sprint(len(body)), public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"has it":              {exchange{method: "GET", path: named, anonymous: true, header: h("If-None-Match", tag), status: 304}, "", public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"has it, HEAD":        {exchange{method: "HEAD", path: named, anonymous: true, header: h("If-None-Match", tag), status: 304}, "", public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"has any":             {exchange{method: "GET", path: named, anonymous: true, header: h("If-None-Match", "*"), status: 304}, "", public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"has it and others":   {exchange{method: "GET", path: named, anonymous: true, header: h("If-None-Match", `"x", `+strings.TrimPrefix(tag, "W/")), status: 304}, "", public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"has another":         {exchange{method: "GET", path: named, anonymous: true, header: h("If-None-Match", ownTag), status: 200}, fmt.Sprint(len(body)), public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"has a part":          {exchange{method: "GET", path: named, anonymous: true, header: h("If-None-Match", partTag), status: 200}, fmt.Sprint(len(body)), public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"has all, not a part": {exchange{method: "GET", path: named + "?fields=name", anonymous: true, header: h("If-None-Match", tag), status: 200}, fmt.Sprint(len(partBody)), public, partTag, "X-Goog-FieldMask, Accept-Encoding"},
		"has the part":        {exchange{method: "GET", path: named, anonymous: true, header: h("If-None-Match", partTag, "X-Goog-FieldMask", "name"), status: 304}, "", public, partTag, "X-Goog-FieldMask, Accept-Encoding"},
		"no-cache":            {exchange{method: "GET", path: named, anonymous: true, header: h("Cache-Control", "no-cache"), status: 200}, fmt.Sprint(len(body)), public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"known, of everyone":  {exchange{method: "GET", path: named, status: 200}, fmt.Sprint(len(body)), public, tag, "X-Goog-FieldMask, Accept-Encoding"},
		"its own":             {exchange{method: "GET", path: echo, header: h("If-None-Match", ownTag), status: 304}, "", private, ownTag, "X-Goog-FieldMask, Accept-Encoding, Authorization"},
		"refused":             {exchange{method: "GET", path: echo, anonymous: true, header: h("If-None-Match", ownTag), status: 401}, "*", "no-store", "", ""},
	} {
		if test.header == nil {
			test.header = http.Header{}
		}
		test.header.Set("Accept-Encoding", "identity") // Else the client asks for gzip, and takes the length off.
		res, got := do(t, g, token, test.exchange)
		vary := strings.Join(res.Header.Values("Vary"), ", ")
		if res.StatusCode != test.status || test.length != "*" && res.Header.Get("Content-Length") != test.length || res.Header.Get("Cache-Control") != test.control || res.Header.Get("Etag") != test.tag || vary != test.vary {
			t.Errorf("%s: %d %v", name, res.StatusCode, res.Header)
		}
		if test.status == 304 && (got != "" || res.Header.Get("Content-Type") != "") {
			t.Errorf("%s: a body %q %v", name, got, res.Header)
		}
	}
	for _, coding := range []string{"gzip", "zstd", "gzip"} {
		res, got := do(t, g, token, exchange{method: "GET", path: named, anonymous: true, header: h("Accept-Encoding", coding)})
		if res.Header.Get("Content-Encoding") != coding || res.Header.Get("Etag") != tag || len(got) > len(body)/4 {
			t.Errorf("%s: %v, %d bytes", coding, res.Header, len(got))
		}
	}
	if n := s.calls.Load(); n != 2 {
		t.Errorf("%d calls", n)
	}
	if log := strings.Join(g.Log.Lines(), "\n"); !strings.Contains(scrape(t, g), `sluice_cache_requests_total{method="sluice.test.v1.TestService/GetNamed",result="hit"}`) {
		t.Errorf("no metric; %s", log)
	}
}

// TestWritesInvalidate: who changes a profile reads it changed, over both edges.
func TestWritesInvalidate(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...))
	token := g.Token(t, "ada", "profiles.write")
	path := "/v1/users/ada/profile"
	tags := map[string]bool{}
	for i := range 5 {
		want := fmt.Sprintf(`"bio":"bio %d"`, i)
		if res, body := do(t, g, token, exchange{method: "PATCH", path: path, body: "{" + want + "}"}); res.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		for j := range 3 {
			res, body := do(t, g, token, exchange{method: "GET", path: path})
			if res.StatusCode != http.StatusOK || !strings.Contains(body, want) || (j > 0) != (res.Header.Get("Age") != "") {
				t.Errorf("%d: %d %v %s", i, res.StatusCode, res.Header, body)
			}
			tags[res.Header.Get("Etag")] = true
		}
	}
	if len(tags) != 5 {
		t.Errorf("%d tags of 5 profiles", len(tags))
	}
}
