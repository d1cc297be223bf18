package httpedge

import (
	"errors"
	"io"
	"math"
	"net/http"
	"sync"
	"time"
)

// Stream is a body that is read while the call runs, by another goroutine than the
// exchange's. Read belongs to that one, the rest to any.
type Stream struct {
	src     io.Reader
	x       *Exchange
	gzipped bool

	mu   sync.Mutex
	over bool // read to its end, or the exchange is over: no deadline any more
	eof  bool // read to its end

	closed bool // the exchange is over: no read any more
}

// Stream prepares the body of a call that streams both ways or up; End ends it, and
// with it the bound on how long a body may take.
func (x *Exchange) Stream(gzipped bool) (*Stream, error) {
	x.UnlimitReadTime() // The stream's own bounds hold.
	// Over HTTP/1 net/http would otherwise swallow what is left of the body
	// before the first byte of the answer.
	if err := http.NewResponseController(x.w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, bodyBroken()
	}
	b := &Stream{src: x.Request.Body, x: x, gzipped: gzipped}
	if gzipped { // Not given back: the goroutine that reads may outlive the exchange.
		b.src = newGunzip(x.Request.Body, math.MaxInt64-1, &x.bytesIn)
	}
	x.unread = b.unread
	return b, nil
}

// Read implements io.Reader.
func (b *Stream) Read(p []byte) (int, error) {
	n, err := b.readOn(p)
	if !b.gzipped {
		b.x.bytesIn.Add(int64(n))
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

func (b *Stream) readOn(p []byte) (int, error) {
	b.x.reading.Lock()
	defer b.x.reading.Unlock()
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed { // Otherwise it would be read beside net/http, which looks for its end: see endReads.
		return 0, http.ErrBodyReadAfterClose
	}
	return b.src.Read(p)
}

// unread says whether the end of the body has not been read yet.
func (b *Stream) unread() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.eof
}

// Unblock ends a Read that waits for a caller who is silent.
func (b *Stream) Unblock() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		_ = http.NewResponseController(b.x.w).SetReadDeadline(time.Unix(1, 0))
	}
}

// end keeps Unblock from touching a connection that serves its next request.
func (b *Stream) end() {
	b.x.departure.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}

// End ends reading, at the end of an exchange.
func (b *Stream) End() {
	b.end()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.x.endReads(hurry)
}
