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
	"time"
)

// timing is how long the load runs before a fault, during it, and after. A part
// that takes longer to end or to start makes it longer.
type timing struct{ before, during, after time.Duration }

// recovery is how long after a part's return clients may still see failures, and
// how long it may take until everything is in use again.
const recovery = 2 * time.Second

type breakOptions struct {
	faults []fault
	rate   int // requests a second
	timing timing
	out    string
	// patience is added to recovery on machines that have other things to do.
	patience time.Duration
}

// outcome is what clients saw of a fault.
type outcome struct {
	fault    fault
	sent     int64
	movedOn  int64
	partial  int64
	slowest  time.Duration
	failures []failure
	mended   time.Time
	whole    time.Duration // from mending until everything was in use
}

// breakAll breaks one part after another under load, and prints what clients saw.
func (c *cluster) breakAll(ctx context.Context, o breakOptions) error {
	if len(o.faults) == 0 {
		return errors.New("no fault has that in its name")
	}
	l, err := c.newLoad()
	if err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); l.run(loading, o.rate) }()
	defer func() { stop(); <-ended }()
	if err := sleep(ctx, time.Second); err != nil { // Connections are opened.
		return err
	}
	fmt.Print(tableHead)
	table := strings.Builder{}
	var errs []error
	for _, f := range o.faults {
		out, err := l.suffer(ctx, f, o.timing)
		if err != nil {
			return err
		}
		fmt.Println(out.row())
		table.WriteString(out.row() + "\n")
		errs = append(errs, out.judge(recovery+o.patience))
	}
	stop()
	<-ended
	acknowledged, lost, twice, err := l.audit(ctx)
	closing := fmt.Sprintf("%d orders were acknowledged; %d of them are not in the database, %d are there twice.\n", acknowledged, lost, twice)
	fmt.Print("\n", closing)
	if lost+twice > 0 {
		errs = append(errs, errors.New(closing))
	}
	if o.out != "" {
		errs = append(errs, write(o.out, tableHead+table.String()+"\n"+closing))
	}
	return errors.Join(append(errs, err, l.close())...)
}

// The table is kept in a page, between these.
const begin, end = "<!-- make cluster-test -->\n", "<!-- end -->\n"

// write puts the table into the page in place of the one that is there.
func write(page, table string) error {
	raw, err := os.ReadFile(page) //nolint:gosec // The operator names the file.
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(raw), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("%s has no place for the table: want the lines %q and %q", page, begin, end)
	}
	return os.WriteFile(page, []byte(head+begin+table+end+tail), 0o644) //nolint:gosec // A page for everyone.
}

// suffer breaks and mends under the load that runs.
func (l *load) suffer(ctx context.Context, f fault, t timing) (outcome, error) {
	if err := sleep(ctx, t.before); err != nil {
		return outcome{}, err
	}
	l.mu.Lock()
	seen := len(l.failures)
	l.mu.Unlock()
	l.slowest.Store(0)
	out := outcome{fault: f, sent: -l.sent.Load(), movedOn: -l.movedOn.Load(), partial: -l.partial.Load()}
	if err := f.hurt(ctx); err != nil {
		return out, fmt.Errorf("%s: %w", f.name, err)
	}
	if err := sleep(ctx, t.during); err != nil {
		return out, err
	}
	if err := f.mend(ctx); err != nil {
		return out, fmt.Errorf("%s: mending: %w", f.name, err)
	}
	out.mended = time.Now()
	waiting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := until(waiting, func() error { return l.c.whole(waiting) }); err != nil {
		return out, fmt.Errorf("%s: it does not end: %w", f.name, err)
	}
	out.whole = time.Since(out.mended)
	if err := sleep(ctx, t.after-out.whole); err != nil {
		return out, err
	}
	out.sent, out.movedOn, out.partial = out.sent+l.sent.Load(), out.movedOn+l.movedOn.Load(), out.partial+l.partial.Load()
	out.slowest = time.Duration(l.slowest.Load())
	l.mu.Lock()
	defer l.mu.Unlock()
	out.failures = slices.Clone(l.failures[seen:])
	return out, nil
}

// judge says what must not have been.
func (o outcome) judge(within time.Duration) error {
	var errs []error
	seen := map[string]bool{}
	for _, f := range o.failures {
		if what := kindNames[f.kind] + ": " + f.why; !slices.Contains(o.fault.may, f.kind) && !seen[what] {
			seen[what] = true
			errs = append(errs, fmt.Errorf("%s: a client saw %s", o.fault.name, what))
		}
	}
	if late := o.late(); late > within {
		errs = append(errs, fmt.Errorf("%s: a request failed %.1f s after the return", o.fault.name, late.Seconds()))
	}
	if o.whole > max(within, o.fault.inUse) {
		errs = append(errs, fmt.Errorf("%s: only %.1f s after the return everything was in use", o.fault.name, o.whole.Seconds()))
	}
	return errors.Join(errs...)
}

// late is how long after mending the last request failed.
func (o outcome) late() time.Duration {
	var late time.Duration
	for _, f := range o.failures {
		late = max(late, f.at.Sub(o.mended))
	}
	return late
}

const tableHead = "| fault | requests | failed | asked the other gateway | partial | slowest good answer | failed after the return for | everything in use after |\n|---|---|---|---|---|---|---|---|\n"

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
	return fmt.Sprintf("| %s | %d | %s | %d | %d | %.2f s | %.1f s | %.1f s |",
		o.fault.name, o.sent, cmp.Or(strings.Join(what, ", "), "0"), o.movedOn, o.partial, o.slowest.Seconds(), o.late().Seconds(), o.whole.Seconds())
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
