package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
)

// cachingProfiles is the configuration of a cache for profiles.
func cachingProfiles(more object) object {
	cache := object{"scope": "CACHE_SCOPE_PUBLIC", "ttl": "1s"}
	maps.Copy(cache, more)
	return object{"methods": object{profileService + "/GetProfile": object{"cache": cache}}}
}

// cached is how often the cache gave this result.
func (c caller) cached(t *testing.T, result string) float64 {
	t.Helper()
	return sample(t, c.g, "sluice_cache_requests_total", `result="`+result+`"`)
}

// TestStaleIfError: what was fetched once is given while the service is gone, and
// is fresh again after its return.
func TestStaleIfError(t *testing.T) {
	t.Parallel()
	k := makeKeys(t)
	profiles := startService(t, service{name: "profile", k: k})
	w := wireTo(t, profiles.addr)
	config := cachingProfiles(object{"stale_if_error": "60s"})
	maps.Copy(config, object{"assertion": object{"key_file": k.private}, "upstreams": object{profileService: object{"target": w.addr}}})
	g := startGateway(t, setup{config: config})
	c := withBearer(g, g.token(t))
	ways := c.both(getProfile("ada"))
	for _, ask := range ways {
		eventually(t, patience, func() error { return ask(bounded(t)).unless(codes.OK, "") })
	}
	w.down()
	eventually(t, patience, func() error { // Until what is kept is old.
		for way, ask := range ways {
			allWell(t, way, []reply{ask(bounded(t))})
		}
		return atLeast(c.cached(t, "stale"), 20)
	})
	c.logged(t, "cache", "stale")
	w.up(t)
	eventually(t, patience, func() error {
		for way, ask := range ways {
			allWell(t, way, []reply{ask(bounded(t))})
		}
		hits := c.cached(t, "hit")
		allWell(t, "on the way back", []reply{ways["REST"](bounded(t))})
		return atLeast(c.cached(t, "hit")-hits, 1) // Only what was fetched is a hit.
	})
}

// TestStaleWhileRevalidate: while a new answer is fetched, which takes its time, all
// callers have the old one, and one call is made.
func TestStaleWhileRevalidate(t *testing.T) {
	t.Parallel()
	b := newCounted(t)
	c := startCounted(t, object{}, cachingProfiles(object{"ttl": "0.2s", "stale_while_revalidate": "60s"}), b)
	ways := c.both(getProfile("ada"))
	eventually(t, patience, func() error { return ways["REST"](bounded(t)).unless(codes.OK, "") })
	letGo := b.holds()
	before := b.seen().calls
	eventually(t, patience, func() error { // It becomes old, and the first who asks has it fetched.
		for way, ask := range ways {
			allWell(t, way, []reply{ask(bounded(t))})
		}
		return atLeast(float64(b.seen().inFlight), 1)
	})
	for way, ask := range ways {
		allWell(t, way, repeat(t, 100, 4, ask))
	}
	if s := b.seen(); s.calls-before != 1 || s.inFlight != 1 {
		t.Errorf("%d calls were made, %d of them unanswered; want 1 and 1", s.calls-before, s.inFlight)
	}
	letGo()
}

// TestMissesTogether: a thousand callers who want what nobody has fetched yet cost
// one call.
func TestMissesTogether(t *testing.T) {
	t.Parallel()
	b := newCounted(t)
	c := startCounted(t, object{}, cachingProfiles(object{"ttl": "60s"}), b)
	const each = 500
	letGo := b.holds()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: each}}
	defer client.CloseIdleConnections()
	ctx := bounded(t)
	var (
		all    sync.WaitGroup
		served atomic.Int64
	)
	over := c
	for n := range each {
		all.Go(func() {
			if a, err := c.g.send(ctx, "GET", "/v1/users/ada/profile", "", nil); err != nil || a.status != 200 {
				t.Errorf("REST: %d %s %v", a.status, a.body, err)
				return
			}
			served.Add(1)
		})
		if n%100 == 0 { // A connection has 250 streams.
			over.g = &gateway{conn: dial(t, c.g.grpcAddr)}
		}
		ask := over.overGRPC(getProfile("ada"))
		all.Go(func() {
			if r := ask(ctx); !r.is(codes.OK, "") {
				t.Errorf("gRPC: %v", r)
				return
			}
			served.Add(1)
		})
	}
	eventually(t, patience, func() error { return atLeast(sample(t, c.g, "sluice_requests_in_flight"), 2*each) })
	letGo()
	all.Wait()
	joined := c.cached(t, "coalesced")
	t.Logf("%d served, %v of them waited for one call", served.Load(), joined)
	if n := b.seen().calls; n != 1 || served.Load() != 2*each {
		t.Errorf("%d callers were served with %d calls, want 1000 and 1", served.Load(), n)
	}
	if joined < 2*each-1 { // All but the one that fetches.
		t.Errorf("only %v waited together", joined)
	}
}

