package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

const (
	// deadline of the shop's methods, by their rules.
	deadline = 2 * time.Second
	// slack is what a busy machine may add to it.
	slack = 2 * time.Second
	// backWithin is how long a service that is back may go unused.
	backWithin = 3 * time.Second
)

// halfRemote is a gateway whose users and profiles are elsewhere.
func halfRemote(t *testing.T) (g *gateway, users, profiles *service) {
	t.Helper()
	k := makeKeys(t)
	users = startService(t, service{name: "user", k: k})
	profiles = startService(t, service{name: "profile", k: k})
	config := remote(k, map[string]*service{userService: users, profileService: profiles})
	// A kept profile would be there although its service is not, and a breaker would
	// say so in the place of the connection.
	config["cache"], config["resilience"] = object{"off": true}, object{"breaker": object{"off": true}}
	g = startGateway(t, setup{config: config})
	if got := upstreamTarget(t, g, "/v1/users/{user_id}/profile"); got != profiles.addr {
		t.Fatalf("/routes: profiles are at %s, want %s", got, profiles.addr)
	}
	whole(t, g, g.token(t), patience)
	return g, users, profiles
}

// overviews asks both edges, and checks that each answers within its deadline.
func overviews(t *testing.T, g *gateway, token string) (overREST answer, overGRPC *bffv1.UserOverview, err error) {
	t.Helper()
	begin := time.Now()
	overREST = g.rest(t, "GET", "/v1/users/ada/overview", token, "")
	between := time.Now()
	overGRPC, err = bffv1.NewBffServiceClient(g.conn).GetUserOverview(as(t, token), &bffv1.GetUserOverviewRequest{UserId: "ada"})
	t.Logf("REST took %v, gRPC %v; the deadline is %v", between.Sub(begin), time.Since(between), deadline)
	return overREST, overGRPC, err
}

// whole waits until both edges answer an overview that lacks nothing.
func whole(t *testing.T, g *gateway, token string, within time.Duration) {
	t.Helper()
	eventually(t, within, func() error {
		a, overGRPC, err := overviews(t, g, token)
		var overREST bffv1.UserOverview
		if a.status != 200 || err != nil || protojson.Unmarshal(a.body, &overREST) != nil {
			return fmt.Errorf("REST: %d %s, gRPC: %w", a.status, a.body, err)
		}
		for _, o := range []*bffv1.UserOverview{&overREST, overGRPC} {
			if o.GetProfile().GetLocation() != "London" || o.GetUser() == nil || len(o.GetRecentOrders()) == 0 || len(o.GetPartial()) != 0 {
				return fmt.Errorf("not whole: %v", o)
			}
		}
		return nil
	})
}

// partial: both edges answer without the profile, and say so.
func partial(t *testing.T, g *gateway, token, code string) {
	t.Helper()
	a, overGRPC, err := overviews(t, g, token)
	if a.status != 200 || err != nil {
		t.Fatalf("REST: %d %s, gRPC: %v", a.status, a.body, err)
	}
	var overREST bffv1.UserOverview
	if err := protojson.Unmarshal(a.body, &overREST); err != nil {
		t.Fatal(err)
	}
	for _, o := range []*bffv1.UserOverview{&overREST, overGRPC} {
		p := o.GetPartial()
		if len(p) != 1 || p[0].GetBranch() != "profile" || p[0].GetCode() != code || !p[0].GetRetryable() {
			t.Errorf("partial %v, want profile %s, retryable", p, code)
		}
		if o.GetProfile() != nil || o.GetUser().GetUserId() != "ada" || len(o.GetRecentOrders()) == 0 {
			t.Errorf("beside the profile nothing should be missing: %v", o)
		}
	}
}

// TestOptionalServiceGone: an overview goes without the profile while its service
// is killed or hangs, and has it again soon after.
func TestOptionalServiceGone(t *testing.T) {
	t.Parallel()
	g, _, profiles := halfRemote(t)
	token := g.token(t)

	profiles.kill()
	for range 3 {
		partial(t, g, token, "UNAVAILABLE")
	}
	unavailable(t, g.rest(t, "GET", "/v1/users/ada/profile", "", ""))
	profiles = profiles.again(t)
	whole(t, g, token, backWithin)

	profiles.stop(t) // It hangs: connections stay open, nothing answers.
	partial(t, g, token, "DEADLINE_EXCEEDED")
	if a := g.rest(t, "GET", "/v1/users/ada/profile", "", ""); a.status != 504 {
		t.Errorf("a service that hangs: %d %s", a.status, a.body)
	}
	profiles.signal(t, syscall.SIGCONT)
	whole(t, g, token, backWithin)
}

// TestRequiredServiceGone: without the user there is no overview. Callers are told
// to come again.
func TestRequiredServiceGone(t *testing.T) {
	t.Parallel()
	g, users, _ := halfRemote(t)
	token := g.token(t)

	users.kill()
	for range 3 {
		a, _, err := overviews(t, g, token)
		unavailable(t, a)
		if status.Code(err) != codes.Unavailable {
			t.Errorf("gRPC: %v", err)
		}
	}
	unavailable(t, g.rest(t, "GET", "/v1/users/ada", token, ""))
	if _, err := userv1.NewUserServiceClient(g.conn).GetUser(as(t, token), &userv1.GetUserRequest{UserId: "ada"}); status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC: %v", err)
	}
	users.again(t)
	whole(t, g, token, backWithin)
}

// unavailable: 503, when to come again, and nothing of what is inside.
func unavailable(t *testing.T, a answer) {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal(a.body, &p); err != nil || a.status != 503 || p["code"] != "UNAVAILABLE" || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if s, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || s < 1 {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	if p["detail"] != "the service is unavailable, try again" || p["details"] != nil {
		t.Errorf("more than callers should know: %s", a.body)
	}
}
