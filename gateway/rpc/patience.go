package rpc

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/tap"
)

// defaultPatience is how long a call may take to send its first message:
// grpc-go would wait for ever.
const defaultPatience = 30 * time.Second

// defaultAnswerTimeout is how long a caller may take to read an answer.
const defaultAnswerTimeout = 30 * time.Second

// stuck is how long a caller that does not read may hold a stream that has
// ended on the other side.
const stuck = 10 * time.Second

// lease ends a call whose first message does not come, or whose answer is not
// taken. It lives in the call's context, which grpc-go's transport itself waits
// on.
type lease struct {
	end     context.CancelFunc
	conn    *conn     // of the call; it guards stream and due
	stream  uint32    // of the call
	due     time.Time // when the stream must have ended; zero while the call runs
	release func() bool

	mu     sync.Mutex
	timer  *time.Timer
	limit  string // that the timer stands for
	over   bool   // the timer ended the call
	closed bool
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
	l := &lease{limit: limitSlowMessage}
	if l.conn = connOf(ctx); l.conn != nil {
		l.conn.begin(l)
	}
	ctx, l.end = context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(s.o.Patience, l.expire)
	// Calls end that no handler has seen, such as those with an unknown encoding:
	// without this, each would be kept for as long as we are patient.
	l.release = context.AfterFunc(ctx, func() { l.close() })
	return context.WithValue(ctx, leaseKey{}, l), nil
}

func leaseOf(ctx context.Context) *lease {
	l, _ := ctx.Value(leaseKey{}).(*lease)
	return l
}

// expire ends the call.
func (l *lease) expire() {
	l.mu.Lock()
	l.over = !l.closed
	l.mu.Unlock()
	l.end()
}

// close ends the lease with its call, and returns the limit that did so before;
// empty means none. A timer that went on would keep the call in memory.
func (l *lease) close() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.release()
	l.timer.Stop()
	if l.over {
		return l.limit
	}
	return ""
}

// arrived says that a message is there.
func arrived(ctx context.Context) {
	l := leaseOf(ctx)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == limitSlowMessage { // A later message says nothing about reading.
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
	return context.AfterFunc(up, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.closed {
			l.limit = limitSlowReader
			l.timer.Reset(stuck)
		}
	})
}
