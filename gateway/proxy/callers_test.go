package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// hurl sends text on a connection of its own, waits for an answer where one is due, or
// else so long, and closes it.
func hurl(text string, answer bool, linger time.Duration) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if !answer {
			time.Sleep(linger)
			return
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
}

// posts sends so much in one go; the service may end that.
func posts(n int) func(*testing.T, string) {
	return func(_ *testing.T, url string) {
		res, err := http.Post(url+"/", "text/plain", strings.NewReader(strings.Repeat("x", n))) //nolint:noctx // In a test.
		if err == nil {
			_ = res.Body.Close()
		}
	}
}

func asks(t *testing.T, url string) { get(t, url+"/", nil) }

func leaves(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultClient.Do(r); err == nil {
		_ = res.Body.Close()
	}
}

// asksOverHTTP2 asks with any method: HTTP/2 brings what HTTP/1 cannot hold.
func asksOverHTTP2(method string) func(*testing.T, string) {
	return func(t *testing.T, url string) {
		c := rawhttp2.Dial(t, strings.TrimPrefix(url, "http://"), nil)
		if err := c.Headers(1, true, ":method", method, ":scheme", "http", ":path", "/", ":authority", "x"); err != nil {
			t.Fatal(err)
		}
		if fields, _ := c.Answer(1, 30*time.Second); fields == nil {
			t.Error("no answer")
		}
		c.Close()
	}
}

// TestCallersChooseNothing is upstream's, for plain HTTP: of each way in which a request
// can end, what breakers, outlier ejection and the bound on requests make of it.
func TestCallersChooseNothing(t *testing.T) {
	type counts struct{ requests, failures, ejected bool }
	var nothing, success, failure = counts{}, counts{requests: true}, counts{true, true, true}
	answers := func(code int) func(*testing.T) string {
		return func(t *testing.T) string {
			return backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		}
	}
	closes := func(t *testing.T) string { return raw(t, "") }
	hangs := func(t *testing.T) string {
		over := make(chan struct{})
		addr := backend(t, func(_ http.ResponseWriter, r *http.Request) {
			select { // A server that does not read a body does not see its caller go.
			case <-r.Context().Done():
			case <-over:
			}
		})
		t.Cleanup(func() { close(over) })
		return addr
	}
	nobody := func(t *testing.T) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		return l.Addr().String()
	}
	reads := func(t *testing.T) string {
		return backend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	}
	const handshake = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	const part = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsome of it"
	type test struct {
		backend  func(*testing.T) string
		ask      func(*testing.T, string)
		want     counts
		deadline time.Duration
		fault    *proxy.Fault
	}
	tests := map[string]test{
		"the caller leaves":            {backend: hangs, ask: leaves, want: nothing},
		"the route's deadline":         {backend: hangs, ask: asks, want: failure, deadline: 30 * time.Millisecond},
		"a body":                       {backend: reads, ask: posts(1 << 20), want: success},
		"a body that breaks off":       {backend: reads, ask: hurl(part, false, 0), want: nothing},
		"a body that is no chunk":      {backend: reads, ask: hurl("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", true, 0), want: nothing},
		"a body that stops":            {backend: reads, ask: hurl(part, false, 1500*time.Millisecond), want: nothing, deadline: 500 * time.Millisecond},
		"a body that nobody reads":     {backend: hangs, ask: posts(16 << 20), want: failure, deadline: 100 * time.Millisecond},
		"a body that is cut off there": {backend: closes, ask: posts(16 << 20), want: nothing},
		"a body to nobody":             {backend: nobody, ask: posts(16 << 20), want: failure},
		"no answer":                    {backend: closes, ask: asks, want: failure},
		"no answer to a handshake":     {backend: closes, ask: hurl(handshake, true, 0), want: nothing},
		"a handshake to nobody":        {backend: nobody, ask: hurl(handshake, true, 0), want: failure},
		"a handshake that is refused":  {backend: answers(426), ask: hurl(handshake, true, 0), want: success},
		"a header that is too large for us": {backend: func(t *testing.T) string {
			return raw(t, "HTTP/1.1 200 OK\r\nX-Big: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
		}, ask: asks, want: nothing},
		"a method that is no token":        {backend: reads, ask: asksOverHTTP2("G T"), want: nothing},
		"a trailer whose name is no token": {backend: reads, ask: hurl("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: a b\r\n\r\n0\r\n\r\n", true, 0), want: success},
		"no HTTP":                          {backend: func(t *testing.T) string { return raw(t, "SSH-2.0-OpenSSH\r\n\r\n") }, ask: asks, want: failure},
		"a fault on purpose":               {backend: reads, ask: asks, want: nothing, fault: &proxy.Fault{Abort: codes.Unavailable, Percent: 100}},
		"a delay on purpose":               {backend: hangs, ask: asks, want: nothing, deadline: 40 * time.Millisecond, fault: &proxy.Fault{Delay: 10 * time.Millisecond, Percent: 100}},
	}
	for code, want := range map[int]counts{200: success, 204: success, 304: success, 400: success, 401: success, 404: success, 408: success, 409: success, 413: success,
		429: success, 431: success, 500: failure, 501: success, 502: failure, 503: failure, 504: failure, 505: success} {
		tests[fmt.Sprint("the service answers ", code)] = test{backend: answers(code), ask: asks, want: want}
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			known, err := resilience.NewService(resilience.Options{Breaker: resilience.BreakerOptions{MinRequests: 1000, Window: time.Hour}})
			if err != nil {
				t.Fatal(err)
			}
			u := to(tc.backend(t), tc.backend(t))
			up := u["up"]
			up.Target.Service = known
			up.Outlier = resilience.OutlierOptions{ConsecutiveFailures: 2, BaseEjection: time.Hour, MaxEjection: time.Hour}
			if tc.fault != nil {
				up.Faults = []proxy.Fault{*tc.fault}
			}
			u["up"] = up
			var svc *proxy.Service
			rule := once
			rule.Deadline = tc.deadline
			_, url := start(t, proxy.Options{Upstreams: u, Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: rule, WebSocket: true}},
				Open: func(name string, u proxy.Upstream) (*proxy.Service, error) {
					var err error
					svc, err = proxy.Open(name, u, proxy.Options{Signer: signer{}})
					return svc, err
				}})
			t.Cleanup(func() { _ = svc.Close() })
			for range 6 {
				tc.ask(t, url)
			}
			var got counts
			eventually(t, "no request is in flight", func() bool {
				got = counts{}
				inFlight := 0
				for _, s := range known.States() {
					got.requests = got.requests || s.Requests > 0
					got.failures = got.failures || s.Failures > 0
					inFlight += s.InFlight
				}
				for _, b := range svc.Places()[0].Backends {
					got.ejected = got.ejected || b.Ejections > 0
					inFlight += int(b.InFlight)
				}
				return inFlight == 0
			})
			if got != tc.want {
				t.Errorf("%+v, not %+v", got, tc.want)
			}
		})
	}
}
