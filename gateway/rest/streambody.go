package rest

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// streamBody is a body of JSON values, read while the call runs; each value
// may have up to max bytes. What is wrong with it ends the call: generated
// handlers flatten such an error, or lose it.
type streamBody struct {
	*httpedge.Stream
	x         *exchange
	max, left int64
	depth     jsonDepth
	refuse    context.CancelCauseFunc
}

// streamBody prepares the body of a call that streams both ways or up.
func (x *exchange) streamBody(limit int64, gzipped bool) (io.ReadCloser, error) {
	b, err := x.Stream(gzipped)
	if err != nil {
		return nil, err //nolint:wrapcheck // It is a status.
	}
	x.stream = &streamBody{Stream: b, x: x, max: limit, left: limit, refuse: x.cancel}
	return x.stream, nil
}

var errTooDeep = errors.New("message nested too deeply")

// Read reads on, up to what is left of the current value, and no further than
// to where it nests too deeply.
func (b *streamBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, httpedge.ErrTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.Stream.Read(p)
	b.left -= int64(n)
	if at := b.depth.scan(p[:n], b.x.server.o.MaxJSONDepth); at >= 0 {
		return at, errTooDeep
	}
	return n, err //nolint:wrapcheck // It is the connection's.
}

// Close does nothing: the exchange ends the body.
func (b *streamBody) Close() error { return nil }

// failed ends the call for a value that could not be read.
func (b *streamBody) failed(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return err
	case errors.Is(err, httpedge.ErrTooLarge):
		b.x.Refused("body_bytes")
		err = httpedge.BodyTooLarge(b.max)
	case errors.Is(err, errTooDeep):
		b.x.Refused("json_depth")
		err = jsonTooDeep(b.x.server.o.MaxJSONDepth)
	default:
		err = httpedge.BadField("body", "is not a stream of valid JSON values of this call"+whereOf(err))
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
	b.Unblock()
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
