package httpedge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// incoming is how far the request's body is.
type incoming struct {
	bytesIn  atomic.Int64 // a streamed body is read by a goroutine of its own
	bodyRead bool         // the body has been read, or a stream reads it
	// unread says whether something of a body is still to come that is read beside the
	// answer; nil means that none is.
	unread    func() bool
	reading   sync.Mutex // held while such a body is read
	departure *departure // of a request with a body that may stay unread
	webSocket bool       // the caller asks for a WebSocket
}

// ReadAll reads a body whole: no more than limit bytes as sent, and as many
// unpacked.
func (x *Exchange) ReadAll(limit int64, gzipped bool) ([]byte, error) {
	if x.Request.ContentLength > limit {
		return nil, Refuse("body_bytes", BodyTooLarge(limit))
	}
	if x.Request.ContentLength == 0 {
		return nil, nil
	}
	if !gzipped {
		data, err := fill(x.Request.Body, x.Request.ContentLength+1, limit)
		x.bytesIn.Add(int64(len(data)))
		if err != nil {
			return nil, bodyError(err, limit)
		}
		return data, nil
	}
	g := newGunzip(x.Request.Body, limit, &x.bytesIn)
	defer g.release()
	data, err := fill(g, x.Request.ContentLength*4, limit)
	switch {
	case err == nil:
		return data, nil
	case g.src.err != nil:
		return nil, bodyError(g.src.err, limit)
	case errors.Is(err, ErrTooLarge):
		return nil, Refuse("decoded_body_bytes", decodedTooLarge(limit))
	}
	return nil, Refuse("encoding", badGzip())
}

// ErrTooLarge is for what is larger than its bound.
var ErrTooLarge = errors.New("message too large")

// firstBuffer bounds what is set aside for a body before any of it has come: a
// caller may promise what it never sends.
const firstBuffer = 64 << 10

// fill reads all of r, setting aside at most limit+1 bytes; ErrTooLarge means
// there is more. What was read is returned beside an error, too.
func fill(r io.Reader, hint, limit int64) ([]byte, error) {
	buf := make([]byte, 0, min(max(hint, 512), firstBuffer, limit+1))
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, ErrTooLarge
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, err
		}
		if len(buf) == cap(buf) {
			bigger := make([]byte, len(buf), min(2*int64(cap(buf)), limit+1))
			copy(bigger, buf)
			buf = bigger
		}
	}
}

func bodyError(err error, limit int64) error {
	switch {
	case errors.Is(err, ErrTooLarge):
		return Refuse("body_bytes", BodyTooLarge(limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Refuse("body_slow", bodyTooSlow())
	}
	return bodyBroken()
}

// limitReadTime bounds how long the body may take, from the first moment: a
// request that is refused before its body is read makes net/http read on. It is
// not the server's ReadTimeout, which would also end long answers.
func (x *Exchange) limitReadTime() {
	if x.Request.ContentLength == 0 {
		return
	}
	rc := http.NewResponseController(x.w)
	if err := rc.SetReadDeadline(time.Now().Add(x.server.o.ReadTimeout)); err != nil {
		x.server.o.Logger.Debug("read deadline not supported", "error", err)
	}
}

// UnlimitReadTime ends the bound once the body is there: net/http goes on
// reading to notice a client that leaves, and would take the deadline for one.
func (x *Exchange) UnlimitReadTime() {
	x.bodyRead = true
	if x.Request.ContentLength != 0 {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{})
	}
}

// hurryBody gives the rest of a body that nobody will read a moment to come, from
// when the answer begins: net/http reads it first, to keep the connection, and
// must not wait for a caller who sends it slowly. Once it has all of it, it lifts
// the bound by itself, and a stream goes on.
func (x *Exchange) hurryBody() {
	if x.Request.ContentLength == 0 || x.bodyRead {
		return
	}
	x.departure.hurry(http.NewResponseController(x.w))
}

// EndReads is called when an answer whose body was passed on has ended.
func (x *Exchange) EndReads() { x.endReads(hurry) }

// endReads waits for a read of a body that another goroutine has under way, which gets a
// last moment, too. net/http would break it off itself, lift every deadline with that,
// and read on from a caller who need not send anything. No read begins any more: the body
// knows that the exchange is over.
func (x *Exchange) endReads(moment time.Duration) {
	if x.unread == nil || x.Request.ProtoMajor != 1 || x.hijacked || !x.unread() {
		return
	}
	rc := http.NewResponseController(x.w)
	if rc.SetReadDeadline(time.Now().Add(moment)) != nil {
		return
	}
	if !x.reading.TryLock() {
		if x.status != 0 { // The answer need not wait.
			_ = rc.Flush()
		}
		x.reading.Lock()
	}
	x.reading.Unlock()
}

const hurry = 500 * time.Millisecond
