package upstream

import (
	"bytes"
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Branches returns the connection that composites call: each call is admitted
// for its own method, on behalf of the caller that ctx carries.
//
// A call whose out is a *emptypb.Empty, of a method that answers something else,
// is not parsed: the answer's bytes become the unknown fields of out. They are
// checked as parsing would, and an answer that is no message of the method is
// BAD_UPSTREAM_RESPONSE, as ever.
func (c *Conn) Branches() grpc.ClientConnInterface { return branches{c} }

type branches struct{ c *Conn }

func (b branches) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	ctx, err := b.admit(ctx, method)
	if err != nil {
		return err
	}
	call := policy.Admitted(ctx)
	if in, err = asBytes(in); err == nil {
		err = b.c.Invoke(ctx, method, in, out, opts...)
	}
	call.Done(err)
	return err
}

// asBytes writes a composite's request once, before the entry checks: they must
// see what the service will, and a message may hold as unknown fields, which are
// fields to the service, what the composite has passed on unread.
func asBytes(in any) (any, error) {
	m, ok := in.(proto.Message)
	if !ok {
		return in, nil
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, status.Error(codes.Internal, msgInternal)
	}
	return &wire.Frame{Data: b}, nil
}

func (b branches) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, err := b.admit(ctx, method)
	if err != nil {
		return nil, err
	}
	st, err := b.c.NewStream(ctx, desc, method, opts...)
	if err != nil {
		policy.Admitted(ctx).Done(err)
		return nil, err
	}
	// The stream's context ends with it.
	context.AfterFunc(st.Context(), func() { policy.Admitted(ctx).Done(context.Cause(st.Context())) })
	return branchStream{st}, nil
}

type branchStream struct{ grpc.ClientStream }

func (s branchStream) SendMsg(m any) error {
	in, err := asBytes(m)
	if err != nil {
		return err
	}
	return s.ClientStream.SendMsg(in)
}

func (b branches) admit(ctx context.Context, method string) (context.Context, error) {
	r := b.c.routes[method]
	if r == nil {
		return ctx, status.Error(codes.Unimplemented, "no such method")
	}
	ctx, call, err := b.c.o.Branch.Branch(ctx, policy.Admitted(ctx), r.method)
	if err != nil && call != nil {
		b.c.denied(call)
		call.Done(err)
	}
	return ctx, err
}

var emptyName = (*emptypb.Empty)(nil).ProtoReflect().Descriptor().FullName()

// send makes the call. Where out is an Empty that stands for an answer unread, it
// is made with a frame.
func (r *route) send(ctx context.Context, p *place, md sent, in, out any, opts ...grpc.CallOption) error {
	unread, ok := out.(*emptypb.Empty)
	if !ok || r.answer == nil {
		return r.invoke(ctx, p, md, in, out, opts...)
	}
	var f wire.Frame
	if err := r.invoke(ctx, p, md, in, &f, opts...); err != nil {
		return err
	}
	defer f.Free()
	if err := r.answer.Check(f.Data); err != nil {
		// As grpc-go says it, had it read the message.
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	// A copy: the composite's answer may live as long as it likes, and the frame's
	// memory, which can be a pool's and far larger, goes back at once.
	unread.ProtoReflect().SetUnknown(bytes.Clone(f.Data))
	return nil
}

func (r *route) invoke(ctx context.Context, p *place, md sent, in, out any, opts ...grpc.CallOption) error {
	if p.here != nil {
		return p.here.call(ctx, md.here(), r.method.FullName, in, out, r.asked(opts)...)
	}
	err := p.target.Invoke(md.out(ctx), r.method.FullName, in, out, r.asked(opts)...)
	if err == nil && p == &r.place && r.ending.bounded && !r.ending.reached.Load() { // Not a shadow's.
		r.ending.reached.Store(true)
	}
	return err
}

// out is context with what header rules add.
func (s sent) out(ctx context.Context) context.Context {
	ctx = s.context(ctx)
	if len(s.more) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, s.more...)
	}
	return ctx
}

// here is metadata with what header rules add.
func (s sent) here() metadata.MD {
	md := s.metadata()
	for i := 0; i < len(s.more); i += 2 {
		md.Append(s.more[i], s.more[i+1])
	}
	return md
}
