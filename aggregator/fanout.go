package aggregator

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

const (
	// DefaultBranchTimeout bounds an optional branch whose caller brings no
	// deadline, or a very distant one.
	DefaultBranchTimeout = 5 * time.Second
	// DefaultMaxConcurrency is more than any composite here has branches: the
	// bound is for those to come.
	DefaultMaxConcurrency = 8
	// mergeReserve is the least time kept back for merging, encoding and sending
	// an answer whose optional branches are late.
	mergeReserve = 50 * time.Millisecond
)

// Branch fetches one part of a composite. It must return soon after its context
// ends (gRPC calls do), for the composite waits for it: nothing a branch started
// outlives the call. Its error should be a gRPC status.
type Branch func(ctx context.Context) error

// FanoutOptions bounds a fan-out. The zero value is useful.
type FanoutOptions struct {
	// BranchTimeout is the most the optional branches may take. They give up earlier
	// where the caller's deadline is near. 0 means DefaultBranchTimeout.
	BranchTimeout time.Duration
	// MaxConcurrency is how many branches of one fan-out run at once; further
	// ones wait for their turn. 0 means DefaultMaxConcurrency.
	MaxConcurrency int
	// Logger hears of panics and failed optional branches. Nil means
	// slog.Default().
	Logger *slog.Logger
}

// Fanout runs the branches of one composite concurrently, on an errgroup.
//
// A required branch may use all the caller's time. When one fails, its siblings
// are cancelled and its status is the composite's: the first such failure, never
// the cancellation it caused elsewhere.
//
// Optional branches have a deadline of their own, early enough for the composite
// to answer without them; it counts from when the first of them is declared. They
// never fail the group: what became of each is an entry of Wait's result. A panic
// in a branch is that branch's failure, INTERNAL.
//
// Declare all branches from one goroutine, then Wait once, always and at once: it
// is Wait that runs the branch declared last, on its caller's goroutine, and that
// releases the group's context. One goroutine less is also one stack less that has
// to grow: the caller's has been as deep before.
type Fanout struct {
	caller context.Context // the composite's own
	ctx    context.Context // the group's: ends with the first required failure
	group  *errgroup.Group
	opts   FanoutOptions

	declared int
	last     *part // declared last, and not started

	// Of the optional branches: within the group's, and shared, for a timer each
	// would be one deadline several times. Nil without any.
	optionalCtx context.Context
	release     context.CancelFunc

	// The optional branches, in the order of declaration. Each outcome is written
	// by its branch only and read after the group has ended.
	optional []*part
}

// part is a branch that was declared.
type part struct {
	ctx      context.Context
	name     string
	run      Branch
	optional bool
	failed   *status.Status // nil: it succeeded
}

// NewFanout starts a fan-out under the caller's context, whose values, deadline
// and cancellation reach every branch.
func NewFanout(ctx context.Context, o FanoutOptions) *Fanout {
	o = o.withDefaults()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(o.MaxConcurrency)
	return &Fanout{caller: ctx, ctx: groupCtx, group: group, opts: o}
}

// Required declares a branch that the composite cannot do without. It starts the
// one declared before, and blocks while MaxConcurrency branches are running.
func (f *Fanout) Required(name string, run Branch) {
	f.declare(&part{ctx: f.ctx, name: name, run: run})
}

// Optional declares a branch that the composite can do without, and names it: the
// field of the answer that it fills. It starts the one declared before, and blocks
// while MaxConcurrency branches are running; the wait counts against the branches'
// deadline.
func (f *Fanout) Optional(name string, run Branch) {
	if f.optionalCtx == nil {
		f.optionalCtx, f.release = context.WithDeadline(policy.WithOptional(f.ctx), optionalDeadline(f.caller, f.opts.BranchTimeout))
	}
	p := &part{ctx: f.optionalCtx, name: name, run: run, optional: true}
	f.optional = append(f.optional, p)
	f.declare(p)
}

