package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/shop"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// verdict is what a caller learns of a refusal, the same over both edges: the
// code, the gateway's reason and whether it says when to come back.
type verdict struct {
	code    codes.Code
	reason  string
	retries bool
}

func (v verdict) String() string {
	s := v.code.String()
	if v.reason != "" {
		s += " " + v.reason
	}
	if v.retries {
		s += ", says when to retry"
	}
	return s
}

// caller makes the calls of the parity table over one edge.
type caller func(t *testing.T, g *gatewaytest.Gateway, p parity, token string, tooLarge bool) verdict

// TestParity: every RPC, over both edges, under every condition that the chain
// decides about. The expectations come from what the table says of the RPC, not
// from its rule, so a rule that loses its owner is noticed here.
func TestParity(t *testing.T) {
	edges := map[string]caller{"REST": overREST, "gRPC": overGRPC}
	for edge, call := range edges {
		t.Run(edge, func(t *testing.T) {
			g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...))
			expired := map[string]string{}
			for _, p := range parityTable {
				if p.verb == "" && edge == "REST" {
					continue // gRPC only.
				}
				expired[p.rpc] = shortLived(t, g, p)
				for _, c := range p.conditions(t, g) {
					if got := call(t, g, p, c.token, c.tooLarge); got != c.want {
						t.Errorf("%s, %s: got %v, want %v", p.rpc, c.name, got, c.want)
					}
				}
			}
			time.Sleep(2 * time.Second) // The short-lived tokens end.
			for _, p := range parityTable {
				if p.verb == "" && edge == "REST" {
					continue
				}
				want := verdict{code: codes.Unauthenticated, reason: "TOKEN_EXPIRED"}
				if got := call(t, g, p, expired[p.rpc], false); got != want {
					t.Errorf("%s, expired: got %v, want %v", p.rpc, got, want)
				}
			}
		})
	}
}

// condition is one column of the table.
type condition struct {
	name     string
	token    string
	tooLarge bool
	want     verdict
}

// conditions are those of an RPC; the last makes the call for real.
func (p parity) conditions(t *testing.T, g *gatewaytest.Gateway) []condition {
	t.Helper()
	right := g.Token(t, p.subject, p.scopes)
	noToken, wrongScope := verdict{code: codes.Unauthenticated}, verdict{code: codes.PermissionDenied, reason: "SCOPE_MISSING"}
	if p.public {
		noToken, wrongScope = verdict{}, verdict{}
	}
	out := []condition{
		{"no token", "", false, noToken},
		{"wrong scope", g.Token(t, p.subject, "other.read"), false, wrongScope},
		{"forged", gatewaytest.OtherKey(t), false, verdict{code: codes.Unauthenticated, reason: "TOKEN_INVALID"}},
		{"too large", right, true, verdict{code: codes.ResourceExhausted, reason: "BODY_TOO_LARGE"}},
	}
	switch p.stranger {
	case codes.OK: // Nobody owns it.
	case codes.PermissionDenied:
		out = append(out, condition{"wrong owner", g.Token(t, "mallory", p.scopes), false, verdict{code: codes.PermissionDenied, reason: "NOT_OWNER"}})
	default:
		out = append(out, condition{"wrong owner", g.Token(t, "mallory", p.scopes), false, verdict{code: p.stranger}})
	}
	return append(out, condition{"right", right, false, verdict{}})
}

func shortLived(t *testing.T, g *gatewaytest.Gateway, p parity) string {
	t.Helper()
	token, err := g.DevKey().Mint(p.subject, strings.Fields(p.scopes), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestParityIsComplete fails when an RPC of the shop is not in the table, or
// the table says otherwise than its rule who owns a request.
func TestParityIsComplete(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...))
	rows := map[string]parity{}
	for _, p := range parityTable {
		rows[p.rpc] = p
	}
	for _, r := range g.Routes() {
		p, ok := rows[r.Method]
		if !ok {
			t.Errorf("%s is not in the parity table: add a row for it", r.Method)
			continue
		}
		if p.public != (r.Require == "public") || (p.stranger != codes.OK) != (r.Owner != "") {
			t.Errorf("%s: the table says public %v, stranger %v; the rule says %q, owner %q", r.Method, p.public, p.stranger, r.Require, r.Owner)
		}
		if p.verb != r.Verb {
			t.Errorf("%s: the table calls it with %q, its route is %q", r.Method, p.verb, r.Verb)
		}
		delete(rows, r.Method)
	}
	for name := range rows {
		t.Errorf("%s is in the parity table, but no RPC", name)
	}
}

