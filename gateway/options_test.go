package gateway_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/shop"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// log of what checks saw. Branches run at once.
type seen struct {
	mu    sync.Mutex
	lines []string
}

func (s *seen) check(place string) policy.Check {
	return func(ctx context.Context, c *policy.Call) (context.Context, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		method := c.Method.FullName[strings.LastIndexByte(c.Method.FullName, '/')+1:]
		what := "no message"
		if c.Message.Wire != nil {
			what = "message"
		}
		s.lines = append(s.lines, strings.Join([]string{place, string(c.Edge), method, c.Principal.Subject, what}, " "))
		return ctx, nil
	}
}

func (s *seen) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.lines
	s.lines = nil
	slices.Sort(out)
	return out
}

// TestWithCheck: a team's own checks run at their places on both edges, and for
// the branches of composites.
func TestWithCheck(t *testing.T) {
	s := &seen{}
	g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...),
		gateway.WithCheck(gateway.AfterAuthentication, "first", s.check("authenticated")),
		gateway.WithCheck(gateway.AfterAuthorization, "second", s.check("authorized")),
		gateway.WithCheck(gateway.AtEntry, "third", s.check("entry")))
	bff := bffv1.NewBffServiceClient(g.Conn)
	for _, edge := range []string{"rest", "grpc"} {
		overview := func(scopes string) codes.Code {
			if edge == "grpc" {
				_, err := bff.GetUserOverview(g.As(t, "ada", scopes), &bffv1.GetUserOverviewRequest{UserId: "ada"})
				return status.Code(err)
			}
			res, _ := do(t, g, g.Token(t, "ada", scopes), exchange{method: "GET", path: "/v1/users/ada/overview"})
			return map[int]codes.Code{200: codes.OK, 403: codes.PermissionDenied}[res.StatusCode]
		}
		if got := overview("users.read orders.read"); got != codes.OK {
			t.Errorf("%s: %v", edge, got)
		}
		want := []string{
			"authenticated " + edge + " GetUserOverview ada no message",
			"authenticated branch GetProfile ada no message",
			"authenticated branch GetUser ada no message",
			"authenticated branch ListOrders ada no message",
			"authorized " + edge + " GetUserOverview ada no message",
			"authorized branch GetProfile ada no message",
			"authorized branch GetUser ada no message",
			"authorized branch ListOrders ada no message",
			"entry branch GetProfile ada message",
			"entry branch GetUser ada message",
			"entry branch ListOrders ada message",
			"entry " + edge + " GetUserOverview ada message",
		}
		slices.Sort(want)
		if got := s.take(); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s", edge, strings.Join(got, "\n"))
		}
		if got := overview(""); got != codes.PermissionDenied {
			t.Errorf("%s: %v", edge, got)
		}
		if got := s.take(); !slices.Equal(got, []string{"authenticated " + edge + " GetUserOverview ada no message"}) {
			t.Errorf("%s, refused: got\n%s", edge, strings.Join(got, "\n"))
		}
	}
}

// TestOwnCheckRefuses: the refusal of a team's check has the same status on
// both edges, is counted and logged under its name.
func TestOwnCheckRefuses(t *testing.T) {
	saturday := func() time.Time { return time.Date(2026, time.January, 3, 12, 0, 0, 0, time.UTC) }
	for _, place := range []gateway.Place{gateway.AfterAuthentication, gateway.AfterAuthorization, gateway.AtEntry} {
		g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)), gateway.WithCheck(place, "weekdays", weekdays(saturday)))
		res, body := getEcho(t, g)
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "Echo is closed on Saturdays") {
			t.Errorf("REST: %d %s", res.StatusCode, body)
		}
		err := rawConn(t, g).Invoke(g.As(t, "ada", ""), "/"+testService+"/Echo", &wire.Frame{}, &wire.Frame{})
		wantCode(t, err, codes.FailedPrecondition, "Echo is closed on Saturdays")
		for _, l := range access(t, g, 2) {
			if l["denied_by"] != "weekdays" {
				t.Errorf("%v", l)
			}
		}
		if want := `sluice_denied_total{check="weekdays",method="` + testService + `/Echo"} 2`; !strings.Contains(metrics(t, g), want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestWithMiddlewares: order, and what they see.
func TestWithMiddlewares(t *testing.T) {
	named := func(name string) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Add("X-Order", name)
				next.ServeHTTP(w, r)
			})
		}
	}
	unary := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if _, ok := req.(*wire.Frame); !ok {
			t.Errorf("%T", req)
		}
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-seen", info.FullMethod))
		return next(ctx, req)
	}
	stream := func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		return status.Error(codes.ResourceExhausted, info.FullMethod)
	}
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)), gateway.WithHTTPMiddleware(named("a"), named("b")), gateway.WithInterceptors(unary, stream))
	if res, _ := getEcho(t, g); strings.Join(res.Header["X-Order"], "") != "ab" {
		t.Errorf("%v", res.Header)
	}
	var header metadata.MD
	if err := rawConn(t, g).Invoke(g.As(t, "ada", ""), "/"+testService+"/Echo", &wire.Frame{}, &wire.Frame{}, grpc.Header(&header)); err != nil || header.Get("x-seen")[0] != "/"+testService+"/Echo" {
		t.Errorf("%v, %v", header, err)
	}
	st, err := g.Conn.NewStream(g.As(t, "ada", ""), downDesc, "/"+testService+"/Down")
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, st.RecvMsg(&wire.Frame{}), codes.ResourceExhausted, "Down")
}
