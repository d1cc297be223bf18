package httpedge

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// Exchange is one request and its answer. It is the http.ResponseWriter that its
// protocol writes to, and counts. It belongs to the goroutine of the request.
type Exchange struct {
	// Request is the caller's: its header without hop-by-hop fields, its URL with the
	// path decoded and, in RawPath, as it was sent.
	Request *http.Request
	// Call is the one call that the request has; a protocol says its method by Admit.
	Call policy.Call
	// Observed is what is told of the request: a protocol says its route and its method.
	Observed telemetry.Request
	// Ender is the protocol's own state of the request; nil where it has none to end.
	Ender Ender

	server *Server
	reply
	incoming
}

// Ender is told once that the request has ended.
type Ender interface {
	// End is called after the functions given to the call's OnDone, which may still read
	// the bytes of its request: not before, their memory may be used again.
	End()
}

// reply is how far the answer is.
type reply struct {
	w      http.ResponseWriter
	lines  [3]string // values of annotations, as many as there usually are
	used   int       // of lines
	length [1]string // value of Content-Length
	status int       // that was sent; 0 means none yet
	err    error

	rolling  bool // each write has a time of its own to reach the caller
	foreign  bool // the answer is a plain HTTP service's own
	hijacked bool // the connection is a WebSocket now
}

// Header returns the headers of the answer.
func (x *Exchange) Header() http.Header { return x.w.Header() }

// Status is the status that was sent; 0 means none yet.
func (x *Exchange) Status() int { return x.status }

// Foreign says that the answer is a plain HTTP service's own: what it says of itself
// stays, and its last bytes have a time of their own to reach the caller.
func (x *Exchange) Foreign() { x.foreign = true }

// Failed notes why the call has failed, for whoever answers with that himself.
func (x *Exchange) Failed(err error) { x.err = err }

// Logger gets failures to answer.
func (x *Exchange) Logger() *slog.Logger { return x.server.o.Logger }

// WriteHeader sends the status.
func (x *Exchange) WriteHeader(code int) {
	if x.status != 0 {
		return
	}
	x.status = code
	h := x.Header()
	if code == http.StatusNoContent {
		delete(h, "Content-Length")
		if !x.foreign { // What a service says itself may stay.
			delete(h, "Content-Type")
		}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // net/http would guess one. A service that has said none means none.
	}
	// What is left of a body that is read beside its answer may come when nobody waits
	// for it any more: on a connection that stays, it would be read as a request.
	if x.server.o.Closing() || x.unread != nil && x.Request.ProtoMajor == 1 && x.unread() {
		h["Connection"] = connClose
	}
	x.hurryBody()
	x.w.WriteHeader(code)
}

// SetLength says how long the whole body is.
func (x *Exchange) SetLength(n int) {
	x.length[0] = strconv.Itoa(n)
	x.Header()["Content-Length"] = x.length[:]
}

// Write sends a part of the body, after the status.
func (x *Exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if x.status == http.StatusNoContent {
		return len(b), nil
	}
	if x.rolling {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(writeTime))
	}
	n, err := x.w.Write(b)
	x.Observed.BytesOut += int64(n)
	return n, err
}

// FlushError sends what is buffered, for http.ResponseController.
func (x *Exchange) FlushError() error {
	rc := http.NewResponseController(x.w)
	err := rc.Flush()
	if x.rolling {
		_ = rc.SetWriteDeadline(time.Time{})
	}
	return err
}

// writeTime is how long a caller may take to read a part of a stream.
const writeTime = 30 * time.Second

// Roll replaces the server's bound on writing an answer, which a stream would
// outlive, by one for each part.
func (x *Exchange) Roll() {
	x.rolling = true
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
}

// Hijack hands the connection over, for WebSockets.
func (x *Exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(x.w).Hijack()
	if err == nil {
		x.status, x.hijacked = http.StatusSwitchingProtocols, true
	}
	return c, rw, err
}

// Unwrap gives http.ResponseController the underlying writer.
func (x *Exchange) Unwrap() http.ResponseWriter { return x.w }

// Options answers OPTIONS of what takes these methods.
func (x *Exchange) Options(allow []string) {
	list := strings.Join(allow, ", ")
	x.Header().Set("Allow", list)
	x.server.cors.preflight(x.Header(), list)
	x.WriteHeader(http.StatusNoContent)
}

// NotAllowed answers a method that what takes these does not take.
func (x *Exchange) NotAllowed(allow []string) {
	list := strings.Join(allow, ", ")
	x.Header().Set("Allow", list)
	x.Fail(methodNotAllowed(list))
}

// FailOrBreak answers with an error, or breaks an answer that has begun: HTTP/1.1 cuts
// the connection without a last chunk, HTTP/2 resets the stream, http10.go the
// connection. It must not look whole.
func (x *Exchange) FailOrBreak(err error) {
	if x.status == 0 {
		h := x.w.Header()
		h.Del("Trailer")
		h.Del("Content-Encoding")
		x.Fail(err)
		return
	}
	x.err = err
	if x.hijacked {
		return
	}
	x.endReads(0)
	panic(http.ErrAbortHandler)
}

// recover turns a panic of the edge into an answer; http.ErrAbortHandler is
// net/http's own way to break a connection.
func (x *Exchange) recover(ctx context.Context) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	x.server.o.Logger.ErrorContext(ctx, "the HTTP edge panicked", "request_id", x.Observed.ID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if x.status != 0 {
		panic(http.ErrAbortHandler) // A broken answer must not look whole.
	}
	x.Fail(status.Error(codes.Internal, "internal error"))
}

// end closes the books.
func (x *Exchange) end(ctx context.Context) {
	switch {
	case x.status == 0:
		x.WriteHeader(http.StatusOK)
	case x.foreign && !x.hijacked: // What is buffered leaves now, however long ago it was written.
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(writeTime))
	}
	x.endCall()
	x.Observed.BytesIn = x.bytesIn.Load()
	x.Observed.End(ctx, telemetry.StatusCode(x.status), x.status >= 500)
	x.departure.end() // The last: it may wait, and what the call held is not to wait with it.
}

// endCall ends the call, and what its protocol holds for it even where a team's function
// panics: a permit would be taken for ever.
func (x *Exchange) endCall() {
	if x.Ender != nil {
		defer x.Ender.End()
	}
	x.Call.Done(x.err)
}
