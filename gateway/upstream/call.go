package upstream

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Sender sends admitted calls, as a Conn does. The edges know no more of this package's
// doing; their tests have stand-ins.
type Sender interface {
	// Call sends a unary call and fills in its answer. ctx carries call as admitted. The
	// request's memory is the caller's: after an error a service in this process may
	// still be reading it, and it must be left to the garbage collector. The error is a
	// status that the caller may see.
	Call(ctx context.Context, call *policy.Call, request *wire.Frame, a *Answer) error
	// Stream opens a streaming call, which ends when ctx does at the latest.
	Stream(ctx context.Context, call *policy.Call) (Stream, error)
}

// Stream is a streaming call. One goroutine may send while another receives. Errors are
// as of Call; io.EOF of Send says that Receive knows why, and of Receive that the stream
// ended well.
type Stream interface {
	// Send sends a message, whose memory may be freed when it returns.
	Send(m *wire.Frame) error
	// CloseSend says that no more messages are sent.
	CloseSend() error
	// Receive waits for a message, which is the caller's to free.
	Receive(m *wire.Frame) error
	// Header waits for the header, Trailer is there when the stream has ended: what the
	// method's rule lets pass of them.
	Header() (metadata.MD, error)
	Trailer() metadata.MD
	// Context ends with the stream.
	Context() context.Context
}

// Call implements Sender: it is the way of every unary RPC out of the gateway.
func (c *Conn) Call(ctx context.Context, call *policy.Call, request *wire.Frame, a *Answer) error {
	r, err := c.admitted(ctx, call)
	if err != nil {
		return err
	}
	if r.stream != nil { // A composite of a team may name one.
		return errNotUnary
	}
	if ctx, err = c.enter(ctx, call, request.Data); err != nil {
		return err
	}
	if err := r.readable(call, request.Data); err != nil {
		return err
	}
	if r.caching != nil {
		err = c.cached(ctx, call, r, request, a)
	} else {
		err = c.send(ctx, call, r, request, a)
	}
	r.respond(call)
	return err
}

// admitted finds the route of a call that ctx carries as admitted.
func (c *Conn) admitted(ctx context.Context, call *policy.Call) (*route, error) {
	if call == nil || call.Method == nil || policy.Admitted(ctx) != call {
		c.o.Logger.ErrorContext(ctx, "refused a call that was not admitted")
		return nil, status.Error(codes.Internal, msgInternal)
	}
	r := c.routes[call.Method.FullName]
	if r == nil {
		return nil, errNoMethod
	}
	if r.method != call.Method { // By the rule of another snapshot.
		c.o.Logger.ErrorContext(ctx, "refused a call that was not admitted", "grpc_method", call.Method.FullName)
		return nil, status.Error(codes.Internal, msgInternal)
	}
	return r, nil
}

var (
	errNoMethod = status.Error(codes.Unimplemented, "no such method")
	errNotUnary = status.Error(codes.Internal, "the method streams: it cannot be called for one message")
)

// enter runs the entry checks on the bytes that will be sent.
func (c *Conn) enter(ctx context.Context, call *policy.Call, request []byte) (context.Context, error) {
	call.Message = policy.Message{Wire: request}
	ctx, err := c.o.Entry.Run(ctx, call)
	call.Message = policy.Message{}
	if err != nil {
		c.denied(call)
	}
	return ctx, err
}

func (c *Conn) denied(call *policy.Call) {
	if c.o.Observer != nil {
		c.o.Observer.Denied(call.DeniedBy, call.Method)
	}
}

// send sends a call that may go: its deadline, span, variant, assertion, attempts, and
// the error made public.
func (c *Conn) send(ctx context.Context, call *policy.Call, r *route, request *wire.Frame, a *Answer) error {
	start := time.Now()
	call.Attempts = 0 // A team's interceptor may call twice.
	most, shortened := r.most(call, start)
	r.ends(ctx, call, start, most, shortened)
	ctx, cancel := r.within(ctx, start, most)
	defer cancel()
	ctx, span := c.startSpan(ctx, r)
	s := sending{c: c, call: call, r: r, span: span, request: request, answer: a}
	permit, err := s.begin(ctx)
	a.Header, a.Trailer = c.passed(ctx, call, r, a.Header), c.passed(ctx, call, r, a.Trailer)
	switch {
	case call.Attempts == 0: // Nothing was sent.
		endSpan(span, err)
	case err == nil && a.Reads:
		s.await(permit, start)
	default:
		permit.Done(resilience.Success)
		c.done(r, s.to, call.Attempts, span, start, err)
	}
	return err
}

// begin chooses where the call goes, says who calls, and makes the attempts.
func (s *sending) begin(ctx context.Context) (permit resilience.Permit, err error) {
	if s.to, err = s.c.prepare(ctx, s.call, s.r); err != nil {
		return permit, err
	}
	if s.md, err = s.c.outgoing(ctx, s.call, s.r); err != nil {
		return permit, err
	}
	if traffic := s.r.traffic; traffic != nil {
		s.call.Upstream = s.to.name
		traffic.add(&s.md, spokenOf(ctx, s.call, s.r), s.r)
		traffic.shadow.copy(s.r, s.md, s.request)
	}
	return s.attempts(ctx)
}

// invoke calls a destination once.
func (r *route) invoke(ctx context.Context, to *destination, md sent, request *wire.Frame, a *Answer) error {
	var header, trailer *metadata.MD
	if r.pass.Responds() { // Else grpc-go would copy them for nobody.
		header, trailer = &a.Header, &a.Trailer
	}
	if to.here != nil {
		return to.here.call(ctx, md.here(), r.method.FullName, request, &a.Message, header, trailer)
	}
	err := to.target.Invoke(md.out(ctx), r.method.FullName, request, &a.Message, header, trailer)
	if err == nil && to == &r.destination && r.ending.bounded && !r.ending.reached.Load() { // Not a shadow's.
		r.ending.reached.Store(true)
	}
	return err
}
