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

// Invoke implements Target.
func (t *inProcess) Invoke(ctx context.Context, method string, request, response *wire.Frame, header, trailer *metadata.MD) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	return t.call(ctx, md, method, request, response, header, trailer)
}

// call makes a unary call. The service runs on a goroutine of its own: one that
// heeds no deadline holds up nobody. A prompt one runs on the caller's, and wakes
// nobody.
func (t *inProcess) call(ctx context.Context, md metadata.MD, method string, request, response *wire.Frame, header, trailer *metadata.MD) error {
	m, ok := t.unary[method]
	if !ok {
		return status.Error(codes.Unimplemented, "no such method in this process")
	}
	c := &unaryCall{method: method}
	if t.host.Prompt {
		t.serve(newServing(ctx, md, c), m, c, request)
	} else {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		c.done = make(chan struct{})
		go t.serve(newServing(ctx, md, c), m, c, request)
		select {
		case <-c.done:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if header != nil {
		*header = c.header
	}
	if trailer != nil {
		*trailer = c.trailer
	}
	if c.err != nil {
		return c.err
	}
	return receive(response, c.resp)
}

// serve runs the service's handler; whatever it does, the call is done.
func (t *inProcess) serve(ctx context.Context, m unaryMethod, c *unaryCall, request *wire.Frame) {
	defer c.finish()
	defer t.host.level(ctx, c.method, &c.err)
	decode := func(into any) error { return wire.Cloner{}.Copy(into, request) }
	c.resp, c.err = m.handle(m.srv, ctx, decode, t.intercept)
}

// receive sets a response to a service's answer, which is bounded.
func receive(response *wire.Frame, resp any) error {
	if m, ok := resp.(proto.Message); resp == nil || ok && !m.ProtoReflect().IsValid() {
		return status.Error(codes.Internal, "handler returned neither error nor response message")
	}
	if err := (wire.Cloner{}).Copy(response, resp); err != nil {
		return err
	}
	if n := len(response.Data); n > MaxMessageBytes {
		response.Free()
		return tooLarge(n)
	}
	return nil
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
