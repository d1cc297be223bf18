package rest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// TestOtherHeadersStay: what is no kept answer says what it always did.
func TestOtherHeadersStay(t *testing.T) {
	e := newEdge(t, nil)
	r := httptest.NewRequest("GET", echoPath, nil)
	r.Header.Set("If-None-Match", "*")
	if a := e.do(t, r); a.status != http.StatusOK || a.header.Get("Etag")+a.header.Get("Age") != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// TestPreconditions is RFC 9110, 13 as a table: a call under a condition that cannot be
// granted is not made, and no condition on a write is passed over.
func TestPreconditions(t *testing.T) {
	for _, tc := range []struct {
		method, name, value string
		refused             bool
	}{
		{"POST", "If-Match", `"a"`, true}, {"POST", "If-Match", `W/"a"`, true}, {"POST", "If-Match", "*", true}, {"POST", "If-Match", "", true},
		{"POST", "If-None-Match", "*", true}, {"POST", "If-None-Match", `"a"`, true},
		{"POST", "If-Unmodified-Since", "Mon, 02 Mar 2020 12:00:00 GMT", false}, {"POST", "If-Modified-Since", "Mon, 02 Mar 2020 12:00:00 GMT", false},
		{"GET", "If-Match", `"a"`, true}, {"HEAD", "If-Match", `"a", "b"`, true}, {"GET", "If-Match", "*", false}, {"HEAD", "If-Match", " * ", false},
		{"GET", "If-None-Match", "*", false}, {"GET", "If-Range", `"a"`, false}, {"OPTIONS", "If-Match", `"a"`, false},
	} {
		e := newEdge(t, nil)
		r := httptest.NewRequest(tc.method, echoPath, strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		r.Header[tc.name] = []string{tc.value}
		a := e.do(t, r)
		if refused := a.status == http.StatusPreconditionFailed; refused != tc.refused || refused != (e.conn.called() == 0) && tc.method != "OPTIONS" {
			t.Errorf("%s with %s: %s: %d, %d calls, %v", tc.method, tc.name, tc.value, a.status, e.conn.called(), a.header)
		}
	}
}

// apartConn answers what is not for everyone, although its rule is.
type apartConn struct{ keptConn }

func (c apartConn) Call(ctx context.Context, call *policy.Call, request *wire.Frame, a *upstream.Answer) error {
	a.Apart = true
	return c.keptConn.Call(ctx, call, request, a)
}

// TestKeptApart: what a canary answered is not for the caches between us and others.
func TestKeptApart(t *testing.T) {
	c, err := cache.New(cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rule := &policy.Cache{Public: true, TTL: time.Hour}
	r := c.Route("/a.B/C", rule)
	e, _, err := r.Do(t.Context(), r.AppendKey(nil, policy.Anonymous), nil, false, func(context.Context) (*cache.Entry, error) { return &cache.Entry{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	for want, conn := range map[string]upstream.Sender{
		"public, max-age=3600": keptConn{entry: e}, "private, max-age=3600": apartConn{keptConn{entry: e}},
	} {
		edge := newEdge(t, func(o *edgeOptions) {
			o.Conn = conn
			for _, m := range o.Catalogue.Methods() {
				if m.Descriptor.Name() == "ListNames" {
					m.Rule.Cache = rule
				}
			}
		})
		if a := edge.do(t, httptest.NewRequest("GET", "/test/v1/names", nil)); a.header.Get("Cache-Control") != want {
			t.Errorf("%d %q, want %q", a.status, a.header.Get("Cache-Control"), want)
		}
	}
}