// TestParityOverLimit: the budget of a caller is one over both edges, whichever
// it comes by, and what refuses says so alike.
func TestParityOverLimit(t *testing.T) {
	const tokens = 12
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		for _, class := range c.GetLimits().GetClasses() {
			class.Rates = []*configv1.Rate{{Per: "method", Requests: tokens, Interval: seconds(3600), Burst: tokens}}
		}
	}, gateway.WithServices(shop.Services()...))
	costs := map[string]int{}
	for _, r := range g.Routes() {
		costs[r.Method] = r.LimitCost
	}
	for _, p := range parityTable {
		token, admitted := g.Token(t, p.subject, p.scopes), 0
		edges := []caller{overREST, overGRPC}
		if p.verb == "" {
			edges = edges[1:]
		}
		want := verdict{codes.ResourceExhausted, "RATE_LIMITED", true}
		for i := 0; admitted <= tokens; i++ {
			if got := edges[i%len(edges)](t, g, p, token, false); got.reason == want.reason {
				break
			}
			admitted++
		}
		if admitted != tokens/costs[p.rpc] {
			t.Errorf("%s: %d calls of cost %d admitted out of a budget of %d", p.rpc, admitted, costs[p.rpc], tokens)
		}
		for _, call := range edges {
			if got := call(t, g, p, token, false); got != want {
				t.Errorf("%s, over limit: got %v, want %v", p.rpc, got, want)
			}
		}
	}
}

