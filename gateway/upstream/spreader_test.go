package upstream

import (
	"errors"
	"testing"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/discovery"
)

// grpcSide is what a balancer sees of its connection.
type grpcSide struct {
	balancer.ClientConn
	picker   balancer.Picker
	changed  func(connectivity.State) // told of each state, before its picker is used
	listener func(balancer.SubConnState)
}

func (g *grpcSide) NewSubConn(_ []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	g.listener = o.StateListener
	return &subConn{}, nil
}

func (g *grpcSide) UpdateState(s balancer.State) {
	if g.changed != nil {
		g.changed(s.ConnectivityState)
	}
	g.picker = s.Picker
}

type subConn struct{ balancer.SubConn }

func (*subConn) Connect()  {}
func (*subConn) Shutdown() {}

// TestPickWhileThingsChange: the only backend asks its clients to come again (GOAWAY).
// A call that comes before grpc-go has the next picker waits for that, rather than
// fail as though nobody were there.
func TestPickWhileThingsChange(t *testing.T) {
	group, err := balance.New[*backend](balance.Options{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	g := &grpcSide{}
	s := balancerBuilder{}.Build(g, balancer.BuildOptions{}).(*spreader)
	k := &known{remote: &remote{name: "x", group: group}, backends: []discovery.Backend{{Addr: "a:1"}}}
	if err := s.UpdateClientConnState(balancer.ClientConnState{ResolverState: resolver.State{Attributes: attributes.New(knownKey{}, k)}}); err != nil {
		t.Fatal(err)
	}
	g.listener(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	if _, err := g.picker.Pick(balancer.PickInfo{Ctx: t.Context()}); err != nil {
		t.Fatal(err)
	}
	asked := 0
	g.changed = func(now connectivity.State) {
		asked++
		if _, err := g.picker.Pick(balancer.PickInfo{Ctx: t.Context()}); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
			t.Errorf("on its way to %v: %v", now, err)
		}
	}
	g.listener(balancer.SubConnState{ConnectivityState: connectivity.Idle})
	if asked == 0 {
		t.Error("the picker was not replaced")
	}
}
