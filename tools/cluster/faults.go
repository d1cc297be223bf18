package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// fault is one thing that goes wrong, and how it is mended.
type fault struct {
	name string
	hurt func(ctx context.Context) error
	mend func(ctx context.Context) error
	// may are the kinds of requests that may fail: those that need what nobody
	// offers, and those that no retry was allowed to save.
	may []int
	// inUse is how long it may take until everything is in use again, where that is
	// longer than recovery.
	inUse time.Duration
}

// named returns the faults with one of the words in their name, separated by commas.
func named(faults []fault, words string) []fault {
	return slices.DeleteFunc(faults, func(f fault) bool {
		return !slices.ContainsFunc(strings.Split(words, ","), func(w string) bool { return strings.Contains(f.name, w) })
	})
}

// faults breaks everything there is.
func (c *cluster) faults() []fault {
	return slices.Concat(
		[]fault{{name: "nothing", hurt: nothing, mend: nothing}},
		c.serviceFaults(), c.storeFaults(), c.gatewayFaults(), c.changes())
}

func (c *cluster) serviceFaults() []fault {
	user, order, profile := c.services["user"], c.services["order"], c.services["profile"]
	users, writes := []int{getUser, getOverview, callUser}, []int{postOrder}
	faults := []fault{
		{name: "one of two user services killed", hurt: do(user[0].kill), mend: user[0].start},
		{name: "one of two order services killed", hurt: do(order[1].kill), mend: order[1].start, may: writes},
		{name: "one of two profile services killed", hurt: do(profile[0].kill), mend: profile[0].start},
		{name: "one of two user services restarted (SIGTERM)", hurt: do(user[1].terminate), mend: user[1].start},
		{name: "one of two order services restarted (SIGTERM)", hurt: do(order[0].terminate), mend: order[0].start},
		{name: "one of two profile services restarted (SIGTERM)", hurt: do(profile[1].terminate), mend: profile[1].start},
		{name: "one of two user services hangs (SIGSTOP)", hurt: do(user[1].pause), mend: do(user[1].resume)},
		{name: "one of two order services hangs (SIGSTOP)", hurt: do(order[1].pause), mend: do(order[1].resume), may: writes},
		{name: "one of two profile services hangs (SIGSTOP)", hurt: do(profile[0].pause), mend: do(profile[0].resume)},
		{name: "both profile services killed", hurt: both(profile, (*part).kill), mend: bothStart(profile)},
		{name: "both user services killed", hurt: both(user, (*part).kill), mend: bothStart(user), may: users},
		{name: "both order services killed", hurt: both(order, (*part).kill), mend: bothStart(order), may: []int{getOrders, postOrder}},
	}
	return faults
}

func (c *cluster) storeFaults() []fault {
	user := c.services["user"]
	return []fault{
		{name: "Redis killed", hurt: do(c.redis.kill), mend: c.redis.start},
		{name: "Redis hangs (SIGSTOP)", hurt: do(c.redis.pause), mend: do(c.redis.resume)},
		{name: "etcd killed", hurt: do(c.etcd.kill), mend: c.etcd.start},
		{name: "etcd killed, and a user service", hurt: func(context.Context) error {
			return errors.Join(c.etcd.kill(), user[0].kill())
		}, mend: func(ctx context.Context) error { return errors.Join(c.etcd.start(ctx), user[0].start(ctx)) }},
		// Both processes of each service fail all the time: one of them is left out, each
		// time for longer, while the other is there for all.
		{name: "PostgreSQL crashes", hurt: do(c.postgres.crash), mend: c.postgres.start, may: []int{getUser, getOverview, getOrders, callUser, postOrder}, inUse: 10 * time.Second},
	}
}

// gatewayFaults: the upgraded process is the one that is killed later.
func (c *cluster) gatewayFaults() []fault {
	a, b := c.gateways[0], c.gateways[1]
	return []fault{
		{name: "a gateway upgraded in place (SIGUSR2)", hurt: a.upgrade, mend: nothing},
		{name: "a gateway killed", hurt: do(a.kill), mend: a.start},
		{name: "a gateway restarted (SIGTERM)", hurt: do(b.terminate), mend: b.start},
	}
}

// changes are made by operators, not by fate.
func (c *cluster) changes() []fault {
	var before float64
	return []fault{
		{name: "9 changes of the configuration in etcd, every third invalid", hurt: func(ctx context.Context) error {
			for n := range 9 {
				if err := c.change(ctx, settings{requests: n + 1, invalid: n%3 == 2}); err != nil {
					return fmt.Errorf("change %d: %w", n+1, err)
				}
				if err := sleep(ctx, 100*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		}, mend: c.restore},
		{name: "a canary switched on and off", hurt: func(ctx context.Context) (err error) {
			if before, err = c.canaryCalls(ctx); err != nil {
				return err
			}
			return c.change(ctx, settings{canary: c.services["user"][1].addr})
		}, mend: func(ctx context.Context) error {
			now, err := c.canaryCalls(ctx)
			if err != nil {
				return err
			}
			if now <= before {
				return errors.New("the canary was not called")
			}
			return c.restore(ctx)
		}},
	}
}

// restore puts the configuration that was there at first.
func (c *cluster) restore(ctx context.Context) error { return c.change(ctx, settings{}) }

func nothing(context.Context) error { return nil }

func do(f func() error) func(context.Context) error {
	return func(context.Context) error { return f() }
}

func both(parts [2]*part, f func(*part) error) func(context.Context) error {
	return func(context.Context) error { return errors.Join(f(parts[0]), f(parts[1])) }
}

func bothStart(parts [2]*part) func(context.Context) error {
	return func(ctx context.Context) error { return errors.Join(parts[0].start(ctx), parts[1].start(ctx)) }
}
