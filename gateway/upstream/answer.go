package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/transcode"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Answer is what comes of a unary call. Who calls makes it, for one call, and frees its
// message. It is not to be copied.
type Answer struct {
	// Reads says, before the call, that who calls reads the message itself. It must then
	// call Read once, whatever the call returned: until then nobody knows whether the
	// service has answered what it should.
	Reads bool
	// Message is the response. It is not looked at here, but where answers are cached.
	Message wire.Frame
	// Header and Trailer are what the method's rule lets pass of the service's. A failure
	// has them, too.
	Header, Trailer metadata.MD
	// Cached is the entry that the message is from, where the response cache holds it: an
	// edge keeps beside it how it is rendered. Nil where it does not.
	Cached *cache.Entry
	// Apart says that Cached is not for every caller of a public rule: it is a canary's,
	// or a service was told of the caller. HTTP caches cannot know by what.
	Apart bool

	unread *unread // nil where nobody is to be told
}

// Read says whether the message could be read; nil says that it could, or that nobody
// tried. The second of two calls does nothing, so it can be deferred.
func (a *Answer) Read(err error) {
	if u := a.unread; u != nil {
		a.unread = nil
		u.read(err)
	}
}

// reset takes away what a failed attempt may have left: a service can fail after it has
// answered.
func (a *Answer) reset() {
	a.Message.Free()
	a.Message = wire.Frame{}
	a.Header, a.Trailer = nil, nil
}

// unread is an attempt that was answered by what is still to be read.
type unread struct {
	s      sending
	permit resilience.Permit
	start  time.Time
}

var unreads = sync.Pool{New: func() any { return new(unread) }}

// await has the attempt's outcome told when its answer has been read.
func (s *sending) await(permit resilience.Permit, start time.Time) {
	u := unreads.Get().(*unread)
	*u = unread{s: *s, permit: permit, start: start}
	s.answer.unread = u
}

func (u *unread) read(err error) {
	o := resilience.Success
	if err != nil {
		if o = resilience.Failure; errors.Is(err, transcode.ErrTooLarge) { // Its size was asked for.
			o = resilience.Ignored
		}
		err = badResponse().Err()
	}
	u.permit.Done(o)
	u.s.c.done(u.s.r, u.s.to, u.s.call.Attempts, u.s.span, u.start, err)
	*u = unread{}
	unreads.Put(u)
}

// check reads the message for who wants it whole, and returns the caller's error where
// it is none of the method's.
func (c *Conn) check(ctx context.Context, call *policy.Call, r *route, a *Answer) error {
	why := r.response.Check(a.Message.Data)
	a.Read(why)
	if why == nil {
		return nil
	}
	a.Message.Free()
	return c.public(ctx, call, r, unreadableAnswer(why))
}

// unreadableAnswer says it as grpc-go does of a message that it cannot read.
func unreadableAnswer(why error) error { return status.Errorf(codes.Internal, "%s: %v", unparsed, why) }

// done tells what came of a call that was sent.
func (c *Conn) done(r *route, to *destination, attempts int, span trace.Span, start time.Time, err error) {
	if span != nil && (attempts > 1 || to.variant != "") {
		span.SetAttributes(attribute.Int("sluice.attempts", attempts), attribute.String("sluice.variant", to.variant))
	}
	endSpan(span, err)
	code := status.Code(err)
	if c.o.Observer != nil {
		c.o.Observer.UpstreamDone(r.method, to.name, code, time.Since(start), span)
	}
	if r.traffic != nil && len(r.traffic.canaries) > 0 {
		c.metrics.variants.WithLabelValues(r.method.Service, to.variant, counted(code)).Inc()
	}
}
