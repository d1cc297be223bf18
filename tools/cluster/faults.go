package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fault is one thing that goes wrong, and how it is mended.
type fault struct {
	name string
	hurt func(ctx context.Context) error
	mend func(ctx context.Context) error
	// may are the kinds of requests that may fail: those that no retry was allowed
	// to save.
	may []int
	// within is how soon after mending all must be well again.
	within time.Duration
}

// How long the load runs before a fault, during it, and after.
const (
	before = 2 * time.Second
	during = 3 * time.Second
	after  = 4 * time.Second
)

type breakOptions struct {
	only string
	rate int
	out  string
}

// outcome is what clients saw of a fault.
type outcome struct {
	fault     fault
	sent      int64
	movedOn   int64
	partial   int64
	failures  []failure
	hurt, now time.Time // when it broke, when it was mended
}

// breakAll breaks one part after another under load, and prints what clients saw.
func (c *cluster) breakAll(ctx context.Context, o breakOptions) error {
	l, err := c.newLoad()
	if err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); l.run(loading, o.rate) }()
	defer func() { stop(); <-ended }()
	if err := sleep(ctx, before); err != nil { // Connections are opened.
		return err
	}
	var rows []string
	var errs []error
	for _, f := range c.faults() {
		if !strings.Contains(f.name, o.only) {
			continue
		}
		out, err := l.suffer(ctx, f)
		if err != nil {
			return err
		}
		rows = append(rows, out.row())
		fmt.Println(out.row())
		errs = append(errs, out.judge())
	}
	stop()
	<-ended
	acknowledged, lost := l.lost()
	closing := fmt.Sprintf("%d orders were acknowledged, %d of them are lost.", acknowledged, lost)
	fmt.Println(closing)
	if lost > 0 {
		errs = append(errs, errors.New(closing))
	}
	if o.out != "" {
		table := "| fault | requests | failed | sent again to the other gateway | partial | failing for | after mending |\n|---|---|---|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n\n" + closing + "\n"
		errs = append(errs, os.WriteFile(o.out, []byte(table), 0o644)) //nolint:gosec // A page for everyone.
	}
	return errors.Join(append(errs, l.close())...)
}

// suffer breaks and mends under the load that runs.
func (l *load) suffer(ctx context.Context, f fault) (outcome, error) {
	if err := sleep(ctx, before); err != nil {
		return outcome{}, err
	}
	l.mu.Lock()
	seen := len(l.failures)
	l.mu.Unlock()
	out := outcome{fault: f, sent: -l.sent.Load(), movedOn: -l.movedOn.Load(), partial: -l.partial.Load(), hurt: time.Now()}
	if err := f.hurt(ctx); err != nil {
		return out, fmt.Errorf("%s: %w", f.name, err)
	}
	if err := sleep(ctx, during); err != nil {
		return out, err
	}
	if err := f.mend(ctx); err != nil {
		return out, fmt.Errorf("%s: mending: %w", f.name, err)
	}
	out.now = time.Now()
	if err := sleep(ctx, after); err != nil {
		return out, err
	}
	out.sent, out.movedOn, out.partial = out.sent+l.sent.Load(), out.movedOn+l.movedOn.Load(), out.partial+l.partial.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	out.failures = slices.Clone(l.failures[seen:])
	return out, nil
}

// judge says what must not have been.
func (o outcome) judge() error {
	var errs []error
	seen := map[string]bool{}
	for _, f := range o.failures {
		if what := kindNames[f.kind] + ": " + f.why; !slices.Contains(o.fault.may, f.kind) && !seen[what] {
			seen[what] = true
			errs = append(errs, fmt.Errorf("%s: a client saw %s", o.fault.name, what))
		}
		if o.fault.within > 0 && f.at.Sub(o.now) > o.fault.within {
			errs = append(errs, fmt.Errorf("%s: %s failed %.1f s after all was mended", o.fault.name, kindNames[f.kind], f.at.Sub(o.now).Seconds()))
			break
		}
	}
	return errors.Join(errs...)
}

