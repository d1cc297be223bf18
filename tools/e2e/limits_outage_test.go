package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
)

// TestRedisComesAndGoes: under load on two gateways Redis is killed and started
// again, then stopped for five seconds and continued. Calls are admitted or get
// 429, none waits, and metrics and the log tell what happened.
func TestRedisComesAndGoes(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	key, line := newAPIKey(t, "load", "ada", "")
	config := sharing(keyed(loaded(perSecond, burst), line), r.URL()) // Fallback and timeout are the defaults: local, 20 ms.
	o := outage{a: startGateway(t, setup{config: config}), b: startGateway(t, setup{config: config})}
	o.redisIs(t, 1)
	// Five times the limit of all, so that there is room for a look at metrics.
	for _, ask := range []asker{
		withKey(o.a, key).overREST(getUser("ada")), withKey(o.a, key).overGRPC(getUser("ada")),
		withKey(o.b, key).overREST(getUser("ada")), withKey(o.b, key).overGRPC(getUser("ada")),
	} {
		stop := drive(t, &o.load, 5, 50*time.Millisecond, ask)
		t.Cleanup(stop)
	}
	time.Sleep(time.Second)
	o.phase(t, "with Redis")

	r.Kill(t)
	o.redisIs(t, 0)
	o.fallsBack(t)
	time.Sleep(time.Second)
	o.phase(t, "killed")
	r.Restart(t)
	o.redisIs(t, 1)
	o.decides(t)
	o.phase(t, "started again")

	r.Pause(t)
	paused := time.Now()
	o.redisIs(t, 0)
	o.fallsBack(t)
	time.Sleep(time.Until(paused.Add(5 * time.Second)))
	o.phase(t, "stopped for 5 s")
	r.Resume(t)
	o.redisIs(t, 1)
	o.decides(t)
	o.phase(t, "continued")
	for _, g := range []*gateway{o.a, o.b} {
		log := g.stderr.String()
		if gone, back := strings.Count(log, "redis does not answer: the fallback decides"), strings.Count(log, "redis is back"); gone < 2 || back < 2 {
			t.Errorf("the log tells of %d outages and %d returns", gone, back)
		}
	}
}

// outage is two gateways under load.
type outage struct {
	a, b *gateway
	load tally
}

func (o *outage) redisIs(t *testing.T, up float64) {
	t.Helper()
	begin := time.Now()
	becomes(t, o.a, "sluice_limit_redis_up", up)
	becomes(t, o.b, "sluice_limit_redis_up", up)
	t.Logf("sluice_limit_redis_up is %v after %v", up, time.Since(begin).Round(time.Millisecond))
}

func (o *outage) fallbacks(t *testing.T) (a, b float64) {
	t.Helper()
	const name, label = "sluice_limit_fallback_total", `fallback="local"`
	return sample(t, o.a, name, label), sample(t, o.b, name, label)
}

// fallsBack waits until both gateways decide without Redis.
func (o *outage) fallsBack(t *testing.T) {
	t.Helper()
	beforeA, beforeB := o.fallbacks(t)
	eventually(t, patience, func() error {
		if a, b := o.fallbacks(t); a < beforeA+20 || b < beforeB+20 {
			return fmt.Errorf("fallbacks: %v of %v before, %v of %v", a, beforeA, b, beforeB)
		}
		return nil
	})
}

// decides waits for half a second in which Redis makes all decisions.
func (o *outage) decides(t *testing.T) {
	t.Helper()
	eventually(t, patience, func() error {
		beforeA, beforeB := o.fallbacks(t)
		time.Sleep(500 * time.Millisecond)
		if a, b := o.fallbacks(t); a > beforeA || b > beforeB {
			return fmt.Errorf("the fallback still decides: %v of %v before, %v of %v", a, beforeA, b, beforeB)
		}
		return nil
	})
}

// phase ends one: what was asked in it was admitted or refused by a rate, soon.
func (o *outage) phase(t *testing.T, name string) {
	t.Helper()
	y := o.load.next()
	t.Logf("%s: %v", name, y)
	if len(y.others) > 0 {
		t.Errorf("%s: neither admitted nor 429: %v", name, y.others)
	}
	if y.admitted == 0 || y.reasons["RATE_LIMITED"] == 0 || y.reasons["RATE_LIMITED"] != y.asked-y.admitted {
		t.Errorf("%s: %v; want some admitted and the rest RATE_LIMITED", name, y)
	}
}

// TestWithoutRedis: what a gateway with fallback closed or open answers while
// Redis was never there, is there, is stopped, and is there again.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	for name, without := range map[string]func(t *testing.T, edge string, r reply){"closed": closed, "open": open} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t)
			r.Kill(t)
			key, line := newAPIKey(t, "ci", "ada", "")
			config := sharing(keyed(object{"read": object{"rates": []object{{"per": "principal", "requests": 1, "interval": "3600s", "burst": 3}}}}, line), r.URL(), "fallback", name, "timeout", "200ms")
			g := startGateway(t, setup{config: config})
			ask := withKey(g, key).both(getUser("ada"))
			check := func(when string) {
				t.Helper()
				becomes(t, g, "sluice_limit_redis_up", 0)
				before := sample(t, g, "sluice_limit_fallback_total", `fallback="`+name+`"`)
				for range 3 {
					for edge, a := range ask {
						without(t, when+", "+edge, a(bounded(t)))
					}
				}
				if n := sample(t, g, "sluice_limit_fallback_total", `fallback="`+name+`"`) - before; n != 6 {
					t.Errorf("%s: %v fallbacks of 6 calls", when, n)
				}
			}
			check("at the start")
			r.Restart(t)
			becomes(t, g, "sluice_limit_redis_up", 1)
			once(t, "with Redis", ask["REST"], codes.OK, "")
			once(t, "with Redis", ask["gRPC"], codes.OK, "")
			r.Pause(t)
			check("stopped")
			r.Resume(t)
			becomes(t, g, "sluice_limit_redis_up", 1)
			once(t, "continued", ask["REST"], codes.OK, "") // Redis has kept that two of three were used.
			for edge, a := range ask {
				once(t, "continued, "+edge, a, codes.ResourceExhausted, "RATE_LIMITED")
			}
		})
	}
}

// closed: nobody may, and everybody is told to come again.
func closed(t *testing.T, edge string, r reply) {
	t.Helper()
	if !r.is(codes.Unavailable, "LIMITS_UNAVAILABLE") || r.retry <= 0 || r.retry > time.Minute {
		t.Errorf("%s: %v", edge, r)
	}
	if n, err := strconv.Atoi(r.retryAfter); r.status != 0 && (err != nil || n < 1) {
		t.Errorf("%s: Retry-After %q", edge, r.retryAfter)
	}
}

// open: everybody may.
func open(t *testing.T, edge string, r reply) {
	t.Helper()
	if !r.is(codes.OK, "") {
		t.Errorf("%s: %v", edge, r)
	}
}
