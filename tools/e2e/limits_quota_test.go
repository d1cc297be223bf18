package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
)

// notAtMidnight waits while a day of UTC is about to end: what is used before
// and after would not add up.
func notAtMidnight(t *testing.T) {
	t.Helper()
	if left := untilMidnight(); left < time.Minute {
		time.Sleep(left + time.Second)
	}
}

func untilMidnight() time.Duration {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, time.UTC).Sub(now)
}

// use makes n calls, over both edges in turn, that are admitted.
func use(t *testing.T, c caller, n int) {
	t.Helper()
	ask := c.both(getUser("ada"))
	for i := range n {
		edge := []string{"REST", "gRPC"}[i%2]
		if r := ask[edge](bounded(t)); !r.is(codes.OK, "") {
			t.Fatalf("call %d of %d, %s: %v", i+1, n, edge, r)
		}
	}
}

// drain calls until a call is refused, and returns how many were admitted. Then
// both edges refuse by the quota, until its day ends.
func drain(t *testing.T, c caller, limit string) (admitted int) {
	t.Helper()
	ask := c.both(getUser("ada"))
	for r := ask["gRPC"](bounded(t)); r.is(codes.OK, ""); r = ask["gRPC"](bounded(t)) {
		admitted++
	}
	for edge, a := range ask {
		r := once(t, "used up, "+edge, a, codes.ResourceExhausted, "QUOTA_EXCEEDED")
		if off := (r.retry - untilMidnight()).Abs(); r.limit != limit || off > 10*time.Second {
			t.Errorf("%s: %v; want %s, for %v", edge, r, limit, untilMidnight())
		}
		if r.status != 0 && r.retryAfter != strconv.Itoa(int(r.retry/time.Second)) {
			t.Errorf("%s: Retry-After %s, RetryInfo %v", edge, r.retryAfter, r.retry)
		}
		if got := readFields(t, r.rateLimit)[limit]; got["r"] != 0 || time.Duration(got["t"])*time.Second != r.retry {
			t.Errorf("%s: RateLimit %s, RetryInfo %v", edge, r.rateLimit, r.retry)
		}
	}
	return admitted
}

// daily is the class read with quotas of a day and no rates.
func daily(per ...any) object {
	var quotas []object
	for i := 0; i < len(per); i += 2 {
		quotas = append(quotas, object{"per": per[i], "requests": per[i+1], "period": "day"})
	}
	return object{"read": object{"quotas": quotas}}
}

// usage is an entry of /limits at the admin listener.
type usage struct {
	Limit, Who, Period string
	Used, Size         int64
}

