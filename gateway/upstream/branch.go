package upstream

import (
	"bytes"
	"context"

	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Branches is what composites call others with: each call is admitted for its own method,
// on behalf of the caller that ctx carries. Safe for concurrent use.
type Branches interface {
	// Call sends the bytes of a request and returns those of the response, which are the
	// caller's. They are a message of the method: others are BAD_UPSTREAM_RESPONSE. What
	// the composite can do without, its context says (policy.WithOptional).
	Call(ctx context.Context, method string, request []byte) ([]byte, error)
	// The generated clients of composites that are written in Go, see adapter.go.
	grpc.ClientConnInterface
}

// Branches returns the connection that composites call.
func (c *Conn) Branches() Branches { return branches{c} }

type branches struct{ c *Conn }

// Call implements Branches.
func (b branches) Call(ctx context.Context, method string, request []byte) ([]byte, error) {
	var x struct { // One allocation.
		request wire.Frame
		answer  Answer
	}
	x.request.Data = request
	if err := b.call(ctx, method, &x.request, &x.answer); err != nil {
		return nil, err
	}
	// A copy: the response may live as long as the composite likes, and the frame's
	// memory, which can be a pool's and far larger, goes back at once.
	response := bytes.Clone(x.answer.Message.Data)
	x.answer.Message.Free()
	return response, nil
}

// call makes a branch and sends it. The answer's message is one of the method's.
func (b branches) call(ctx context.Context, method string, request *wire.Frame, a *Answer) error {
	ctx, call, err := b.admit(ctx, method)
	if err != nil {
		return err
	}
	a.Reads = true
	defer a.Read(nil) // Where something panics before.
	if err = b.c.Call(ctx, call, request, a); err == nil {
		err = b.c.check(ctx, call, b.c.routes[method], a)
	}
	call.Done(err)
	return err
}

func (b branches) admit(ctx context.Context, method string) (context.Context, *policy.Call, error) {
	r := b.c.routes[method]
	if r == nil {
		return ctx, nil, errNoMethod
	}
	ctx, call, err := b.c.o.Branch.Branch(ctx, policy.Admitted(ctx), r.method)
	if err != nil && call != nil {
		b.c.denied(call)
		call.Done(err)
	}
	return ctx, call, err
}
