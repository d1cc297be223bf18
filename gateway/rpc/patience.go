package rpc

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/tap"
)

// defaultPatience is how long a call may take to send its first message:
// grpc-go would wait for ever.
const defaultPatience = 30 * time.Second

// stuck is how long a caller that does not read may hold a stream that has
// ended on the other side.
const stuck = 10 * time.Second

// lease ends a call whose first message does not come. It lives in the call's
// context, which grpc-go's transport itself waits on.
type lease struct {
	timer   *time.Timer
	end     context.CancelFunc
	release func() bool
	over    atomic.Pointer[string] // the limit that ended the call
}

type leaseKey struct{}

// tap runs when the headers of a call are there, on the goroutine that reads
// its connection: it must not wait.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if strings.LastIndexByte(info.FullMethodName, '/') <= 0 || info.FullMethodName[0] != '/' {
		// grpc-go answers by itself, and tells nobody. It must: a call that a tap
		// refuses leaves its context behind in the connection's.
		s.o.Refused(limitMethodName)
	}
	l := &lease{}
	ctx, l.end = context.WithCancel(ctx)
	l.timer = time.AfterFunc(s.o.Patience, func() { l.expire(limitSlowMessage) })
	// Calls end that no handler has seen, such as those with an unknown encoding:
	// without this, each would be kept for as long as we are patient.
	l.release = context.AfterFunc(ctx, func() { l.timer.Stop() })
	return context.WithValue(ctx, leaseKey{}, l), nil
}

func leaseOf(ctx context.Context) *lease {
	l, _ := ctx.Value(leaseKey{}).(*lease)
	return l
}

// expire ends the call.
func (l *lease) expire(limit string) {
	l.over.CompareAndSwap(nil, &limit)
	l.end()
}

// close ends the lease with its call, and returns the limit that did so before;
// empty means none.
func (l *lease) close() string {
	l.release()
	l.timer.Stop()
	if limit := l.over.Load(); limit != nil {
		return *limit
	}
	return ""
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
	return context.AfterFunc(up, func() { time.AfterFunc(stuck, func() { l.expire(limitSlowReader) }) })
}
