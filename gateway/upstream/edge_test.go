package upstream_test

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// edge calls a Conn as the edges do: REST has messages, gRPC bytes.
type edge struct{ *upstream.Conn }

// Invoke makes the call that ctx carries. in and out are messages or frames.
func (e edge) Invoke(ctx context.Context, _ string, in, out any, header ...*metadata.MD) error {
	var a upstream.Answer
	request, err := frameOf(in)
	if err != nil {
		return err
	}
	err = e.Call(ctx, policy.Admitted(ctx), request, &a)
	for _, h := range header {
		*h = a.Header
	}
	if err != nil {
		return err
	}
	return wire.Cloner{}.Copy(out, &a.Message)
}

func frameOf(in any) (*wire.Frame, error) {
	m, ok := in.(proto.Message)
	if !ok {
		return in.(*wire.Frame), nil
	}
	f := &wire.Frame{}
	return f, upstream.Encode(f, m, nil)
}

// NewStream opens the stream that ctx carries.
func (e edge) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s, err := e.Stream(ctx, policy.Admitted(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	return edgeStream{s, cancel}, nil
}

type edgeStream struct {
	upstream.Stream
	cancel context.CancelCauseFunc
}

func (s edgeStream) SendMsg(m any) error {
	f, err := frameOf(m)
	if err != nil {
		s.cancel(err)
		return err
	}
	return s.Send(f)
}

func (s edgeStream) RecvMsg(m any) error {
	var f wire.Frame
	if err := s.Receive(&f); err != nil {
		return err
	}
	return wire.Cloner{}.Copy(m, &f)
}

// invoke calls a target with messages or frames.
func invoke(ctx context.Context, target upstream.Target, method string, in, out any) error {
	request, err := frameOf(in)
	if err != nil {
		return err
	}
	var f wire.Frame
	if err := target.Invoke(ctx, method, request, &f, nil, nil); err != nil {
		return err
	}
	return wire.Cloner{}.Copy(out, &f)
}
