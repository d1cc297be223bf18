package rest

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// Answers are not parsed: conn has their bytes put into the exchange,
// rewrite puts the exchange in the place of the handler's message, which stays
// empty, and the marshaler has the binding's plan write JSON from the bytes.

// unparsed stands for the message whose bytes the exchange holds.
type unparsed struct{ x *exchange }

// rewrite is the runtime's ForwardResponseRewriter. Without an answer to render
// it fails: the empty message would look like one.
func rewrite(ctx context.Context, m proto.Message) (any, error) {
	x := exchangeOf(ctx)
	if x == nil || x.binding == nil || x.binding.answer == nil {
		return m, nil
	}
	if !x.answered {
		x.server.o.Logger.ErrorContext(ctx, "a handler answered without calling its method", "request_id", x.Observed.ID, "grpc_method", x.binding.Method.FullName)
		return nil, status.Error(codes.Internal, "internal error")
	}
	return unparsed{x}, nil
}

// render writes the answer between before and after, into memory of a pool that
// Write gives back. It is the only reader of the answer's bytes, and ends them.
func (x *exchange) render(before, after string) ([]byte, error) {
	if x.out == nil {
		x.out = httpedge.TakeBuffer()
	}
	b, err := x.binding.answer.AppendMasked(append((*x.out)[:0], before...), x.answer.Message.Data, x.mask)
	x.answer.Message.Free()
	x.answered = false
	if err == nil {
		err = x.unlocated
	}
	x.answer.Read(err)
	if err != nil {
		return nil, x.unreadable(err)
	}
	*x.out = append(b, after...)
	return *x.out, nil
}

// unreadable is the answer in place of one that is not what the descriptor says.
// Why is for the operator alone.
func (x *exchange) unreadable(err error) error {
	x.server.o.Logger.WarnContext(x.Request.Context(), "upstream failed", "request_id", x.Observed.ID, "grpc_method", x.binding.Method.FullName,
		"upstream", x.Call.Upstream, "code", codes.OK.String(), "error", "the answer cannot be read: "+err.Error())
	return httpedge.BadResponse()
}

// locate makes the Location header. m is memory of the answer's type.
func (x *exchange) locate(m proto.Message) {
	l, answer := x.binding.location, x.answer.Message.Data
	text, err := l.of(answer)
	if err != nil { // Policy's scan refuses more than the parser does, who has the last word on an answer.
		if x.unlocated = (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(answer, m); x.unlocated != nil {
			return
		}
		again, _ := proto.Marshal(m) // What has been read can be written.
		text, _ = l.of(again)
	}
	x.Header().Set("Location", text)
}

// written gives the memory of what has been written back. After a failure it
// does not: an HTTP/2 connection may still be about to send from it.
func (x *exchange) written(err error) {
	if x.out != nil && err == nil {
		httpedge.GiveBuffer(x.out)
	}
	x.out = nil
}
