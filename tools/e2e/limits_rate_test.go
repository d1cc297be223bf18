package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
)

// The limit under load: ten times perSecond is asked for.
const (
	perSecond = 50
	burst     = 50
	loadLasts = 5 * time.Second
)

// loaded is a class with one rate per principal.
func loaded(requests, burst int) object {
	return object{"read": object{"rates": []object{{"per": "principal", "requests": requests, "burst": burst}}}}
}

// TestLimitHoldsUnderLoad: one principal asks for ten times its limit, over REST
// and gRPC at once, of one gateway and of two that share a Redis. What is admitted
// is at most 1 % over the limit.
func TestLimitHoldsUnderLoad(t *testing.T) {
	t.Parallel()
	key, line := newAPIKey(t, "load", "ada", "")
	t.Run("one gateway", func(t *testing.T) {
		g := startGateway(t, setup{config: keyed(loaded(perSecond, burst), line)})
		holds(t, withKey(g, key).overREST(getUser("ada")), withKey(g, key).overGRPC(getUser("ada")))
	})
	t.Run("two gateways on one Redis", func(t *testing.T) {
		r := redistest.Start(t)
		// A decision of the fallback would not be Redis's: it has time here.
		config := sharing(keyed(loaded(perSecond, burst), line), r.URL(), "timeout", "1s")
		a, b := startGateway(t, setup{config: config}), startGateway(t, setup{config: config})
		for _, g := range []*gateway{a, b} {
			becomes(t, g, "sluice_limit_redis_up", 1)
		}
		before := sample(t, a, "sluice_limit_fallback_total") + sample(t, b, "sluice_limit_fallback_total")
		holds(t, withKey(a, key).overREST(getUser("ada")), withKey(b, key).overGRPC(getUser("ada")))
		if n := sample(t, a, "sluice_limit_fallback_total") + sample(t, b, "sluice_limit_fallback_total") - before; n != 0 {
			t.Errorf("the fallback made %v decisions: this was not Redis's", n)
		}
	})
}

// holds loads two edges, and counts.
func holds(t *testing.T, overREST, overGRPC asker) {
	t.Helper()
	var rest, rpc tally
	start := time.Now()
	// 350 a second each, where the machine can.
	stopREST, stopGRPC := drive(t, &rest, 14, 40*time.Millisecond, overREST), drive(t, &rpc, 14, 40*time.Millisecond, overGRPC)
	time.Sleep(loadLasts)
	stopREST()
	stopGRPC()
	took := time.Since(start)
	one, other := rest.next(), rpc.next()
	most := burst + perSecond*took.Seconds()
	admitted := one.admitted + other.admitted
	t.Logf("%v: %d admitted of %.1f (%+.2f %%); REST: %v; gRPC: %v", took.Round(time.Millisecond), admitted, most, 100*(float64(admitted)/most-1), one, other)
	for edge, y := range map[string]tallied{"REST": one, "gRPC": other} {
		if len(y.others) > 0 {
			t.Errorf("%s: neither admitted nor refused: %v", edge, y.others)
		}
		if y.admitted == 0 || y.reasons["RATE_LIMITED"] != y.asked-y.admitted {
			t.Errorf("%s: %v", edge, y)
		}
	}
	if float64(admitted) > 1.01*most {
		t.Errorf("admitted %d, more than 1.01 * %.1f", admitted, most)
	}
	if float64(admitted) < 0.8*most {
		t.Errorf("admitted %d: the limit of %.1f was not reached", admitted, most)
	}
	if asked := one.asked + other.asked; float64(asked) < 10*perSecond*loadLasts.Seconds() {
		t.Errorf("asked %d times, not ten times the limit", asked)
	}
}

// fieldItem is an item of RateLimit or RateLimit-Policy of which all are numbers.
var fieldItem = regexp.MustCompile(`^"([a-z0-9_-]+)"((?:;[a-z]=[0-9]+)*)$`)

// readFields reads a list of such items, as structured fields (RFC 9651).
func readFields(t *testing.T, field string) map[string]map[string]int {
	t.Helper()
	out := map[string]map[string]int{}
	for item := range strings.SplitSeq(field, ", ") {
		m := fieldItem.FindStringSubmatch(item)
		if m == nil {
			t.Fatalf("not an item: %q of %q", item, field)
		}
		out[m[1]] = map[string]int{}
		for _, p := range strings.Split(m[2], ";")[1:] {
			n, err := strconv.Atoi(p[2:])
			if err != nil {
				t.Fatal(err)
			}
			out[m[1]][p[:1]] = n
		}
	}
	return out
}