func overREST(t *testing.T, g *gatewaytest.Gateway, p parity, token string, tooLarge bool) verdict {
	t.Helper()
	body := p.body
	if tooLarge {
		body = strings.Repeat(" ", 4<<20)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, p.verb, g.URL+p.path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if p.contentType != "" {
		req.Header.Set("Content-Type", p.contentType)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode < 400 {
		if p.stream { // It goes on until the caller leaves.
			_, err = io.ReadFull(res.Body, make([]byte, 1))
		} else {
			_, err = io.Copy(io.Discard, res.Body)
		}
		if err != nil {
			t.Fatal(err)
		}
		return verdict{}
	}
	return problemVerdict(t, p, res)
}

func problemVerdict(t *testing.T, p parity, res *http.Response) verdict {
	t.Helper()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var problem struct {
		Code    string
		Details []struct {
			Type   string `json:"@type"`
			Reason string
			Domain string
		}
		Reason string
	}
	if err := json.Unmarshal(raw, &problem); err != nil || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s: no problem: %d %s", p.rpc, res.StatusCode, raw)
	}
	var v verdict
	if err := v.code.UnmarshalJSON([]byte(`"` + problem.Code + `"`)); err != nil {
		t.Fatal(err)
	}
	for _, d := range problem.Details {
		if d.Domain == policy.ErrorDomain {
			v.reason = d.Reason
		}
		if strings.HasSuffix(d.Type, "RetryInfo") {
			v.retries = true
		}
	}
	if v.reason == "" {
		v.reason = problem.Reason
	}
	if v.retries && res.Header.Get("Retry-After") == "" {
		t.Errorf("%s: %d without Retry-After", p.rpc, res.StatusCode)
	}
	return v
}

func overGRPC(t *testing.T, g *gatewaytest.Gateway, p parity, token string, tooLarge bool) verdict {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	raw, err := proto.Marshal(p.req)
	if err != nil {
		t.Fatal(err)
	}
	if tooLarge { // An unknown field of 3 MiB: below what grpc-go itself refuses.
		raw = protowire.AppendBytes(protowire.AppendTag(raw, 1999, protowire.BytesType), make([]byte, 3<<20))
	}
	st, err := g.Conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+p.rpc, grpc.ForceCodecV2(wire.Codec{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SendMsg(&wire.Frame{Data: raw}); err == nil {
		_ = st.CloseSend()
	}
	err = st.RecvMsg(&wire.Frame{})
	if err == nil {
		return verdict{}
	}
	v := verdict{code: status.Code(err)}
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == policy.ErrorDomain {
				v.reason = d.GetReason()
			}
		case *errdetails.RetryInfo:
			v.retries = true
		}
	}
	return v
}

// TestCompositesReadAsTheirCaller: whatever scopes a caller has, a composite of
// the shop shows it nothing that it could not read by calling the branch itself.
func TestCompositesReadAsTheirCaller(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...))
	scopes := []string{"users.read", "orders.read", "profiles.write", "admin"}
	parts := []struct{ composite, part, branch string }{
		{"/v1/users/ada/overview", "user", "/v1/users/ada"},
		{"/v1/users/ada/overview", "recentOrders", "/v1/users/ada/orders"},
		{"/v1/users/ada/overview", "profile", "/v1/users/ada/profile"},
		{"/v1/orders/ada-0001/details", "order", "/v1/orders/ada-0001"},
		{"/v1/orders/ada-0001/details", "user", "/v1/users/ada"},
		{"/v1/orders/ada-0001/details", "profile", "/v1/users/ada/profile"},
	}
	shown := 0
	for _, subject := range []string{"ada", "grace"} {
		for set := range 1 << len(scopes) {
			var has []string
			for i, s := range scopes {
				if set&(1<<i) != 0 {
					has = append(has, s)
				}
			}
			token := g.Token(t, subject, strings.Join(has, " "))
			for _, p := range parts {
				res, body := do(t, g, token, exchange{method: "GET", path: p.composite})
				direct, _ := do(t, g, token, exchange{method: "GET", path: p.branch})
				var members map[string]json.RawMessage
				if res.StatusCode == http.StatusOK {
					if err := json.Unmarshal([]byte(body), &members); err != nil {
						t.Fatal(err)
					}
				}
				part := string(members[p.part])
				has := part != "" && part != "null" && part != "[]"
				if has && direct.StatusCode != http.StatusOK {
					t.Errorf("%s with %v: %s shows %s, but %s is %d", subject, has, p.composite, p.part, p.branch, direct.StatusCode)
				}
				if has {
					shown++
				}
			}
		}
	}
	if shown == 0 {
		t.Error("no composite showed anything: the test looks at nothing")
	}
}

// TestCompositePaysOnce: a composite costs what its rule says, and its branches
// nothing.
func TestCompositePaysOnce(t *testing.T) {
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.GetLimits().GetClasses()["read"].Rates = []*configv1.Rate{{Per: "principal", Requests: 100, Interval: seconds(3600), Burst: 100}}
	}, gateway.WithServices(shop.Services()...))
	token := g.Token(t, "ada", "users.read orders.read")
	left := func(path string) int {
		res, body := do(t, g, token, exchange{method: "GET", path: path})
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", path, res.StatusCode, body)
		}
		return remaining(t, res.Header.Values("RateLimit"))
	}
	before := left("/v1/users/ada")
	if after := left("/v1/users/ada/overview"); after != before-3 {
		t.Errorf("the overview, of cost 3, left %d of %d", after, before)
	}
	if after := left("/v1/users/ada"); after != before-4 {
		t.Errorf("a call of cost 1 left %d of %d", after, before-3)
	}
}

// remaining reads r= of the RateLimit field.
func remaining(t *testing.T, values []string) int {
	t.Helper()
	for part := range strings.SplitSeq(strings.Join(values, ";"), ";") {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(part), "r=%d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no r= in RateLimit %q", slices.Clone(values))
	return 0
}
