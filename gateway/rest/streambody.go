package rest

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// streamBody is a body of JSON values, read while the call runs; each value
// may have up to max bytes. What is wrong with it ends the call: generated
// handlers flatten such an error, or lose it.
type streamBody struct {
	io.ReadCloser
	x         *exchange
	max, left int64
	depth     jsonDepth
	gzipped   bool
	refuse    context.CancelCauseFunc

	mu   sync.Mutex
	over bool // read to its end, or the exchange is over: no deadline any more
	eof  bool // read to its end

	closed bool // the exchange is over: no read any more
}

// streamBody prepares the body of a call that streams both ways or up.
func (x *exchange) streamBody(limit int64, gzipped bool) (io.ReadCloser, error) {
	// Over HTTP/1 net/http would otherwise swallow what is left of the body
	// before the first byte of the answer.
	if err := http.NewResponseController(x.w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, bodyBroken()
	}
	x.stream = &streamBody{ReadCloser: x.r.Body, x: x, max: limit, left: limit, gzipped: gzipped, refuse: x.cancel}
	if gzipped { // Not given back: the goroutine that reads may outlive the exchange.
		x.stream.ReadCloser = io.NopCloser(newGunzip(x.r.Body, math.MaxInt64-1, &x.bytesIn))
	}
	x.unread = x.stream.unread
	return x.stream, nil
}

var (
	errTooLarge = errors.New("message too large")
	errTooDeep  = errors.New("message nested too deeply")
)

// Read reads on, up to what is left of the current value, and no further than
// to where it nests too deeply.
func (b *streamBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.readOn(p)
	b.left -= int64(n)
	if !b.gzipped {
		b.x.bytesIn.Add(int64(n))
	}
	if at := b.depth.scan(p[:n], b.x.server.o.MaxJSONDepth); at >= 0 {
		return at, errTooDeep
	}
	if err != nil {
		b.end()
		if errors.Is(err, io.EOF) && !b.gzipped { // Packed, its end may come before the body's.
			b.mu.Lock()
			b.eof = true
			b.mu.Unlock()
		}
	}
	return n, err
}

func (b *streamBody) readOn(p []byte) (int, error) {
	b.x.reading.Lock()
	defer b.x.reading.Unlock()
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed { // Otherwise it would be read beside net/http, which looks for its end: see endReads.
		return 0, http.ErrBodyReadAfterClose
	}
	return b.ReadCloser.Read(p)
}

// unread says whether the end of the body has not been read yet.
func (b *streamBody) unread() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.eof
}

// failed ends the call for a value that could not be read.
func (b *streamBody) failed(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return err
	case errors.Is(err, errTooLarge):
		b.x.server.o.Refused("body_bytes")
		err = bodyTooLarge(b.max)
	case errors.Is(err, errTooDeep):
		b.x.server.o.Refused("json_depth")
		err = jsonTooDeep(b.x.server.o.MaxJSONDepth)
	default:
		err = badField("body", "is not a stream of valid JSON values of this call"+whereOf(err))
	}
	b.refuse(err)
	return err
}

// whereOf says where in one of a stream's values its reader stopped.
func whereOf(err error) string {
	var te *transcode.Error
	if !errors.As(err, &te) {
		return ""
	}
	if te.Field == "" {
		return ": " + position(te) + " of a value"
	}
	return ": " + te.Field + ", at " + position(te) + " of a value"
}

// unblock ends a Read that waits for a caller who is silent, once the stream
// to the service has ended.
func (b *streamBody) unblock(stream context.Context) {
	if cause := endedBy(stream); cause != nil {
		b.refuse(cause)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		_ = http.NewResponseController(b.x.w).SetReadDeadline(time.Unix(1, 0))
	}
}

// end keeps unblock from touching a connection that serves its next request.
func (b *streamBody) end() {
	b.x.departure.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}

// close ends reading, at the end of an exchange.
func (b *streamBody) close() {
	b.end()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.x.endReads(hurry)
}

// endedBy returns the cause of a context's end when it is meant for the
// caller: a status. Nil otherwise.
func endedBy(ctx context.Context) error {
	cause := context.Cause(ctx)
	if s := (interface{ GRPCStatus() *status.Status })(nil); errors.As(cause, &s) {
		return cause
	}
	return nil
}
