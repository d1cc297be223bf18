package rest

import (
	"context"
	"time"
)

// handlerContext is the context that the generated handler of a unary call gets: of
// the values of the call's own, but without its end. Handlers make a context to
// cancel, which would be entered into its parent and taken out again; what ends the
// call is the context that conn hands on.
type handlerContext struct {
	context.Context
	x *exchange
}

func (*handlerContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*handlerContext) Done() <-chan struct{}       { return nil }
func (*handlerContext) Err() error                  { return nil }

func (c *handlerContext) Value(key any) any {
	if key == (exchangeKey{}) {
		return c.x
	}
	return c.Context.Value(key)
}

// handle returns the handler's context of a unary call.
func (x *exchange) handle(ctx context.Context) context.Context {
	x.handler = handlerContext{ctx, x}
	return &x.handler
}
