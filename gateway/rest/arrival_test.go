package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestArrival: every request meets the arrival checks, once, with a call that
// has no method yet and is the one that the edge checks see later.
func TestArrival(t *testing.T) {
	for target, tc := range map[string]struct {
		method string
		edge   bool
	}{
		echoPath: {"GET", true}, "/nowhere": {"GET", false}, "/test/v1/echo/%2e%2e": {"GET", false}, "/test/v1/names": {"DELETE", false},
		"/test/v1/down": {"OPTIONS", false}, "/docs": {"GET", false}, "/test/v1/names?" + strings.Repeat("&", 200): {"GET", false},
	} {
		t.Run(target, func(t *testing.T) {
			var arrived, edge *policy.Call
			var ended []error
			e := newEdge(t, func(o *edgeOptions) {
				o.Mounts = httpedge.Mounts{{Path: "/docs", Handler: http.NotFoundHandler()}}
				o.Arrival = policy.Chain{{Name: "a", Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
					if arrived != nil {
						t.Error("arrived twice")
					}
					arrived = c
					if c.Method != nil || c.Edge != policy.EdgeREST || c.RequestID != "id-1" || !c.Peer.IsValid() || c.Client != netip.MustParseAddr("192.0.2.1") ||
						c.Headers("x-some")[0] != "v" || c.Principal != policy.Anonymous || c.PeerCertificate == nil {
						t.Errorf("the call on arrival: %+v", c)
					}
					c.Annotate("X-Left", "7")
					c.OnDone(func(err error) { ended = append(ended, err) })
					return context.WithValue(ctx, fakeKey{}, "seen"), nil
				}}}
				o.Edge = policy.Chain{{Name: "e", Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
					edge = c
					if c.Method == nil || ctx.Value(fakeKey{}) != "seen" {
						t.Errorf("the call at the edge: %+v", c)
					}
					return ctx, nil
				}}}
			})
			r := httptest.NewRequest(tc.method, target, nil)
			r.Header = http.Header{"X-Some": {"v"}, "X-Request-Id": {"id-1"}}
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
			a := e.do(t, r)
			if arrived == nil || (edge != nil) != tc.edge || (tc.edge && edge != arrived) {
				t.Errorf("arrived %p, edge %p", arrived, edge)
			}
			if len(ended) != 1 || (ended[0] == nil) != (a.status < 400) {
				t.Errorf("%d, ended %v", a.status, ended)
			}
			if a.header.Get("X-Left") != "7" {
				t.Error("what arrival annotated is lost")
			}
		})
	}
}

type fakeKey struct{}

// TestArrivalRefuses: a refusal goes through the one encoder, is told as
// Denied without a method, and nothing else happens to the request.
func TestArrivalRefuses(t *testing.T) {
	var denied []string
	ended := 0
	e := newEdge(t, func(o *edgeOptions) {
		o.Denied = func(check string, m *policy.Method) {
			if m != nil {
				t.Error("a method, before one was looked for")
			}
			denied = append(denied, check)
		}
		o.Arrival = policy.Chain{{Name: "address", Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
			c.OnDone(func(error) { ended++ })
			reason := c.Headers("X-Reason")[0]
			code := codes.ResourceExhausted
			if reason == "SCOPE_MISSING" {
				code = codes.PermissionDenied
			}
			st, err := status.New(code, "slow down").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: policy.ErrorDomain})
			if err != nil {
				return nil, err
			}
			return nil, st.Err()
		}}}
	})
	for reason, want := range map[string]int{"LIMITED": 429, "SCOPE_MISSING": 403} { // The second looks for a route elsewhere.
		r := httptest.NewRequest("GET", "/%00", nil)
		r.Header.Set("X-Reason", reason)
		a := e.do(t, r)
		if a.status != want || a.reason != reason || (want == 429 && a.header.Get("Retry-After") != "1") {
			t.Errorf("got %d %s %v", a.status, a.reason, a.header)
		}
	}
	if !slices.Equal(denied, []string{"address", "address"}) || ended != 2 || len(e.refused()) != 0 {
		t.Errorf("denied %v, ended %d, refused %v", denied, ended, e.refused())
	}
	if log := e.log.String(); strings.Count(log, `"denied_by":"address"`) != 2 {
		t.Errorf("log %s", log)
	}
}

// TestClient: the option decides who the caller is, before hop-by-hop fields
// are taken out.
func TestClient(t *testing.T) {
	var seen policy.Call
	e := newEdge(t, func(o *edgeOptions) {
		o.Client = func(peer netip.Addr, headers func(string) []string) netip.Addr {
			if peer != netip.MustParseAddr("192.0.2.1") {
				t.Errorf("peer %v", peer)
			}
			return netip.MustParseAddr(headers("X-Forwarded-For")[0])
		}
		o.Edge = policy.Chain{{Name: "e", Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
			seen = *c
			for _, k := range []string{"X-Forwarded-For", "Authorization", "Connection", "X-B"} {
				if v := c.Headers(k); len(v) > 0 {
					t.Errorf("%s reached the checks: %v", k, v)
				}
			}
			if c.Headers("X-Kept") == nil {
				t.Error("more than what was named is gone")
			}
			return ctx, nil
		}}}
	})
	r := httptest.NewRequest("GET", echoPath, nil)
	r.Header = http.Header{"X-Forwarded-For": {"198.51.100.7"}, "Authorization": {"Bearer x"}, "X-B": {"1"}, "X-Kept": {"1"},
		"Connection": {"close, x-forwarded-for,,AUTHORIZATION", " x-b "}}
	if a := e.do(t, r); a.status != 200 {
		t.Fatal(a.body)
	}
	if want := netip.MustParseAddr("198.51.100.7"); seen.Client != want || !strings.Contains(e.log.String(), `"client":"198.51.100.7"`) {
		t.Errorf("client %v, log %s", seen.Client, e.log)
	}
	if seen.Peer.Addr() != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("peer %v", seen.Peer)
	}
}
