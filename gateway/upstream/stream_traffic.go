package upstream

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// firstAnswer is how long a breaker waits for a stream's first message, which tells how the
// service is: who watches may wait for that for hours.
const firstAnswer = 2 * time.Second

// acquire asks whether the stream may be opened.
func (s *stream) acquire(to *destination) error {
	if to.class == nil {
		return nil
	}
	permit, err := to.class.Acquire(priority(s.call))
	if err != nil {
		return refused(s.call, err)
	}
	s.permit.Store(permit.Place())
	if s.ctx.Err() != nil { // It ended before there was a permit to be done.
		s.settle(resilience.Ignored)
	}
	time.AfterFunc(firstAnswer, func() { s.settle(resilience.Ignored) })
	return nil
}

// settle tells, once, what came of opening the stream.
func (s *stream) settle(o resilience.Outcome) {
	if permit := s.permit.Swap(nil); permit != nil {
		permit.Done(o)
	}
}

// opened takes the stream out of the calls in flight: when there is something to say to who
// watches, its first message too, is no matter of load.
func (s *stream) opened() {
	if permit := s.permit.Load(); permit != nil {
		permit.Leave()
	}
}

// blame tells of a failure before any answer where the permit is done already.
func (s *stream) blame(err error) {
	to := s.to.Load()
	if to == nil || to.class == nil || tells(s.ctx, s.call, failure(s.route, err)) != resilience.Failure {
		return
	}
	if permit, err := to.class.AcquireAgain(resilience.Whole); err == nil {
		permit.Done(resilience.Failure)
	}
}

// begin calls the service.
func (s *stream) begin(ctx context.Context, to *destination) (grpc.ClientStream, error) {
	s.call.Attempts = 1
	s.to.Store(to)
	if to.here != nil || s.route.traffic == nil {
		return to.target.NewStream(ctx, s.route.stream, s.route.method.FullName)
	}
	picked := &balance.Carried{Context: ctx, Pick: balance.Pick{CallersDeadline: s.call.Shortened}}
	inner, err := to.target.NewStream(picked, s.route.stream, s.route.method.FullName)
	s.call.Backend = picked.Pick.Chosen
	return inner, err
}
