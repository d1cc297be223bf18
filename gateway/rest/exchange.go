package rest

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/transcode"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// exchange is one request and its answer. It is the http.ResponseWriter that
// handlers write to: it sends the success code of the rule with the first
// byte, and counts. It belongs to the goroutine of the request.
type exchange struct {
	server   *Server
	w        http.ResponseWriter
	r        *http.Request
	observed telemetry.Request
	ctx      exchangeContext
	handler  handlerContext // of a unary call

	binding *Binding
	params  map[string]string
	call    policy.Call
	body    []byte // a JSON body as it was sent, for explaining what is wrong with it
	sent    bool   // the handler has called the method
	// request holds the bytes of a unary call's request until the call is done.
	request wire.Frame
	room    [64]byte // of small ones
	parsed  bool     // the service is done with request, whose memory may go back
	// answer holds the bytes of the answer, or of a stream's current message, from
	// when it has been received to when it is rendered into out.
	answer    upstream.Answer
	answered  bool
	out       *[]byte         // of the pool
	unlocated error           // why there is no Location, which the bytes should have given
	mask      *transcode.Mask // of the fields that are asked for; nil means all
	fields    string          // the text of the mask
	packing   packing
	stream    *streamBody
	bytesIn   atomic.Int64 // a streamed body is read by a goroutine of its own
	// cancel ends a call whose body is a stream; a cause that is a status is its
	// answer.
	cancel context.CancelCauseFunc
	// unread says whether something of a body is still to come that is read beside the
	// answer; nil means that none is.
	unread    func() bool
	reading   sync.Mutex // held while such a body is read
	departure *departure // of a request with a body that may stay unread

	lines  [3]string // values of annotations, as many as there usually are
	used   int       // of lines
	length [1]string // value of Content-Length
	age    [1]string // value of Age

	success int // status to send with the first byte; 0 means 200
	status  int // status that was sent; 0 means none yet
	forced  int // status that a stream's failure has; 0 means as the runtime says
	err     error

	served   bool // the answer was a kept one, and the handler has nothing to add
	bodyRead bool // the body has been read, or a stream reads it
	rolling  bool // each write has a time of its own to reach the caller
	mounted  bool // a mount answers, whose failures are plain text
	muted    bool // what a mount writes behind a failure is dropped

	plain     *policy.Method // of a plain HTTP route
	webSocket bool           // the caller asks for a WebSocket
	hijacked  bool           // the connection is a WebSocket now
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

func (x *exchange) bind(b *Binding) {
	x.binding, x.call.Writes = b, b.Verb != http.MethodGet && b.Verb != http.MethodHead
	if b.Method.Streaming() {
		x.roll()
	}
	x.observed.Route, x.observed.RPC, x.observed.Series = b.Template.String(), b.Method.FullName[1:], b.series
}

// Header returns the headers of the answer.
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader sends the status.
func (x *exchange) WriteHeader(code int) {
	if x.status != 0 {
		return
	}
	if x.mounted && code >= 400 {
		x.mounted, x.muted = false, true
		x.fail(status.Error(mountCode(code), "there is nothing here; /docs shows what there is"))
		return
	}
	if x.forced != 0 {
		code = x.forced
	}
	x.status = code
	if x.binding != nil && code < http.StatusMultipleChoices {
		x.dress()
	}
	h := x.Header()
	if code == http.StatusNoContent {
		delete(h, "Content-Length")
		if x.plain == nil { // What a service says itself may stay.
			delete(h, "Content-Type")
		}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // net/http would guess one. A service that has said none means none.
	}
	// What is left of a body that is read beside its answer may come when nobody waits
	// for it any more: on a connection that stays, it would be read as a request.
	if x.server.o.Closing() || x.unread != nil && x.r.ProtoMajor == 1 && x.unread() {
		h["Connection"] = connClose
	}
	x.hurryBody()
	x.w.WriteHeader(code)
}

// Write sends a part of the body, after the status. What is no stream comes in
// one part, so that its length is known.
func (x *exchange) Write(b []byte) (int, error) {
	if x.muted {
		return len(b), nil
	}
	var err error
	if x.status == 0 && x.binding != nil && !x.binding.Method.Descriptor.IsStreamingServer() {
		err = x.writeWhole(x.whole(b))
	} else {
		_, err = x.write(b)
	}
	x.written(err)
	x.packing.release(err)
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
	b = x.packing.compress(x.server.compressor, x.Header(), x.r.Header["Accept-Encoding"], b)
	x.length[0] = strconv.Itoa(len(b))
	x.Header()["Content-Length"] = x.length[:]
	return b
}

func (x *exchange) write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(max(x.success, http.StatusOK))
	}
	if x.status == http.StatusNoContent {
		return len(b), nil
	}
	if x.rolling {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(writeTime))
	}
	n, err := x.w.Write(b)
	x.observed.BytesOut += int64(n)
	return n, err
}

// FlushError sends what is buffered, for http.ResponseController.
func (x *exchange) FlushError() error {
	rc := http.NewResponseController(x.w)
	err := rc.Flush()
	if x.rolling {
		_ = rc.SetWriteDeadline(time.Time{})
	}
	return err
}

// writeTime is how long a caller may take to read a part of a stream.
const writeTime = 30 * time.Second

// roll replaces the server's bound on writing an answer, which a stream would
// outlive, by one for each part.
func (x *exchange) roll() {
	x.rolling = true
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
}

// serveMount lets a plain handler answer GET and HEAD; the rest, and its
// failures, are answered as everywhere.
func (x *exchange) serveMount(ctx context.Context, m Mount) {
	x.observed.Route = m.Path
	allow := []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
		x.mounted = true
		delete(x.w.Header(), "Cache-Control") // It decides that itself.
		m.Handler.ServeHTTP(x, x.r.WithContext(ctx))
	case http.MethodOptions:
		x.options(allow)
	default:
		x.notAllowed(allow)
	}
}

func mountCode(httpCode int) codes.Code {
	if httpCode >= 500 {
		return codes.Internal
	}
	return codes.NotFound
}

// Unwrap gives http.ResponseController the underlying writer.
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }

func (x *exchange) options(allow []string) {
	list := strings.Join(allow, ", ")
	x.Header().Set("Allow", list)
	x.server.cors.preflight(x.Header(), list)
	x.WriteHeader(http.StatusNoContent)
}

func (x *exchange) notAllowed(allow []string) {
	list := strings.Join(allow, ", ")
	x.Header().Set("Allow", list)
	x.fail(methodNotAllowed(list))
}

// recover turns a panic of the edge into an answer; http.ErrAbortHandler is
// net/http's own way to break a connection.
func (x *exchange) recover(ctx context.Context) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	x.server.o.Logger.ErrorContext(ctx, "the HTTP edge panicked", "request_id", x.observed.ID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if x.status != 0 {
		panic(http.ErrAbortHandler) // A broken answer must not look whole.
	}
	x.fail(status.Error(codes.Internal, "internal error"))
}

// end closes the books.
func (x *exchange) end(ctx context.Context) {
	switch {
	case x.status == 0:
		x.WriteHeader(max(x.success, http.StatusOK))
	case x.plain != nil && !x.hijacked: // What is buffered leaves now, however long ago it was written.
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(writeTime))
	}
	x.departure.end()
	x.answer.Read(nil)
	x.answer.Message.Free()
	x.call.Done(x.err)
	if x.parsed { // Not before: what runs when the call is done may still read it.
		x.request.Free()
	}
	x.observed.BytesIn = x.bytesIn.Load()
	x.observed.End(ctx, telemetry.StatusCode(x.status), x.status >= 500)
}
