package gateway_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// TestUnchangedOverHTTP2: HTTP/2 brings what HTTP/1 cannot hold. It is refused, and the
// rest arrives as over HTTP/1.
func TestUnchangedOverHTTP2(t *testing.T) {
	u := startUnchanged(t, func(c *configv1.Config) {
		c.HttpRoutes = slices.Insert(c.HttpRoutes, 0, plainRoute("beta", &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/"},
			Headers: []*configv1.HeaderMatch{{Name: "X-Version", Value: "beta"}}}, &configv1.PathRewrite{Prefix: "/beta"}))
	})
	c := rawhttp2.Dial(t, strings.TrimPrefix(u.URL, "http://"), nil)
	stream := uint32(1)
	for _, tc := range []struct {
		path    string
		headers []string // the first of them may be :method
		want    string
	}{
		{"/p/Products('1')%2B?a=1;b=2&q=100%", nil, "/p/Products('1')%2B?a=1;b=2&q=100%"},
		{"/p?", nil, "/p?"}, {"/p?\xff&é", nil, "/p?\xff&é"}, {"/p", []string{"x-version", "beta"}, "/beta/p"},
		{"/p", []string{"cookie", "a=1", "cookie", "b=2"}, "/p"},
		// A request line would end in the middle.
		{"/p?x HTTP/1.1", nil, "400"}, {"/p q", nil, "400"}, {"/p/a HTTP/1.1", nil, "400"}, {"/p?a b", nil, "400"},
		// The service would read `beta`, and the route did not.
		{"/p", []string{"x-version", " beta"}, "400"}, {"/p", []string{"x-version", "beta\t"}, "400"}, {"/p", []string{"x-other", "a "}, "400"},
		{"/p", []string{"x-version", "beta", "x-version", "stable"}, "400"}, {"/p", []string{"x-version", "stable", "x-version", "stable"}, "400"},
		{"/p", []string{"user-agent", "a", "user-agent", "b"}, "400"},
		// So would a method with a space; it names no method of an RPC's path either.
		{"/p", []string{":method", "G T"}, "400"}, {"/p", []string{":method", "GET /x HTTP/1.1\r\nA: b\r\n\r\nGET"}, "400"}, {"/v1/users", []string{":method", "G T"}, "400"},
		{"/p", []string{":method", "G\xc3\x89T"}, "400"}, {"/p", []string{":method", "BREW"}, "/p"},
		// An RPC's path and query, too.
		{"/v1/users/a b", nil, "400"}, {"/v1/users?page_size=1 &x", nil, "400"},
	} {
		method, headers := "GET", tc.headers
		if len(headers) > 0 && headers[0] == ":method" {
			method, headers = headers[1], headers[2:]
		}
		fields := append([]string{":method", method, ":scheme", "http", ":path", tc.path, ":authority", "x"}, headers...)
		if err := c.Headers(stream, true, fields...); err != nil {
			t.Fatal(err)
		}
		answer, reset := c.Answer(stream, 30*time.Second)
		stream += 2
		got := answer[":status"]
		if reset != nil { // net/http's own refusal of what it cannot parse.
			got = "400"
		}
		select {
		case a := <-u.back.got:
			got = a.target
			if cookie := a.values("Cookie"); len(tc.headers) > 0 && tc.headers[0] == "cookie" && !slices.Equal(cookie, []string{"a=1; b=2"}) {
				t.Errorf("cookies arrived as %q", cookie)
			}
		default:
		}
		if got != tc.want {
			t.Errorf("%q %q: %q, want %q", tc.path, tc.headers, got, tc.want)
		}
	}
}

// TestRepeatedHeaderIsRefused: whoever chooses by a header must read what the service
// reads, so such a header has one line.
func TestRepeatedHeaderIsRefused(t *testing.T) {
	u := startUnchanged(t, func(c *configv1.Config) {
		up := c.HttpUpstreams["up"]
		up.Canaries = []*configv1.Canary{{Name: "next", Target: newRecorder(t).addr, Match: []*configv1.CanaryMatch{{Header: "X-Canary", Value: "1"}}}}
		up.Resilience = &configv1.Resilience{Faults: []*configv1.Fault{{Abort: "UNAVAILABLE", Percent: 100, Header: "X-Fault", Value: "1"}}}
		c.HttpRoutes = slices.Insert(c.HttpRoutes, 0, plainRoute("beta", &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/beta"},
			Headers: []*configv1.HeaderMatch{{Name: "x-version", Value: "beta"}}}, nil))
	})
	for headers, name := range map[string]string{
		"X-Version: beta\r\nX-Version: stable\r\n": "X-Version", "x-version: a\r\nX-VERSION: a\r\n": "X-Version",
		"X-Canary: 0\r\nX-Canary: 1\r\n": "X-Canary", "X-Fault: 0\r\nX-Fault:\r\n": "X-Fault", "User-Agent: a\r\nUser-Agent:\r\n": "User-Agent",
	} {
		for _, path := range []string{"/beta", "/a"} {
			status, body, got := u.send(t, "GET", "GET "+path+" HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n")
			if status != http.StatusBadRequest || got != nil || !strings.Contains(body, "HEADER_REPEATED") || !strings.Contains(body, name) {
				t.Errorf("%s %q: %d %s, arrived %+v", path, headers, status, body, got)
			}
		}
	}
}
