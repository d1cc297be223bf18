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
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// conn is what the generated handlers call: it makes bytes of their requests, once, and
// leaves the answer's bytes in the exchange. It is the place that sees an exchange and its
// typed request together.
type conn struct{ next upstream.Sender }

// calling is the exchange of a handler's call. It calls nothing but the method of its route.
func calling(ctx context.Context, method string) (*exchange, error) {
	x := exchangeOf(ctx)
	if x == nil || x.binding == nil || x.binding.Method.FullName != method {
		return nil, status.Error(codes.Internal, "internal error")
	}
	x.sent = true
	return x, nil
}

func (c conn) Invoke(ctx context.Context, method string, in, out any, _ ...grpc.CallOption) error {
	x, err := calling(ctx, method)
	if err != nil {
		return err
	}
	if x.handler.Context != nil { // The call ends when the request does, which the handler's context is not told.
		ctx = x.handler.Context
	}
	if err := x.encode(in.(proto.Message)); err != nil {
		return err
	}
	a := &x.answer
	a.Reads = true // What is wrong with it shows when it is rendered.
	err = c.next.Call(ctx, &x.Call, &x.request, a)
	x.answered, x.parsed = err == nil, err == nil
	x.addMetadata(a.Header)
	x.addMetadata(a.Trailer) // The answer is whole, so that a trailer is as good as a header.
	if err == nil && a.Cached != nil {
		err = x.answerKept()
	}
	if err == nil && x.binding.answer == nil {
		err = x.parse(out.(proto.Message))
		a.Read(err)
	}
	return err
}

// encode makes the bytes of a unary call's request.
func (x *exchange) encode(in proto.Message) error {
	if err := x.fillIdempotencyKey(in); err != nil {
		return err
	}
	return upstream.Encode(&x.request, in, x.room[:])
}

// parse reads an answer for a handler that wants it: google.api.HttpBody. Its bytes stay
// for the Location header.
func (x *exchange) parse(out proto.Message) error {
	if err := proto.Unmarshal(x.answer.Message.Data, out); err != nil {
		return x.unreadable(err)
	}
	return nil
}

func (c conn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	x, err := calling(ctx, method)
	if err != nil {
		return nil, err
	}
	stream, err := c.next.Stream(ctx, &x.Call)
	if err != nil {
		return nil, err
	}
	if x.stream != nil {
		ended := stream.Context()
		context.AfterFunc(ended, func() { x.stream.unblock(ended) })
	}
	s := &handlerStream{Stream: stream, x: x, ctx: ctx}
	if x.binding.raw && x.binding.Method.Descriptor.IsStreamingServer() {
		return rawStream{s}, nil
	}
	return s, nil
}

// handlerStream is a stream as a generated handler has it. Its messages are received into
// the exchange, on the goroutine of the request; only the sending may be another's.
type handlerStream struct {
	upstream.Stream
	x       *exchange
	ctx     context.Context
	request wire.Frame // that is being sent
}

// Header makes headers of the service's, for which the handler asks before any message.
func (s *handlerStream) Header() (metadata.MD, error) {
	md, err := s.Stream.Header()
	s.x.addMetadata(md)
	return nil, err //nolint:wrapcheck // It is upstream's status.
}

// SendMsg sends a message. One that has no wire form ends the call.
func (s *handlerStream) SendMsg(m any) error {
	if err := upstream.Encode(&s.request, m.(proto.Message), nil); err != nil {
		if s.x.cancel != nil {
			s.x.cancel(err)
		}
		return err //nolint:wrapcheck // It is upstream's status.
	}
	defer s.request.Free()
	return s.Send(&s.request) //nolint:wrapcheck // It is upstream's status.
}

// RecvMsg receives a message. m is set only where the handler writes it itself.
func (s *handlerStream) RecvMsg(m any) error {
	err := s.receive()
	if s.x.answered = err == nil; err == nil && s.x.binding.answer == nil {
		return s.x.parse(m.(proto.Message))
	}
	return err
}

// receive makes headers of the trailer where nothing has been answered before it; one
// behind messages reaches nobody over REST. A call that was ended for a reason does not
// end well: the handler closes its side after a body it cannot read, and the service's
// good end may come in before the cancelling is noticed.
func (s *handlerStream) receive() error {
	s.x.answer.Message.Free() // Of the message before.
	err := s.Receive(&s.x.answer.Message)
	if s.x.stream != nil && errors.Is(err, io.EOF) {
		if cause := endedBy(s.ctx); cause != nil {
			err = cause
		}
	}
	if s.x.Status() == 0 && (err != nil || !s.x.binding.Method.Descriptor.IsStreamingServer()) {
		s.x.addMetadata(s.Trailer())
	}
	return err //nolint:wrapcheck // It is upstream's status.
}

// fillIdempotencyKey puts the Idempotency-Key header into the request field
// that the rule names (AIP-155).
func (x *exchange) fillIdempotencyKey(in proto.Message) error {
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
	m := in.ProtoReflect()
	if have := m.Get(fd).String(); have != "" && have != keys[0] {
		return httpedge.BadField("Idempotency-Key", "differs from "+string(fd.Name()))
	}
	m.Set(fd, protoreflect.ValueOfString(keys[0]))
	return nil
}
