package rest

import (
	"context"
	"errors"
	"io"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// conn stands between the generated handlers and upstream: it is the place
// that sees an exchange and its typed request together.
type conn struct{ next grpc.ClientConnInterface }

func (c conn) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	x := exchangeOf(ctx)
	if x == nil {
		return status.Error(codes.Internal, "internal error")
	}
	if x.handler.Context != nil { // The call ends when the request does, which the handler's context is not told.
		ctx = x.handler.Context
	}
	x.sent = true
	if err := x.fillIdempotencyKey(in); err != nil {
		return err
	}
	if x.binding.answer != nil {
		out = &x.frame
		x.Call.Unread = out // What is wrong with it shows when it is rendered.
	}
	err := c.next.Invoke(ctx, method, in, out, opts...)
	x.answered = err == nil
	for _, o := range opts { // The answer is whole, so that a trailer is as good as a header.
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			x.addMetadata(*o.HeaderAddr)
		case grpc.TrailerCallOption:
			x.addMetadata(*o.TrailerAddr)
		}
	}
	if err == nil && x.Call.Kept != nil {
		return x.answerKept()
	}
	return err
}

func (c conn) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	x := exchangeOf(ctx)
	if x == nil {
		return nil, status.Error(codes.Internal, "internal error")
	}
	x.sent = true
	stream, err := c.next.NewStream(ctx, d, method, opts...)
	if err != nil {
		return nil, err
	}
	if x.stream != nil {
		ended := stream.Context()
		context.AfterFunc(ended, func() { x.stream.unblock(ended) })
		stream = causedStream{stream, ctx}
	}
	stream = describedStream{stream, x, d.ServerStreams}
	if x.binding.raw && d.ServerStreams {
		return rawStream{stream, x}, nil
	}
	if x.binding.answer == nil {
		return stream, nil
	}
	return answers{stream, x}, nil
}

// answers receives into the exchange. It does so on the goroutine of the request;
// only the sending may be another's.
type answers struct {
	grpc.ClientStream
	x *exchange
}

func (s answers) RecvMsg(any) error {
	err := s.ClientStream.RecvMsg(&s.x.frame)
	s.x.answered = err == nil
	return err
}

// describedStream makes headers of the service's metadata: of its header, which the
// handler asks for before any message, and of its trailer where nothing has been
// answered before it. A trailer behind messages reaches nobody over REST.
type describedStream struct {
	grpc.ClientStream
	x       *exchange
	streams bool // the answer is one
}

func (s describedStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	s.x.addMetadata(md)
	return nil, err //nolint:wrapcheck // It is upstream's status.
}

func (s describedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if s.x.Status() == 0 && (err != nil || !s.streams) {
		s.x.addMetadata(s.Trailer())
	}
	return err //nolint:wrapcheck // It is upstream's status.
}

// causedStream does not end well when the call was ended for a reason: the
// handler closes its side after a body it cannot read, and the service's good
// end may come in before the cancelling is noticed.
type causedStream struct {
	grpc.ClientStream
	ctx context.Context
}

func (s causedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if errors.Is(err, io.EOF) {
		if cause := endedBy(s.ctx); cause != nil {
			return cause
		}
	}
	return err
}

// fillIdempotencyKey puts the Idempotency-Key header into the request field
// that the rule names (AIP-155).
func (x *exchange) fillIdempotencyKey(in any) error {
	fd := x.binding.Method.Rule.IdempotencyKey
	if fd == nil {
		return nil
	}
	keys := x.Request.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return nil
	}
	if len(keys) > 1 || keys[0] == "" {
		return httpedge.BadField("Idempotency-Key", "must be given once and not be empty")
	}
	if !utf8.ValidString(keys[0]) {
		return httpedge.BadField("Idempotency-Key", "must be UTF-8")
	}
	m := in.(proto.Message).ProtoReflect()
	if have := m.Get(fd).String(); have != "" && have != keys[0] {
		return httpedge.BadField("Idempotency-Key", "differs from "+string(fd.Name()))
	}
	m.Set(fd, protoreflect.ValueOfString(keys[0]))
	return nil
}
