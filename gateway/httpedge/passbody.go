package httpedge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// PassedBody is a body that is passed on as it comes: no more than most bytes, each
// part of it within the time that a body may take. One goroutine reads it.
type PassedBody struct {
	src  io.ReadCloser
	x    *Exchange
	most int64 // what is left; below 0 is unbounded
	all  int64 // that it had at first
	rc   *http.ResponseController

	mu   sync.Mutex
	over bool // read to its end, or the exchange is over: no deadline any more
	err  error
	eof  bool
}

// PassBody returns the body, of no more than most bytes, less than 1 meaning any number;
// nil where there is none. The error, a status, is for one that announces more.
func (x *Exchange) PassBody(most int64) (*PassedBody, error) {
	if most > 0 && x.Request.ContentLength > most {
		return nil, Refuse("body_bytes", BodyTooLarge(most))
	}
	x.bodyRead = true // Its deadlines are its own.
	if x.Request.Body == nil || x.Request.Body == http.NoBody || x.Request.ContentLength == 0 {
		return nil, nil
	}
	rc := http.NewResponseController(x.w)
	// Over HTTP/1 net/http would otherwise swallow what is left of the body before the
	// first byte of the answer.
	_ = rc.EnableFullDuplex()
	if most <= 0 {
		most = -1
	}
	b := &PassedBody{src: x.Request.Body, x: x, most: most, all: most, rc: rc}
	x.unread = b.unread
	return b, nil
}

// unread says whether the end of the body has not been read yet.
func (b *PassedBody) unread() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.eof
}

// Read implements io.Reader.
func (b *PassedBody) Read(p []byte) (int, error) {
	b.x.reading.Lock()
	defer b.x.reading.Unlock()
	b.mu.Lock()
	if b.over || b.err != nil {
		defer b.mu.Unlock()
		switch {
		case b.err != nil:
			return 0, b.err
		case b.eof: // The transport looks behind a body whose length it knows.
			return 0, io.EOF
		}
		return 0, http.ErrBodyReadAfterClose
	}
	_ = b.rc.SetReadDeadline(time.Now().Add(b.x.server.o.ReadTimeout))
	b.mu.Unlock()
	if b.most >= 0 && int64(len(p)) > b.most+1 {
		p = p[:b.most+1]
	}
	n, err := b.src.Read(p)
	b.x.bytesIn.Add(int64(n))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.most >= 0 {
		if b.most -= int64(n); b.most < 0 {
			b.err = Refuse("body_bytes", BodyTooLarge(b.all))
			return 0, b.err
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.eof = true
		if b.over {
			break
		}
		b.over = true
		b.x.departure.stop()
		_ = b.rc.SetReadDeadline(time.Time{})
	case b.over:
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.err = Refuse("body_slow", bodyTooSlow())
		return n, b.err
	default:
		b.err = bodyBroken()
		return n, b.err
	}
	return n, err
}

// Close is the service's side being done; net/http closes the body itself.
func (b *PassedBody) Close() error { return nil }

// Failure is what was wrong with the body, nil if nothing was.
func (b *PassedBody) Failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// End gives what nobody will read a moment to come: see hurryBody, and endReads.
func (b *PassedBody) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		b.over = true
		_ = b.rc.SetReadDeadline(time.Now().Add(hurry))
	}
}
