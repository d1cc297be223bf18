package upstream

import (
	"errors"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// noBackend begins the message of a call that was sent to nobody.
const noBackend = "no backend can be called"

var errNoBackends = errors.New(noBackend + ": discovery knows none")

// picker asks the group. It is made anew only to wake calls that wait.
type picker struct {
	group *balance.Group[*backend]
	none  error
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	wish := balance.PickOf(info.Ctx)
	m := p.group.Pick(wish)
	if m == nil {
		return balancer.PickResult{}, p.none
	}
	r := balancer.PickResult{SubConn: m.Conn.conn, Done: m.Conn.done}
	if wish != nil && wish.CallersDeadline {
		r.Done = m.Conn.doneCallers
	}
	return r, nil
}

// failing is before discovery has said anything.
type failing struct{ err error }

func (f failing) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, f.err
}

// outcome is what a call says of its backend.
func outcome(d balancer.DoneInfo) resilience.Outcome {
	if d.Err == nil {
		if !d.BytesSent { // The connection closed before the call began.
			return resilience.Ignored
		}
		return resilience.Success
	}
	switch status.Code(d.Err) {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.DataLoss:
		return resilience.Failure
	case codes.DeadlineExceeded:
		return resilience.Overload
	case codes.Canceled, codes.ResourceExhausted:
		// The caller's doing, or a bound on callers: elsewhere it would be the same.
		return resilience.Ignored
	default:
		return resilience.Success // An answer, if a refusal.
	}
}

// outcomeCallers is outcome where the deadline was the caller's own: otherwise a
// caller in a hurry could have every backend left out.
func outcomeCallers(d balancer.DoneInfo) resilience.Outcome {
	if o := outcome(d); o != resilience.Overload {
		return o
	}
	return resilience.Ignored
}
