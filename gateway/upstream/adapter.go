package upstream

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Composites that are written in Go may have generated clients. Here their messages become
// bytes, and bytes messages again: nothing else in this package knows types. Of the
// options of a unary call, Header and Trailer are heeded, and of a stream none.

// Invoke implements grpc.ClientConnInterface.
func (b branches) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	var request wire.Frame
	var a Answer
	if err := encodeOwn(&request, in); err != nil {
		return err
	}
	err := b.call(ctx, method, &request, &a)
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = a.Header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = a.Trailer
		}
	}
	if err != nil {
		return err
	}
	request.Free()
	err = wire.Cloner{}.Copy(out, &a.Message)
	a.Message.Free()
	return err
}

// encodeOwn sets a frame to a composite's own message. One without a wire form is the
// composite's mistake, not its caller's.
func encodeOwn(f *wire.Frame, m any) error {
	if (wire.Cloner{}).Copy(f, m) != nil {
		return status.Error(codes.Internal, msgInternal)
	}
	return nil
}

// NewStream implements grpc.ClientConnInterface.
func (b branches) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, call, err := b.admit(ctx, method)
	if err != nil {
		return nil, err
	}
	st, err := b.c.newStream(ctx, call)
	if err != nil {
		call.Done(err)
		return nil, err
	}
	// The stream's context ends with it.
	context.AfterFunc(st.Context(), func() { call.Done(context.Cause(st.Context())) })
	return branchStream{st}, nil
}

type branchStream struct{ *stream }

// SendMsg implements grpc.ClientStream.
func (s branchStream) SendMsg(m any) error {
	var f wire.Frame
	if err := encodeOwn(&f, m); err != nil {
		return err
	}
	defer f.Free()
	return s.Send(&f)
}

// RecvMsg implements grpc.ClientStream.
func (s branchStream) RecvMsg(m any) error {
	var f wire.Frame
	if err := s.Receive(&f); err != nil {
		return err
	}
	defer f.Free()
	out, ok := m.(proto.Message)
	if !ok {
		return status.Error(codes.Internal, msgInternal)
	}
	if err := proto.Unmarshal(f.Data, out); err != nil {
		return s.fail(unreadableAnswer(err))
	}
	return nil
}