// TestAnswersSayWhatIsLeft: RateLimit and RateLimit-Policy on answers and
// refusals of both edges, which share one budget; and who waits as long as the
// answer says gets in.
func TestAnswersSayWhatIsLeft(t *testing.T) {
	t.Parallel()
	key, line := newAPIKey(t, "fields", "ada", "")
	g := startGateway(t, setup{config: keyed(object{"read": object{
		"rates":  []object{{"per": "principal", "requests": 30, "interval": "60s", "burst": 6}, {"per": "api_key", "requests": 1000}},
		"quotas": []object{{"per": "tenant", "requests": 5, "period": "day"}, {"per": "api_key", "requests": 1000, "period": "month"}},
	}}, line)})
	me := withKey(g, key)
	const policy = `"read-principal";q=6;w=12, "read-api_key";q=1000;w=1, "read-api_key-month";q=1000`
	ask := me.both(getUser("ada"))
	for i, step := range []struct {
		name string
		ask  asker
		left int
	}{
		{"REST", ask["REST"], 5}, {"gRPC", ask["gRPC"], 4}, {"gRPC, a composite", me.overGRPC(getOverview("ada")), 1}, {"REST again", ask["REST"], 0},
	} {
		r := once(t, step.name, step.ask, codes.OK, "")
		if r.rules != policy {
			t.Errorf("%s: RateLimit-Policy %s, want %s", step.name, r.rules, policy)
		}
		left := readFields(t, r.rateLimit)
		if got := left["read-principal"]; got["r"] != step.left || got["t"] < 1 || got["t"] > 12 || r.retryAfter != "" {
			t.Errorf("%s: RateLimit %s, want r=%d", step.name, r.rateLimit, step.left)
		}
		if month := left["read-api_key-month"]; len(left) != 3 || month["r"] != 1000-[]int{1, 2, 5, 6}[i] {
			t.Errorf("%s: RateLimit %s", step.name, r.rateLimit)
		}
	}
	for name, ask := range ask {
		r := once(t, name, ask, codes.ResourceExhausted, "RATE_LIMITED")
		left := readFields(t, r.rateLimit)
		if r.rules != policy || left["read-principal"]["r"] != 0 || r.limit != "read-principal" || r.retry <= 0 || r.retry > 2*time.Second {
			t.Errorf("%s refused: %v, RateLimit %s", name, r, r.rateLimit)
		}
		// The draft: t of the limit without room, and Retry-After, agree.
		wait := int((r.retry + time.Second - 1) / time.Second)
		if left["read-principal"]["t"] != wait || name == "REST" && r.retryAfter != strconv.Itoa(wait) {
			t.Errorf("%s refused: Retry-After %q, RetryInfo %v, RateLimit %s", name, r.retryAfter, r.retry, r.rateLimit)
		}
	}
}

// TestWhoWaitsGetsIn: Retry-After and RetryInfo are honoured, again and again,
// with the burst used up each time.
func TestWhoWaitsGetsIn(t *testing.T) {
	t.Parallel()
	for name, rounds := range map[string]int{"REST": 3, "gRPC": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, line := newAPIKey(t, "patient", "ada", "")
			g := startGateway(t, setup{config: keyed(object{"read": object{"rates": []object{{"per": "api_key", "requests": 5, "interval": "2s", "burst": 3}}}}, line)})
			ask := withKey(g, key).both(getUser("ada"))[name]
			for round := range rounds {
				var r reply
				for r = ask(bounded(t)); r.is(codes.OK, ""); {
					r = ask(bounded(t))
				}
				if !r.is(codes.ResourceExhausted, "RATE_LIMITED") {
					t.Fatal(r)
				}
				wait := r.retry
				if name == "REST" { // The whole seconds of the header.
					n, err := strconv.Atoi(r.retryAfter)
					if err != nil {
						t.Fatal(err)
					}
					wait = time.Duration(n) * time.Second
				}
				if wait <= 0 || wait > time.Second {
					t.Fatalf("to wait %v, with a token each 400 ms", wait)
				}
				time.Sleep(wait)
				once(t, fmt.Sprint("round ", round, " after ", wait), ask, codes.OK, "")
			}
		})
	}
}
