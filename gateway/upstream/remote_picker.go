package upstream

import (
	"errors"

	"google.golang.org/grpc/balancer"

	"github.com/sluice-gateway/sluice/gateway/balance"
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
