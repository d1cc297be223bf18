package upstream

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// serving is the context of the serving side of a unary call in this process: it
// ends with the caller's, but has none of its values, as over a network; only the
// admission crosses.
type serving struct {
	context.Context                 // the caller's: its deadline and its end
	values          context.Context // the serving side's own
}

func newServing(caller context.Context, md metadata.MD, c *unaryCall) context.Context {
	values := hereContext
	if md != nil {
		values = metadata.NewIncomingContext(values, md)
	}
	values = grpc.NewContextWithServerTransportStream(policy.Carry(values, caller), c)
	return &serving{caller, values}
}

// Value answers of the caller's values only the one by which package context knows
// its own contexts: it then links what is derived from this one to the caller's,
// where for a context that it does not know it starts a goroutine.
func (s *serving) Value(key any) any {
	if key == endKey && key != nil {
		return s.Context.Value(key)
	}
	return s.values.Value(key)
}

// endKey is the key that package context asks a parent for. It is not exported, but
// asked of everybody. Were it ever nil, or another context's, values would still
// not cross: goroutines would be started.
var endKey = func() any {
	p := &asked{Context: context.Background(), done: make(chan struct{})}
	_, cancel := context.WithCancel(p)
	cancel()
	if _, ok := p.key.(*int); !ok {
		return nil
	}
	return p.key
}()

// asked is a parent that notes what it is asked for first. It brings its own
// AfterFunc, so that asking starts no goroutine.
type asked struct {
	context.Context
	done chan struct{}
	key  any
}

func (a *asked) Done() <-chan struct{}        { return a.done }
func (a *asked) AfterFunc(func()) func() bool { return func() bool { return true } }

func (a *asked) Value(key any) any {
	if a.key == nil {
		a.key = key
	}
	return nil
}

// here is the peer of both sides.
var (
	here        = peer.Peer{Addr: inProcessAddr{}, AuthInfo: inProcessAddr{}}
	hereContext = peer.NewContext(context.Background(), &here)
)

type inProcessAddr struct{}

func (inProcessAddr) Network() string  { return "inproc" }
func (inProcessAddr) String() string   { return "0" }
func (inProcessAddr) AuthType() string { return "inproc" }
