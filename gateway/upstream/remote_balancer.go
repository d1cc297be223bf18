package upstream

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	_ "google.golang.org/grpc/health" // Client side health checks.
	"google.golang.org/grpc/resolver"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/discovery"
)

// balancerName is our balancer's in service configs, which nobody but us writes.
const balancerName = "sluice"

// grpc-go finds balancers by name in a global table, which may be written to at
// initialization only. Ours holds nothing: what it works on comes with each
// connection's resolver.
func init() { balancer.Register(balancerBuilder{}) }

type balancerBuilder struct{}

func (balancerBuilder) Name() string { return balancerName }

func (balancerBuilder) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	return &spreader{cc: cc, backends: map[string]*backend{}}
}

// spreader keeps a connection to each backend, and tells their group how they are.
// grpc-go calls all its methods, and the listeners, one after the other.
type spreader struct {
	cc       balancer.ClientConn
	group    *balance.Group[*backend]
	backends map[string]*backend // by address
	lookup   error               // why discovery failed last; nil after it did not
}

// backend is a connection, in its group's Member.
type backend struct {
	conn balancer.SubConn
	// done and doneCallers end a call; the second where its deadline was the caller's.
	// They are made once, so that a pick allocates nothing.
	done, doneCallers func(balancer.DoneInfo)

	state      balance.State
	err        error
	badWatches int // of health, in a row
}

// UpdateClientConnState follows discovery. Connections to backends that are gone are
// shut down: grpc-go lets their calls finish.
func (s *spreader) UpdateClientConnState(state balancer.ClientConnState) error {
	k, ok := state.ResolverState.Attributes.Value(knownKey{}).(*known)
	if !ok {
		return errors.New("this balancer works with its own resolver only")
	}
	s.group, s.lookup = k.remote.group, nil
	gone := s.group.Update(k.backends, func(m *balance.Member[*backend], b discovery.Backend) *backend { return s.open(k, m, b) })
	for _, b := range gone {
		for addr, have := range s.backends {
			if have == b {
				delete(s.backends, addr)
			}
		}
	}
	s.publish() // Before the shutdown, so that calls which find a closed connection can pick again.
	for _, b := range gone {
		if b.conn != nil {
			b.conn.Shutdown()
		}
	}
	return nil
}

func (s *spreader) open(k *known, m *balance.Member[*backend], to discovery.Backend) *backend {
	b := &backend{
		done:        func(d balancer.DoneInfo) { m.Done(outcome(d, false)) },
		doneCallers: func(d balancer.DoneInfo) { m.Done(outcome(d, true)) },
	}
	//nolint:staticcheck // Deprecated are several addresses; there is no other way to one.
	conn, err := s.cc.NewSubConn([]resolver.Address{k.address(to)}, balancer.NewSubConnOptions{
		StateListener: func(st balancer.SubConnState) { s.changed(to.Addr, b, k.check, st) },
	})
	if err != nil { // The connection is closing.
		b.err = err
		return b
	}
	b.conn = conn
	s.backends[to.Addr] = b
	conn.Connect()
	return b
}

// changed follows a connection.
func (s *spreader) changed(addr string, b *backend, check bool, st balancer.SubConnState) {
	switch st.ConnectivityState {
	case connectivity.Ready:
		b.badWatches = 0
		if !check {
			s.set(addr, b, balance.Ready, nil)
			return
		}
		// What cannot be reached stays that until it says that it serves.
		if b.state != balance.Failed {
			s.set(addr, b, balance.Connecting, nil)
		}
		b.conn.RegisterHealthListener(func(st balancer.SubConnState) { s.checked(addr, b, st) })
	case connectivity.TransientFailure:
		s.set(addr, b, balance.Failed, st.ConnectionError)
	case connectivity.Idle:
		b.conn.Connect()
		fallthrough
	case connectivity.Connecting:
		// After a failure it stays failed until it is ready: calls should fail at once
		// rather than wait for each attempt.
		if b.state != balance.Failed {
			s.set(addr, b, balance.Connecting, nil)
		}
	case connectivity.Shutdown:
	}
}

// watchFailed is what grpc-go says when the watch of a backend's health broke, not its
// health. It begins another at once, so one alone changes nothing.
const watchFailed = "received health check RPC error"

// checked follows the health of a connection that is up.
func (s *spreader) checked(addr string, b *backend, st balancer.SubConnState) {
	switch st.ConnectivityState {
	case connectivity.Ready:
		b.badWatches = 0
		s.set(addr, b, balance.Ready, nil)
	case connectivity.TransientFailure:
		if st.ConnectionError != nil && strings.Contains(st.ConnectionError.Error(), watchFailed) {
			if b.badWatches++; b.badWatches == 1 && b.state == balance.Ready {
				return
			}
		}
		s.set(addr, b, balance.Unhealthy, st.ConnectionError)
	default: // The watch begins.
	}
}

func (s *spreader) set(addr string, b *backend, state balance.State, err error) {
	if s.backends[addr] != b { // It is gone.
		return
	}
	b.state, b.err = state, err
	s.group.Set(addr, state, err)
	s.publish()
}

// publish wakes calls that wait for a connection.
func (s *spreader) publish() {
	if s.group == nil {
		return
	}
	state, none := connectivity.TransientFailure, errNoBackends
	if s.lookup != nil {
		none = fmt.Errorf("%s: %w", noBackend, s.lookup)
	}
	for _, b := range s.backends {
		switch b.state {
		case balance.Ready, balance.Unhealthy:
			state = connectivity.Ready
		case balance.Connecting:
			if state != connectivity.Ready {
				state = connectivity.Connecting
			}
		case balance.Failed:
			none = fmt.Errorf("%s: %w", noBackend, b.err)
		}
	}
	if state != connectivity.TransientFailure {
		// Where some can be called, a call that finds nobody is ahead of the next picker:
		// the group has changed, and grpc-go is about to hear.
		none = balancer.ErrNoSubConnAvailable
	}
	s.cc.UpdateState(balancer.State{ConnectivityState: state, Picker: &picker{group: s.group, none: none}})
}

// ResolverError keeps what is known; without anything, calls fail with the error.
func (s *spreader) ResolverError(err error) {
	s.lookup = err
	if s.group == nil {
		s.cc.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: failing{fmt.Errorf("%s: %w", noBackend, err)}})
		return
	}
	s.publish()
}

// UpdateSubConnState is not called: each connection has a listener.
func (*spreader) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle does nothing: connections are never let idle.
func (*spreader) ExitIdle() {}

// Close forgets the backends: grpc-go closes the connections.
func (s *spreader) Close() {
	if s.group != nil {
		s.group.Update(nil, nil)
	}
}