// TestQuotasOutliveProcesses: what was used of a quota is known after a clean
// stop, and after kill -9 but for a block, of a thousandth, which is lost to the
// caller. Never is more admitted.
func TestQuotasOutliveProcesses(t *testing.T) {
	t.Parallel()
	notAtMidnight(t)
	const quota, block, kills = 3000, 3, 2
	key, line := newAPIKey(t, "ci", "ada", "")
	s := setup{dir: t.TempDir(), config: keyed(daily("principal", quota), line)}
	g := startGateway(t, s)
	used := 0
	spend := func(n int) { t.Helper(); use(t, withKey(g, key), n); used += n }
	again := func(end func()) {
		t.Helper()
		end()
		g = startGateway(t, s)
	}
	left := func() int {
		t.Helper()
		used++
		r := once(t, "a call", withKey(g, key).overREST(getUser("ada")), codes.OK, "")
		return readFields(t, r.rateLimit)["read-principal-day"]["r"]
	}
	spend(401)
	again(func() {
		g.signal(t, syscall.SIGTERM)
		if code := g.exitCode(t, patience); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	if got := left(); got != quota-used {
		t.Errorf("after a clean stop %d are left, want %d", got, quota-used)
	}
	for kill := range kills {
		spend(200)
		again(g.kill)
		if got, most := left(), quota-used; got > most || got < most-(kill+1)*block {
			t.Errorf("after kill %d: %d are left, want %d or up to %d fewer", kill+1, got, most, (kill+1)*block)
		}
	}
	used += drain(t, withKey(g, key), "read-principal-day")
	if used > quota || used < quota-kills*block {
		t.Errorf("admitted %d in all, of %d", used, quota)
	}
	again(g.kill)
	if n := drain(t, withKey(g, key), "read-principal-day"); n != 0 {
		t.Errorf("used up, and %d more after a kill", n)
	}
	t.Logf("quota %d: %d admitted over a clean stop and %d kills, %d lost", quota, used, kills, quota-used)
}

// TestQuotasInRedis: two gateways give one quota, and know it after either was
// killed, to the last call.
func TestQuotasInRedis(t *testing.T) {
	t.Parallel()
	notAtMidnight(t)
	const quota = 600
	r := redistest.Start(t)
	key, line := newAPIKey(t, "ci", "ada", "")
	s := setup{config: sharing(keyed(daily("principal", quota, "api_key", 2*quota), line), r.URL(), "timeout", "1s", "fallback", "closed")}
	a, b := startGateway(t, s), startGateway(t, s)
	becomes(t, a, "sluice_limit_redis_up", 1)
	becomes(t, b, "sluice_limit_redis_up", 1)
	use(t, withKey(a, key), 150)
	use(t, withKey(b, key), 150)
	a.kill()
	a = startGateway(t, s)
	becomes(t, a, "sluice_limit_redis_up", 1)
	use(t, withKey(a, key), 150)
	b.signal(t, syscall.SIGTERM)
	b.exitCode(t, patience)
	if n := 450 + drain(t, withKey(a, key), "read-principal-day"); n != quota {
		t.Errorf("admitted %d, want %d", n, quota)
	}
	b = startGateway(t, s)
	becomes(t, b, "sluice_limit_redis_up", 1)
	if n := drain(t, withKey(b, key), "read-principal-day"); n != 0 {
		t.Errorf("used up, and %d more by the other gateway", n)
	}
	// A principal's keys in Redis are not known, those of API keys are.
	var got struct{ Quotas []usage }
	b.atAdmin(t, "/limits").want(t, 200, &got)
	if want := []usage{{"read-api_key-day", "ci", "day", quota, 2 * quota}}; !slices.Equal(got.Quotas, want) {
		t.Errorf("/limits with Redis: %v, want %v", got.Quotas, want)
	}
}

// TestQuotasOfKeysAndPrincipals: each API key has its quota, and their owner one
// over all of them. Operators see what is used.
func TestQuotasOfKeysAndPrincipals(t *testing.T) {
	t.Parallel()
	notAtMidnight(t)
	one, first := newAPIKey(t, "one", "ada", "")
	two, second := newAPIKey(t, "two", "ada", "")
	config := keyed(daily("principal", 60, "api_key", 40), first, second)
	g := startGateway(t, setup{config: config})
	if n := drain(t, withKey(g, one), "read-api_key-day"); n != 40 {
		t.Errorf("key one: %d", n)
	}
	if n := drain(t, withKey(g, two), "read-principal-day"); n != 20 {
		t.Errorf("key two: %d, want what its owner has left", n)
	}
	var got struct{ Quotas []usage }
	g.atAdmin(t, "/limits").want(t, 200, &got)
	want := []usage{{"read-principal-day", "ada", "day", 60, 60}, {"read-api_key-day", "one", "day", 40, 40}, {"read-api_key-day", "two", "day", 20, 40}}
	if fmt.Sprint(got.Quotas) != fmt.Sprint(want) {
		t.Errorf("/limits: %v, want %v", got.Quotas, want)
	}
	g.atAdmin(t, "/limits?max=1").want(t, 200, &got)
	if fmt.Sprint(got.Quotas) != fmt.Sprint(want[:1]) {
		t.Errorf("/limits?max=1: %v", got.Quotas)
	}
	for key, used := range map[string]float64{"one": 40, "two": 20} {
		if n := sample(t, g, "sluice_quota_used", `limit="read-api_key-day"`, `api_key="`+key+`"`); n != used {
			t.Errorf("sluice_quota_used of %s: %v, want %v", key, n, used)
		}
	}
	if n := sample(t, g, "sluice_quota_used"); n != 60 {
		t.Errorf("sluice_quota_used of all: %v; a principal has none", n)
	}
	if page := startGateway(t, setup{}).atAdmin(t, "/limits"); page.status != 200 || !strings.Contains(string(page.body), `"quotas": []`) {
		t.Errorf("/limits without quotas: %d %s", page.status, page.body)
	}
}
