package httpedge

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// gunzip reads a body that was sent with Content-Encoding: gzip. It takes one
// member and nothing behind it, and gives out no more than is asked for, so
// that its reader's bound is a bound on what is unpacked.
type gunzip struct {
	src  source
	buf  *bufio.Reader
	zip  gzip.Reader
	open bool
	err  error // how it ended, once it did
}

var errTrailing = errors.New("something stands behind the gzip data")

// gunzips are kept: a reader has 40 KiB of tables.
var gunzips = sync.Pool{New: func() any { return &gunzip{buf: bufio.NewReaderSize(nil, 4<<10)} }}

func newGunzip(r io.Reader, limit int64, count *atomic.Int64) *gunzip {
	g := gunzips.Get().(*gunzip)
	g.src = source{r: r, left: limit, count: count}
	g.buf.Reset(&g.src)
	g.open, g.err = false, nil
	return g
}

// release gives the reader back; nothing may read from it any more.
func (g *gunzip) release() {
	g.src = source{}
	g.buf.Reset(nil)
	gunzips.Put(g)
}

func (g *gunzip) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	if !g.open {
		if g.err = unexpected(g.zip.Reset(g.buf)); g.err != nil {
			return 0, g.err
		}
		g.zip.Multistream(false)
		g.open = true
	}
	n, err := g.zip.Read(p)
	if errors.Is(err, io.EOF) {
		if _, err = g.buf.ReadByte(); err == nil {
			err = errTrailing
		}
	}
	g.err = err
	return n, err
}

// unexpected tells the end of a body that should have begun from a good one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// source counts and bounds the bytes as they are sent, and keeps what went
// wrong, which the decoder above would mix with its own errors.
type source struct {
	r     io.Reader
	left  int64
	count *atomic.Int64
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	if int64(len(p)) > s.left+1 {
		p = p[:s.left+1]
	}
	n, err := s.r.Read(p)
	s.count.Add(int64(n))
	if s.left -= int64(n); s.left < 0 {
		n, err = 0, ErrTooLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Gzipped reads Content-Encoding: one that is gzip, or none.
func Gzipped(h http.Header) (gzipped bool, err error) {
	vs := h["Content-Encoding"]
	if len(vs) == 0 || (len(vs) == 1 && (vs[0] == "" || strings.EqualFold(vs[0], "identity"))) {
		return false, nil
	}
	if len(vs) == 1 && (strings.EqualFold(vs[0], "gzip") || strings.EqualFold(vs[0], "x-gzip")) {
		return true, nil
	}
	return false, Refuse("encoding", unsupportedEncoding())
}