// TestBranchesAreShedFirst: when a service has almost as many calls as it may,
// composites go without it, and whole requests are still served.
func TestBranchesAreShedFirst(t *testing.T) {
	t.Parallel()
	busy, rest := newCounted(t), newCounted(t)
	bound := object{"concurrency": object{"min": 10, "initial": 10, "max": 10}}
	c := startCounted(t, object{}, object{"upstreams": object{
		userService:    object{"endpoints": []object{{"address": rest.grpcAddr}}},
		profileService: object{"endpoints": []object{{"address": rest.grpcAddr}}},
		orderService:   object{"endpoints": []object{{"address": busy.grpcAddr}}, "resilience": bound},
	}, "methods": object{orderService + "/ListOrders": object{"deadline": "30s"}}}, rest)
	ways := c.both(listOrders("ada"))
	for way, ask := range ways {
		eventually(t, patience, func() error { return ask(bounded(t)).unless(codes.OK, "") })
		allWell(t, way, repeat(t, 5, 1, c.both(getOverview("ada"))[way]))
	}
	letGo := busy.holds()
	defer letGo()
	var held sync.WaitGroup
	fill := func(to int) {
		for n := busy.seen().inFlight; n < to; n++ {
			ask := ways[[]string{"REST", "gRPC"}[n%2]]
			held.Go(func() {
				if r := ask(bounded(t)); !r.is(codes.OK, "") {
					t.Errorf("a whole request: %v", r)
				}
			})
		}
		eventually(t, patience, func() error { return atLeast(float64(busy.seen().inFlight), float64(to)) })
	}
	fill(8) // Four fifths.
	o, err := bffv1.NewBffServiceClient(c.g.conn).GetUserOverview(as(t, c.value[len("Bearer "):]), &bffv1.GetUserOverviewRequest{UserId: "ada"})
	if err != nil || len(o.GetPartial()) != 1 || o.GetPartial()[0].GetBranch() != "recent_orders" || o.GetPartial()[0].GetCode() != "UNAVAILABLE" || o.GetProfile() == nil {
		t.Errorf("%v %v; want all but the orders", o, err)
	}
	allWell(t, "REST", []reply{c.both(getOverview("ada"))["REST"](bounded(t))})
	fill(10)
	for way, ask := range ways {
		if r := ask(bounded(t)); !r.refused() || r.reason != "UPSTREAM_OVERLOADED" {
			t.Errorf("%s: one too many: %v", way, r)
		}
	}
	letGo()
	held.Wait()
	optional, whole := sample(t, c.g, "sluice_shed_total", `priority="optional"`, `reason="concurrency"`), sample(t, c.g, "sluice_shed_total", `priority="whole"`, `reason="concurrency"`)
	if optional < 2 || whole != 2 {
		t.Errorf("the metric says %v optional and %v whole ones were shed", optional, whole)
	}
	eventually(t, patience, func() error {
		o, err := bffv1.NewBffServiceClient(c.g.conn).GetUserOverview(as(t, c.value[len("Bearer "):]), &bffv1.GetUserOverviewRequest{UserId: "ada"})
		if err != nil || len(o.GetPartial()) > 0 {
			return fmt.Errorf("%v %w", o, errors.Join(err, errors.New("not whole again")))
		}
		return nil
	})
}
