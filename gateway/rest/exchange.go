package rest

import (
	"context"
	"net/http"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/transcode"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// exchange is a request that a binding has taken, and its answer. It is the
// http.ResponseWriter that the generated handlers write to: it sends the success code of
// the rule with the first byte. It belongs to the goroutine of the request.
type exchange struct {
	*httpedge.Exchange
	server  *Server
	binding *Binding
	ctx     exchangeContext
	handler handlerContext // of a unary call
	inner   http.Request   // what the handler gets
	asked
	given
}

// asked is what the request carries.
type asked struct {
	params map[string]string
	body   []byte          // a JSON body as it was sent, for explaining what is wrong with it
	mask   *transcode.Mask // of the fields that are asked for; nil means all
	fields string          // the text of the mask
	stream *streamBody
	// cancel ends a call whose body is a stream; a cause that is a status is its
	// answer.
	cancel context.CancelCauseFunc
	sent   bool // the handler has called the method
	// request holds the bytes of a unary call's request until the call is done.
	request wire.Frame
	room    [64]byte // of small ones
	parsed  bool     // the service is done with request, whose memory may go back
}

// given is what is known of the answer before it is written.
type given struct {
	// answer holds the bytes of the answer, or of a stream's current message, from
	// when it has been received to when it is rendered into out.
	answer    upstream.Answer
	answered  bool
	out       *[]byte // of the pool
	packing   httpedge.Packing
	unlocated error     // why there is no Location, which the bytes should have given
	age       [1]string // value of Age
	success   int       // status to send with the first byte; 0 means 200
	forced    int       // status that a stream's failure has; 0 means as the runtime says
	served    bool      // the answer was a kept one, and the handler has nothing to add
}

type exchangeKey struct{}

// exchangeContext is the context that carries its exchange, in which it stands.
type exchangeContext struct {
	context.Context
	x *exchange
}

func (c *exchangeContext) Value(key any) any {
	if key == (exchangeKey{}) {
		return c.x
	}
	return c.Context.Value(key)
}

// carry returns ctx with the exchange in it.
func (x *exchange) carry(ctx context.Context) context.Context {
	x.ctx = exchangeContext{ctx, x}
	return &x.ctx
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// WriteHeader sends the status.
func (x *exchange) WriteHeader(code int) {
	if x.Status() != 0 {
		return
	}
	if x.forced != 0 {
		code = x.forced
	}
	if code < http.StatusMultipleChoices {
		x.dress()
	}
	x.Exchange.WriteHeader(code)
}

// Write sends a part of the body, after the status. What is no stream comes in
// one part, so that its length is known.
func (x *exchange) Write(b []byte) (int, error) {
	var err error
	if x.Status() == 0 && !x.binding.Method.Descriptor.IsStreamingServer() {
		err = x.writeWhole(x.whole(b))
	} else {
		err = x.write(b)
	}
	x.written(err)
	x.packing.Release(err)
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// whole returns what to send of a whole body, and says how long that is.
func (x *exchange) whole(b []byte) []byte {
	if x.success == http.StatusNoContent {
		return nil
	}
	b = x.packing.Compress(x.server.o.Compressor, x.Header(), x.Request.Header["Accept-Encoding"], b)
	x.SetLength(len(b))
	return b
}

// begin sends the status, where that has not been done.
func (x *exchange) begin() {
	if x.Status() == 0 {
		x.WriteHeader(max(x.success, http.StatusOK))
	}
}

// writeWhole sends a whole body, whose Content-Length is set.
func (x *exchange) writeWhole(b []byte) error {
	x.begin()
	return x.WriteWhole(b) //nolint:wrapcheck // It is the connection's.
}

func (x *exchange) write(b []byte) error {
	x.begin()
	_, err := x.Exchange.Write(b)
	return err //nolint:wrapcheck // It is the connection's.
}

// End implements httpedge.Ender: the call is done, and nobody reads its request or its
// answer any more.
func (x *exchange) End() {
	x.answer.Read(nil)
	x.answer.Message.Free()
	if x.parsed {
		x.request.Free()
	}
}