// row is a line of the table.
func (o outcome) row() string {
	kinds := map[string]int{}
	for _, f := range o.failures {
		kinds[kindNames[f.kind]+" "+f.why]++
	}
	var what []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		what = append(what, fmt.Sprintf("%d× %s", kinds[k], k))
	}
	span, late := "0", "0"
	if n := len(o.failures); n > 0 {
		slices.SortFunc(o.failures, func(a, b failure) int { return a.at.Compare(b.at) })
		span = fmt.Sprintf("%.1f s", o.failures[n-1].at.Sub(o.failures[0].at).Seconds())
		late = fmt.Sprintf("%.1f s", max(0, o.failures[n-1].at.Sub(o.now).Seconds()))
	}
	return fmt.Sprintf("| %s | %d | %s | %d | %d | %s | %s |", o.fault.name, o.sent, cmp.Or(strings.Join(what, ", "), "0"), o.movedOn, o.partial, span, late)
}

// faults breaks everything there is. Whoever may not be sent twice may fail where
// it was under way in the part that died.
func (c *cluster) faults() []fault {
	user, order, profile := c.services["user"], c.services["order"], c.services["profile"]
	all := []int{getUser, getOverview, getOrders, callUser, postOrder}
	writes := []int{postOrder}
	nothing := func(context.Context) error { return nil }
	return []fault{
		{name: "nothing", hurt: nothing, mend: nothing},
		{name: "one of two user services killed", hurt: do(user[0].kill), mend: user[0].start},
		{name: "one of two order services killed", hurt: do(order[1].kill), mend: order[1].start, may: writes},
		{name: "one of two profile services killed", hurt: do(profile[0].kill), mend: profile[0].start},
		{name: "one of two order services restarted (SIGTERM)", hurt: do(order[0].terminate), mend: order[0].start},
		{name: "one of two user services hangs (SIGSTOP)", hurt: do(user[1].pause), mend: do(user[1].resume)},
		{name: "both profile services killed", hurt: both(profile, (*part).kill), mend: bothStart(profile), within: 2 * time.Second},
		{name: "both user services killed", hurt: both(user, (*part).kill), mend: bothStart(user), may: []int{getUser, getOverview, callUser}, within: 2 * time.Second},
		{name: "Redis killed", hurt: do(c.redis.kill), mend: c.redis.start},
		{name: "Redis hangs (SIGSTOP)", hurt: do(c.redis.pause), mend: do(c.redis.resume)},
		{name: "etcd killed", hurt: do(c.etcd.kill), mend: c.etcd.start},
		{name: "etcd killed, and a user service", hurt: func(ctx context.Context) error {
			return errors.Join(c.etcd.kill(), user[0].kill())
		}, mend: func(ctx context.Context) error { return errors.Join(c.etcd.start(ctx), user[0].start(ctx)) }},
		{name: "PostgreSQL crashes", hurt: do(c.postgres.crash), mend: c.postgres.start, may: all, within: 3 * time.Second},
		{name: "a gateway killed", hurt: do(c.gateways[0].kill), mend: c.gateways[0].start, may: writes},
		{name: "a gateway restarted (SIGTERM)", hurt: do(c.gateways[1].terminate), mend: c.gateways[1].start},
		{name: "a gateway upgraded in place (SIGUSR2)", hurt: func(context.Context) error { return c.gateways[0].signal(syscall.SIGUSR2) }, mend: nothing},
	}
}

func do(f func() error) func(context.Context) error {
	return func(context.Context) error { return f() }
}

func both(parts [2]*part, f func(*part) error) func(context.Context) error {
	return func(context.Context) error { return errors.Join(f(parts[0]), f(parts[1])) }
}

func bothStart(parts [2]*part) func(context.Context) error {
	return func(ctx context.Context) error { return errors.Join(parts[0].start(ctx), parts[1].start(ctx)) }
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
