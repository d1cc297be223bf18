package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc/tap"
)

// defaultPatience is how long a call may take to send its first message:
// grpc-go would wait for ever, with nothing known of the caller yet.
const defaultPatience = 30 * time.Second

// stuck is how long a caller that does not read may hold a stream that has
// ended on the other side.
const stuck = 10 * time.Second

// lease ends a call whose first message does not come. It lives in the call's
// context, which grpc-go's transport itself waits on.
type lease struct {
	timer *time.Timer
	end   context.CancelFunc
}

type leaseKey struct{}

// tap runs when the headers of a call are there, before grpc-go waits for its
// message.
func (s *Server) tap(ctx context.Context, _ *tap.Info) (context.Context, error) {
	l := &lease{}
	ctx, l.end = context.WithCancel(ctx)
	l.timer = time.AfterFunc(s.o.Patience, l.end)
	return context.WithValue(ctx, leaseKey{}, l), nil
}

func leaseOf(ctx context.Context) *lease {
	l, _ := ctx.Value(leaseKey{}).(*lease)
	return l
}

// arrived says that the first message is there.
func arrived(ctx context.Context) {
	if l := leaseOf(ctx); l != nil {
		l.timer.Stop()
	}
}

// unstick ends a call, some time after the stream to the service has: its
// handler may be blocked by a caller who does not read. The returned function
// takes that back.
func unstick(ctx, up context.Context) func() bool {
	l := leaseOf(ctx)
	if l == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(up, func() { time.AfterFunc(stuck, l.end) })
}
