package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Stream implements Sender: it is the way of every streaming RPC out of the gateway. A
// call with one request message is opened when that message is sent, after the entry
// checks have seen it.
func (c *Conn) Stream(ctx context.Context, call *policy.Call) (Stream, error) {
	s, err := c.newStream(ctx, call)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Conn) newStream(ctx context.Context, call *policy.Call) (*stream, error) {
	r, err := c.admitted(ctx, call)
	if err != nil {
		return nil, err
	}
	if r.stream == nil {
		return nil, status.Error(codes.Internal, msgInternal)
	}
	// Rules do not bound streams by a deadline, so one is the caller's; a branch has its own word on it.
	if _, bounded := ctx.Deadline(); bounded && call.Edge != policy.EdgeBranch {
		call.Shortened = true
	}
	s := &stream{conn: c, call: call, route: r, start: time.Now()}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.ctx, s.span = c.startSpan(s.ctx, r)
	s.idleAfter = r.method.Rule.StreamIdle
	s.idle = time.AfterFunc(s.idleAfter, func() { s.cancel(errIdle) })
	s.age = s.endOfAge()
	s.undrain = context.AfterFunc(c.draining, func() { s.cancel(errDraining) })
	s.unwatch = c.o.Watch(call, func(why error) { s.cancel(why) })
	// Whoever stops reading cancels its context, as grpc.ClientConn.NewStream
	// asks: the timers must not outlive that.
	context.AfterFunc(s.ctx, func() { s.finish(publicStatus(s.ctx, status.New(codes.Canceled, msgCanceled), false).Err()) })
	if r.stream.ClientStreams {
		ctx, err := c.enter(s.ctx, call, nil)
		if err == nil {
			err = s.open(ctx)
		}
		if err != nil {
			s.finish(err)
			return nil, err
		}
	}
	return s, nil
}

// endOfAge ends the stream at its maximum age, and with the caller's credential
// if that comes first.
func (s *stream) endOfAge() *time.Timer {
	age, why := s.route.method.Rule.StreamMaxAge, errMaxAge
	if e := s.call.Principal.Expires; !e.IsZero() && time.Until(e) < age {
		age, why = time.Until(e), errExpired
	}
	return time.AfterFunc(age, func() { s.cancel(why) })
}

// stream is a Stream: a target's stream with its checks, its bounds in time and its
// errors made public.
type stream struct {
	conn  *Conn
	call  *policy.Call
	route *route

	ctx    context.Context
	cancel context.CancelCauseFunc
	inner  grpc.ClientStream

	idle, age *time.Timer
	idleAfter time.Duration
	start     time.Time
	span      trace.Span
	once      sync.Once
	to        atomic.Pointer[destination]      // once the service has been called
	permit    atomic.Pointer[resilience.Place] //  until the first answer
	received  bool                             // a message; who receives asks
	undrain   func() bool
	changes   changes // of what is cached
	unwatch   func()  // of the caller's credentials
}

// open calls the service. ctx is what the entry checks made of the stream's.
func (s *stream) open(ctx context.Context) error {
	to, err := s.conn.prepare(s.ctx, s.call, s.route)
	if err != nil {
		return err
	}
	md, err := s.conn.outgoing(ctx, s.call, s.route)
	if err != nil {
		return err
	}
	s.call.Upstream = to.name
	s.route.traffic.add(&md, s.call, s.route)
	s.route.respond(s.call)
	if err := s.acquire(to); err != nil {
		return err
	}
	if s.inner, err = s.begin(md.out(ctx), to); err != nil {
		s.settle(tells(s.ctx, s.call, failure(s.route, err)))
		return s.conn.public(s.ctx, s.call, s.route, err)
	}
	s.opened()
	if s.route.stream.ClientStreams {
		s.settle(resilience.Ignored) // When an answer comes is its caller's to decide.
	}
	return nil
}

// Send implements Stream, as do those that follow.
func (s *stream) Send(m *wire.Frame) error {
	if err := s.mayGo(m); err != nil {
		return err
	}
	s.changes.add(s.route.caching, s.call, m.Data)
	err := s.inner.SendMsg(m)
	switch {
	case err == nil:
		s.idle.Reset(s.idleAfter)
		return nil
	case errors.Is(err, io.EOF): // The outcome is Receive's to tell.
		return err
	}
	return s.fail(err)
}

// mayGo checks a message. The only one of a caller opens the stream, once it may go;
// another that is no message ends the call, and whoever receives is told why.
func (s *stream) mayGo(m *wire.Frame) error {
	if s.inner != nil {
		err := s.route.readable(s.call, m.Data)
		if err != nil {
			s.cancel(err)
		}
		return err
	}
	ctx, err := s.conn.enter(s.ctx, s.call, m.Data)
	if err == nil {
		err = s.route.readable(s.call, m.Data)
	}
	if err == nil {
		err = s.open(ctx)
	}
	if err != nil {
		s.finish(err)
	}
	return err
}

// Receive waits for a message.
func (s *stream) Receive(m *wire.Frame) error {
	if s.inner == nil {
		return status.Error(codes.Internal, msgInternal)
	}
	err := s.inner.RecvMsg(m)
	switch {
	case err == nil:
		s.idle.Reset(s.idleAfter)
		if !s.received {
			s.received = true
			s.settle(resilience.Success)
		}
		if !s.route.stream.ServerStreams { // One message is all there is.
			s.finish(nil)
		}
		return nil
	case errors.Is(err, io.EOF):
		s.settle(resilience.Success)
		s.finish(nil)
		return io.EOF
	}
	if !s.received && s.route.stream.ClientStreams {
		s.blame(err)
	}
	return s.fail(err)
}

// Header waits for the header.
func (s *stream) Header() (metadata.MD, error) {
	if s.inner == nil {
		return nil, status.Error(codes.Internal, msgInternal)
	}
	md, err := s.inner.Header()
	if err != nil {
		return nil, s.fail(err)
	}
	return s.conn.passed(s.ctx, s.call, s.route, md), nil
}

// Trailer is what came behind the messages.
func (s *stream) Trailer() metadata.MD {
	if s.inner == nil {
		return nil
	}
	return s.conn.passed(s.ctx, s.call, s.route, s.inner.Trailer())
}

// CloseSend ends the messages to the service.
func (s *stream) CloseSend() error {
	if s.inner == nil || s.ctx.Err() != nil { // A call that was ended for its messages must not end well.
		return nil
	}
	return s.inner.CloseSend()
}

// Context ends with the stream.
func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) fail(err error) error {
	s.settle(tells(s.ctx, s.call, failure(s.route, err)))
	err = s.conn.public(s.ctx, s.call, s.route, err)
	s.finish(err)
	return err
}

// finish ends the stream once: timers, span, count.
func (s *stream) finish(err error) {
	s.once.Do(func() {
		s.idle.Stop()
		s.age.Stop()
		s.undrain()
		s.unwatch()
		s.cancel(nil)
		s.settle(resilience.Ignored)
		s.changes.done(s.route.caching, err)
		if to := s.to.Load(); to != nil {
			s.conn.done(s.route, to, 1, s.span, s.start, err)
		} else {
			endSpan(s.span, err)
		}
	})
}
