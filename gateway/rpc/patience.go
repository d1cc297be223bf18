package rpc

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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
// taken. It is the call's context, which grpc-go's transport itself waits on. Its
// connection watches the clock for all its leases, with one timer: most calls are
// over long before.
type lease struct {
	context.Context
	end    context.CancelFunc
	conn   *conn
	header metadata.MD // that the caller sent: not to be changed

	stream uint32    // of the call, and the connection's with due, under its lock
	due    time.Time // when the stream must have ended; zero while the call runs

	// Without a lock, for every call would wait for that of its connection.
	until   atomic.Int64 // when the call ends, on the connection's clock; 0 means that it may go on
	reading atomic.Bool  // until is about the caller's reading, and not its first message
	over    atomic.Bool  // until ended the call
}

type leaseKey struct{}

// Value finds the lease in the contexts that are made of it.
func (l *lease) Value(key any) any {
	if key == (leaseKey{}) {
		return l
	}
	return l.Context.Value(key)
}

// tap runs when the headers of a call are there, on the goroutine that reads
// its connection: it must not wait.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if strings.LastIndexByte(info.FullMethodName, '/') <= 0 || info.FullMethodName[0] != '/' {
		// grpc-go answers by itself, and tells nobody. It must: a call that a tap
		// refuses leaves its context behind in the connection's.
		s.o.Refused(limitMethodName)
	}
	l := &lease{conn: connOf(ctx), header: info.Header}
	if l.conn == nil { // It could not be ended. Every connection of New's is one of ours.
		return ctx, status.Error(codes.Internal, "internal error")
	}
	l.Context, l.end = context.WithCancel(ctx)
	l.conn.begin(l, s.o.Patience)
	return l, nil
}

func leaseOf(ctx context.Context) *lease {
	l, _ := ctx.Value(leaseKey{}).(*lease)
	return l
}

// close ends the lease with its call, and returns the limit that did so before;
// empty means none.
func (l *lease) close() string {
	l.until.Store(0)
	switch {
	case !l.over.Load():
		return ""
	case l.reading.Load():
		return limitSlowReader
	}
	return limitSlowMessage
}

// arrived says that a message is there. It says nothing about reading.
func (l *lease) arrived() {
	if l == nil {
		return
	}
	if until := l.until.Load(); !l.reading.Load() {
		l.until.CompareAndSwap(until, 0) // Unless it has become about reading since.
	}
}

// unstick ends a call, some time after the stream to the service has: its
// handler may be blocked by a caller who does not read. The returned function
// takes that back, and leaves no goroutine of it behind.
func unstick(ctx, up context.Context) func() {
	l := leaseOf(ctx)
	if l == nil {
		return func() {}
	}
	ran := make(chan struct{})
	stop := context.AfterFunc(up, func() {
		defer close(ran)
		if l.Err() != nil { // The call is over, and this the end of its stream.
			return
		}
		l.reading.Store(true)
		l.conn.late(l, time.Now().Add(stuck))
	})
	return func() {
		if !stop() {
			<-ran
		}
	}
}