func (f *Fanout) declare(p *part) {
	if f.last != nil {
		f.start(f.last)
	}
	f.last = p
	f.declared++
}

// start runs a branch on a goroutine of its own.
func (f *Fanout) start(p *part) {
	f.group.Go(func() error {
		deepen(0)
		return f.finish(p)
	})
}

// runLast runs the branch declared last here, unless it has to wait for its turn.
func (f *Fanout) runLast() {
	p := f.last
	f.last = nil
	switch {
	case p == nil:
	case f.declared > f.opts.MaxConcurrency:
		f.start(p)
	default:
		if err := f.finish(p); err != nil {
			f.group.Go(func() error { return err }) // So the group cancels the siblings.
		}
	}
}

// finish runs a branch to its end. Its error is the composite's.
func (f *Fanout) finish(p *part) error {
	p.failed = f.opts.run(p.ctx, p.name, p.run)
	if p.optional || p.failed == nil {
		return nil
	}
	return verdict(f.caller, p.failed)
}

// Wait runs what is left to run, and waits until every branch has returned. Its
// error is a gRPC status: that of the first required branch that failed, or the
// caller's own end. Otherwise it lists the optional branches that could not be had,
// in the order of their declaration; nil when all could.
func (f *Fanout) Wait() ([]*bffv1.PartialFailure, error) {
	f.runLast()
	err := f.group.Wait()
	if f.release != nil {
		f.release()
	}
	if err != nil {
		return nil, err
	}
	if err := f.caller.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	var partial []*bffv1.PartialFailure
	for _, p := range f.optional {
		if p.failed == nil {
			continue
		}
		f.opts.Logger.DebugContext(f.caller, "optional branch failed",
			slog.String("branch", p.name), slog.String("code", codeName(p.failed.Code())))
		partial = append(partial, partialFailure(p.name, p.failed))
	}
	return partial, nil
}

// First runs a required branch that others depend on, before they fan out. Its
// deadline leaves them, and the merge, some of the caller's time: an order that
// arrives with the deadline is of no use to a caller who has gone. Its error is
// a gRPC status.
func First(ctx context.Context, o FanoutOptions, name string, run Branch) error {
	branchCtx := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		branchCtx, cancel = context.WithDeadline(ctx, deadline.Add(-reserve(time.Until(deadline))))
		defer cancel()
	}
	if failed := o.withDefaults().run(branchCtx, name, run); failed != nil {
		return verdict(ctx, failed)
	}
	return nil
}

// AbsentIfNotFound wraps a branch whose part need not exist: NOT_FOUND then is
// success without a part, not a failure.
func AbsentIfNotFound(run Branch) Branch {
	return func(ctx context.Context) error {
		if err := run(ctx); status.Code(err) != codes.NotFound {
			return err
		}
		return nil
	}
}

// verdict is the composite's answer when a required branch failed: that branch's
// status, unless the caller's own end is behind it.
func verdict(caller context.Context, failed *status.Status) error {
	if err := caller.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return failed.Err()
}

// optionalDeadline is when an optional branch that starts now gives up: after
// timeout, or earlier, so that the caller's deadline is not missed for its sake.
func optionalDeadline(ctx context.Context, timeout time.Duration) time.Time {
	now := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		remaining := deadline.Sub(now)
		timeout = min(timeout, remaining-reserve(remaining))
	}
	return now.Add(timeout)
}

// reserve is the part of the remaining time that is kept back for the answer: a
// tenth, at least mergeReserve, but never more than half, or callers in a hurry
// would get no optional part at all.
func reserve(remaining time.Duration) time.Duration {
	return min(max(mergeReserve, remaining/10), remaining/2)
}

func (o FanoutOptions) withDefaults() FanoutOptions {
	if o.BranchTimeout <= 0 {
		o.BranchTimeout = DefaultBranchTimeout
	}
	if o.MaxConcurrency <= 0 {
		o.MaxConcurrency = DefaultMaxConcurrency
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}
