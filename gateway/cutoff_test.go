package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// answered is what a caller who knows only HTTP has of an answer.
type answered struct {
	code        int
	contentType string
	body        string
	// whole says that HTTP told it that this is all.
	whole bool
}

func (a answered) String() string {
	return fmt.Sprintf("%d %s %d bytes %.60q, whole: %v", a.code, a.contentType, len(a.body), a.body, a.whole)
}

// httpClients ask for a path in every version of HTTP.
var httpClients = map[string]func(t *testing.T, g *gatewaytest.Gateway, path string) answered{
	"HTTP/1.0": func(t *testing.T, g *gatewaytest.Gateway, path string) answered {
		t.Helper()
		return askRaw(t, g, "GET "+path+" HTTP/1.0\r\nHost: x\r\nAccept-Encoding: gzip, zstd\r\n\r\n")
	},
	"HTTP/1.1": func(t *testing.T, g *gatewaytest.Gateway, path string) answered {
		t.Helper()
		return askRaw(t, g, "GET "+path+" HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, zstd\r\n\r\n")
	},
	"HTTP/2": func(t *testing.T, g *gatewaytest.Gateway, path string) answered {
		t.Helper()
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: protocols, DisableCompression: true}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "gzip, zstd")
		res, err := transport.RoundTrip(r)
		return readAnswer(res, err)
	},
}

func askRaw(t *testing.T, g *gatewaytest.Gateway, request string) answered {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.Addrs().HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return readAnswer(http.ReadResponse(bufio.NewReader(c), nil)) //nolint:bodyclose // readAnswer does.
}

func readAnswer(res *http.Response, err error) answered {
	if err != nil {
		return answered{}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answered{res.StatusCode, res.Header.Get("Content-Type"), string(b), err == nil}
}

// TestHttpBodyStreams: a stream of google.api.HttpBody arrives over HTTP as its bytes
// and nothing else, and looks complete only where the service ended it well.
func TestHttpBodyStreams(t *testing.T) {
	everyPlace(t, nil, func(c *configv1.Config) {
		override(c, "Download", &configv1.MethodOverride{StreamIdle: seconds(0.3), StreamMaxAge: seconds(0.5)})
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		for name, tc := range map[string]struct {
			query string
			want  answered
		}{
			"whole":               {"count=3&padding=4", answered{200, "text/plain", "dddddddddddd", true}},
			"large":               {"count=2&padding=70000", answered{200, "text/plain", strings.Repeat("d", 140000), true}},
			"empty chunks":        {"count=3", answered{200, "text/plain", "", true}},
			"no message":          {"", answered{200, "application/octet-stream", "", true}},
			"fails half way":      {"count=2&padding=4&fail_code=13", answered{200, "text/plain", "dddddddd", false}},
			"fails without bytes": {"count=1&fail_code=13", answered{200, "text/plain", "", false}},
			"panics half way":     {"count=2&padding=4&panic=true", answered{200, "text/plain", "dddddddd", false}},
			"falls silent":        {"count=2&padding=4&gap=60s", answered{200, "text/plain", "dddd", false}},
			"too old":             {"count=100&padding=0&gap=0.2s", answered{200, "text/plain", "", false}},
		} {
			t.Run(name, func(t *testing.T) {
				for version, ask := range httpClients {
					t.Run(version, func(t *testing.T) {
						t.Parallel()
						if got := ask(t, g, "/test/v1/download?"+tc.query); got != tc.want {
							t.Errorf("%v, not %v", got, tc.want)
						}
					})
				}
			})
		}
		for version, ask := range httpClients { // Nothing is cut before anything was sent.
			got := ask(t, g, "/test/v1/download?fail_code=5")
			if !got.whole || got.code != http.StatusNotFound || got.contentType != "application/problem+json" || strings.Contains(got.body, "\n") {
				t.Errorf("%s: %v", version, got)
			}
		}
	})
}

// TestHttpBodyStreamsAtDrain: a gateway that goes away cuts them.
func TestHttpBodyStreamsAtDrain(t *testing.T) {
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Shutdown.Grace, c.Shutdown.NotReadyFor = seconds(1), seconds(0.01)
	}, gateway.WithServices(gatewaytest.TestService(nil)))
	got := make(chan string, len(httpClients))
	for version, ask := range httpClients {
		go func() {
			a := ask(t, g, "/test/v1/download?count=2&padding=4&gap=60s")
			got <- fmt.Sprint(version, " ", a.body, " ", a.whole)
		}()
	}
	eventually(t, "all streams", func() bool {
		return strings.Contains(metrics(t, g), fmt.Sprintf(`sluice_requests_in_flight{edge="rest"} %d`, len(httpClients)))
	})
	if err := g.Stop(); err != nil {
		t.Error(err)
	}
	for range httpClients {
		if a := <-got; !strings.HasSuffix(a, " dddd false") {
			t.Error(a)
		}
	}
}

// half is a plain HTTP service whose answers break off half way.
func half(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("length") != "" {
		w.Header().Set("Content-Length", "1000")
	}
	w.Header().Set("Content-Type", "application/json")
	size, _ := strconv.Atoi(r.URL.Query().Get("size"))
	_, _ = io.WriteString(w, `{"a":"`+strings.Repeat("d", size))
	_ = http.NewResponseController(w).Flush()
	if r.URL.Query().Get("silent") != "" {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

// TestPlainAnswersThatBreakOff: what a plain HTTP service does not finish looks finished
// to nobody, whatever a route does with answers.
func TestPlainAnswersThatBreakOff(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(half))
	srv.Config.ErrorLog = nil
	srv.Start()
	t.Cleanup(srv.Close)
	route := func(name string) *configv1.HttpRoute {
		return &configv1.HttpRoute{Name: name, Upstream: "up", Require: &policyv1.Require{Public: true}, Deadline: seconds(20), StreamIdle: seconds(0.3),
			Retry: &policyv1.Retry{MaxAttempts: 1}, Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/" + name}}}
	}
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"up": {Target: srv.Listener.Addr().String(), Resilience: &configv1.Resilience{Breaker: &configv1.Breaker{Off: true}}}}
		plain, kept, json := route("plain"), route("kept"), route("json")
		kept.Cache = &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PUBLIC, Ttl: durationpb.New(time.Minute)}
		json.ResponseJson = &configv1.JsonRules{Remove: []string{"b"}}
		c.HttpRoutes = []*configv1.HttpRoute{plain, kept, json}
	}, gateway.WithServices(gatewaytest.TestService(nil)))
	for _, path := range []string{"/plain", "/kept", "/json"} {
		for _, query := range []string{"?size=10", "?size=10&length=1", "?size=100000&silent=1", "?size=3000000"} {
			for version, ask := range httpClients {
				t.Run(path+query+" "+version, func(t *testing.T) {
					t.Parallel()
					for range 2 { // Nor is it cached.
						if got := ask(t, g, path+query); got.whole && got.code < 500 {
							t.Error(got)
						}
					}
				})
			}
		}
	}
}
