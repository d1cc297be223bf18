package balance

import "context"

// Pick is what a call wishes of its pick, and what came of it. A call has its own.
type Pick struct {
	// Avoid is the address that is not picked where there is another: that of the
	// attempt that failed. Empty means none.
	Avoid string
	// CallersDeadline says that the call's deadline is the caller's own and shorter
	// than the rule's: that it passed says nothing of the backend.
	CallersDeadline bool
	// Chosen is the address of the backend that was picked last; empty means none.
	Chosen string
}

type pickKey struct{}

// WithPick lets the gRPC connection that is called with the context find p. It is
// written before the call returns, on the goroutine that called.
func WithPick(ctx context.Context, p *Pick) context.Context {
	return context.WithValue(ctx, pickKey{}, p)
}

// PickOf is the Pick that ctx carries, or nil.
func PickOf(ctx context.Context) *Pick {
	p, _ := ctx.Value(pickKey{}).(*Pick)
	return p
}

// Carried is a context that carries its Pick, in which it stands: one allocation for
// both.
type Carried struct {
	context.Context
	Pick Pick
}

// Value implements context.Context.
func (c *Carried) Value(key any) any {
	if key == (pickKey{}) {
		return &c.Pick
	}
	return c.Context.Value(key)
}
