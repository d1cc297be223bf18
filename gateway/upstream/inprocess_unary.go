package upstream

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Unary calls are ours, for every composite is one: inprocgrpc's wake the caller for
// each of header, message and end (docs/decisions/0016-composites.md). Streams are
// inprocgrpc's.

// unaryMethod is a method as its service registered it.
type unaryMethod struct {
	srv    any
	handle grpc.MethodHandler
}

// RegisterService implements grpc.ServiceRegistrar.
func (t *inProcess) RegisterService(desc *grpc.ServiceDesc, srv any) {
	t.Channel.RegisterService(desc, srv)
	for _, m := range desc.Methods {
		t.unary["/"+desc.ServiceName+"/"+m.MethodName] = unaryMethod{srv, grpc.MethodHandler(m.Handler)}
	}
}

// Invoke makes a unary call; its metadata is the context's.
func (t *inProcess) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	for _, o := range opts {
		if _, ok := o.(grpc.PerRPCCredsCallOption); ok {
			return t.Channel.Invoke(ctx, method, in, out, opts...)
		}
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	return t.call(ctx, md, method, in, out, opts...)
}

// call makes a unary call. The service runs on a goroutine of its own: one that
// heeds no deadline holds up nobody. A prompt one runs on the caller's, and wakes
// nobody.
func (t *inProcess) call(ctx context.Context, md metadata.MD, method string, in, out any, opts ...grpc.CallOption) error {
	m, ok := t.unary[method]
	if !ok {
		return status.Error(codes.Unimplemented, "no such method in this process")
	}
	c := &unaryCall{method: method}
	if t.host.Prompt {
		t.serve(newServing(ctx, md, c), m, c, in)
	} else {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		c.done = make(chan struct{})
		go t.serve(newServing(ctx, md, c), m, c, in)
		select {
		case <-c.done:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	c.tell(opts)
	if c.err != nil {
		return c.err
	}
	return receive(out, c.resp)
}

// tell gives the caller what its options ask for.
func (c *unaryCall) tell(opts []grpc.CallOption) {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = c.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = c.trailer
		case grpc.PeerCallOption:
			*o.PeerAddr = here
		}
	}
}

// serve runs the service's handler; whatever it does, the call is done.
func (t *inProcess) serve(ctx context.Context, m unaryMethod, c *unaryCall, in any) {
	defer c.finish()
	defer t.host.level(ctx, c.method, &c.err)
	decode := func(into any) error { return cloner{}.Copy(into, in) }
	c.resp, c.err = m.handle(m.srv, ctx, decode, t.intercept)
}

// receive sets out to a service's answer, which is bounded.
func receive(out, resp any) error {
	if m, ok := resp.(proto.Message); resp == nil || ok && !m.ProtoReflect().IsValid() {
		return status.Error(codes.Internal, "handler returned neither error nor response message")
	}
	f, wanted := out.(*wire.Frame)
	if !wanted {
		f = &wire.Frame{}
		defer f.Free()
	}
	if err := (wire.Cloner{}).Copy(f, resp); err != nil {
		return err
	}
	if n := len(f.Data); n > MaxMessageBytes {
		f.Free()
		return tooLarge(n)
	}
	if wanted {
		return nil
	}
	return wire.Cloner{}.Copy(out, f)
}

// unaryCall is what the two sides share. The serving side writes until done is
// closed, the caller reads after that.
type unaryCall struct {
	method string
	done   chan struct{} // nil where both sides are one goroutine
	resp   any
	err    error

	mu              sync.Mutex // The handler's own goroutines may set headers, too.
	header, trailer metadata.MD
	sent, finished  bool
}

var errHeaderSent = errors.New("upstream: the header was sent, or the call has ended")

func (c *unaryCall) finish() {
	c.mu.Lock()
	c.finished = true
	c.mu.Unlock()
	if c.done != nil {
		close(c.done)
	}
}

// Method implements grpc.ServerTransportStream, as do those that follow.
func (c *unaryCall) Method() string { return c.method }

// SetHeader adds to the header.
func (c *unaryCall) SetHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setHeader(md)
}

// SendHeader adds to the header, which then is whole.
func (c *unaryCall) SendHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.setHeader(md)
	c.sent = true
	return err
}

func (c *unaryCall) setHeader(md metadata.MD) error {
	if c.sent || c.finished {
		return errHeaderSent
	}
	c.header = metadata.Join(c.header, md)
	return nil
}

// SetTrailer adds to the trailer.
func (c *unaryCall) SetTrailer(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		return errHeaderSent
	}
	c.trailer = metadata.Join(c.trailer, md)
	return nil
}
