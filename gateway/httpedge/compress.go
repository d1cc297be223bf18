package httpedge

import (
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// CompressionOptions say which answers are compressed for callers who accept it
// (RFC 9110, 8.4). See docs/decisions/0018-compression.md.
type CompressionOptions struct {
	// Off sends every answer as it is.
	Off bool
	// MinBytes is the smallest body that is compressed; 0 means 1400, which is
	// what fits a packet: below it nothing arrives any sooner.
	MinBytes int
}

const (
	defaultMinCompress = 1400
	// zstdWindow bounds how far back a match may lie, and with it what encoder and
	// decoder hold; no body of this API gains by a larger one.
	zstdWindow = 128 << 10
)

// Compressor compresses whole bodies. A nil one compresses nothing. It is safe
// for concurrent use.
type Compressor struct {
	min  int
	gzip slots[*gzipEncoder]
	zstd slots[*zstd.Encoder]
}

// NewCompressor makes a Compressor; nil where o switches it off.
func NewCompressor(o CompressionOptions) (*Compressor, error) {
	if o.MinBytes < 0 {
		return nil, errors.New("httpedge: compression: a size is negative")
	}
	if o.Off {
		return nil, nil
	}
	if o.MinBytes == 0 {
		o.MinBytes = defaultMinCompress
	}
	n := runtime.GOMAXPROCS(0)
	return &Compressor{min: o.MinBytes, gzip: newSlots(n, newGzip), zstd: newSlots(n, newZstd)}, nil
}

// ContentEncodings are headers of compressed answers, made once; nobody writes into them.
var ContentEncodings = [...][]string{CodingGzip: {"gzip"}, CodingZstd: {"zstd"}}

// Choose decides about the whole body of an answer, n bytes of the Content-Type in
// h, for a caller who sent these lines of Accept-Encoding. In h it notes that the
// answer depends on them, even where this one stays as it is. Identity says that it
// may. Answers in parts and those without a body must not come here.
func (c *Compressor) Choose(h http.Header, accept []string, n int) (k Coding, identity bool) {
	if c == nil || n == 0 || !compressible(h["Content-Type"]) || encoded(h) {
		return CodingIdentity, true
	}
	AddVary(h, VaryEncoding)
	if k, identity = negotiate(accept); identity && n < c.min {
		k = CodingIdentity
	}
	return k, identity
}

// Encode appends the compressed body to dst, unless that is no smaller and the body
// may be sent as it is: then ok is false. It notes the Coding in h. Content-Length
// is the sender's to set, behind it; of HEAD it is then that of GET (RFC 9110,
// 9.3.2).
func (c *Compressor) Encode(h http.Header, k Coding, identity bool, body, dst []byte) (out []byte, ok bool) {
	out = c.append(dst[:0], k, body)
	if identity && len(out) >= len(body) {
		return nil, false
	}
	h["Content-Encoding"] = ContentEncodings[k]
	weaken(h)
	return out, true
}

// Packing is the memory of an answer's compressed body, of the pool of answers.
// The zero Packing has none.
type Packing struct{ memory *[]byte }

// Compress returns what to send of an answer with the headers h: its body, or the
// compressed form of it, until Release.
func (p *Packing) Compress(c *Compressor, h http.Header, accept []string, body []byte) []byte {
	k, identity := c.Choose(h, accept, len(body))
	if k == CodingIdentity {
		return body
	}
	if p.memory == nil {
		p.memory = TakeBuffer()
	}
	out, ok := c.Encode(h, k, identity, body, slices.Grow((*p.memory)[:0], len(body)/4)) // JSON seldom needs more.
	if !ok {
		return body
	}
	*p.memory = out
	return out
}

// Release gives the memory back once it has been written. After a failure it does
// not: an HTTP/2 connection may still be about to send from it.
func (p *Packing) Release(err error) {
	if p.memory != nil && err == nil {
		GiveBuffer(p.memory)
	}
	p.memory = nil
}

// append appends the compressed body to dst.
func (c *Compressor) append(dst []byte, k Coding, body []byte) []byte {
	if k == CodingZstd {
		z := c.zstd.take()
		defer c.zstd.put(z)
		return z.EncodeAll(body, dst)
	}
	g := c.gzip.take()
	defer c.gzip.put(g)
	return g.encode(dst, body)
}

// encoded says that the body is not to be touched: it is encoded already, or
// whoever made it forbids it (RFC 9111, 5.2.2.6).
func encoded(h http.Header) bool {
	if len(h["Content-Encoding"]) > 0 || len(h["Content-Range"]) > 0 {
		return true
	}
	for _, line := range h["Cache-Control"] {
		if len(line) >= len("no-transform") && strings.Contains(strings.ToLower(line), "no-transform") {
			return true
		}
	}
	return false
}

// compressible says whether a media type is text: JSON, and what services send as
// google.api.HttpBody. Pictures, archives and what nobody named are not.
func compressible(contentType []string) bool {
	if len(contentType) != 1 {
		return false
	}
	t := contentType[0]
	if t == "application/json" {
		return true
	}
	t, _, _ = strings.Cut(t, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	switch t {
	case "application/json", ProblemType, "application/x-ndjson", "application/xml", "application/javascript":
		return true
	}
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml")
}

// weaken makes a strong ETag a weak one: it named the bytes before compression
// (RFC 9110, 8.8.3.3).
func weaken(h http.Header) {
	if tags := h["Etag"]; len(tags) == 1 && strings.HasPrefix(tags[0], `"`) {
		h["Etag"] = []string{"W/" + tags[0]}
	}
}

// Values of Vary, made once; nobody writes into them.
var (
	VaryEncoding     = []string{"Accept-Encoding"}
	VaryMask         = []string{"X-Goog-FieldMask"}
	varyMaskEncoding = []string{"X-Goog-FieldMask", "Accept-Encoding"}
)

// AddVary adds one of these fields to Vary, beside that of CORS. What most answers
// have is there already; other sets are copied.
func AddVary(h http.Header, field []string) {
	have := h["Vary"]
	switch {
	case len(have) == 0:
		h["Vary"] = field
	case slices.Contains(have, field[0]):
	case len(have) == 1 && (have[0] == VaryMask[0] || have[0] == VaryEncoding[0]):
		h["Vary"] = varyMaskEncoding
	default:
		h["Vary"] = append(have[:len(have):len(have)], field[0])
	}
}

// slots lend out at most as many encoders as there are processors, made when they
// are first needed: each holds most of a MiB, and one more would only wait for a
// processor. Whoever finds none waits.
type slots[E comparable] struct {
	idle  chan E // the zero E stands for one that is not made yet
	fresh func() E
}

func newSlots[E comparable](n int, fresh func() E) slots[E] {
	s := slots[E]{idle: make(chan E, n), fresh: fresh}
	var none E
	for range n {
		s.idle <- none
	}
	return s
}

func (s *slots[E]) take() E {
	var none E
	e := <-s.idle
	if e == none {
		e = s.fresh()
	}
	return e
}

func (s *slots[E]) put(e E) { s.idle <- e }

// gzipEncoder is a gzip writer that appends to a slice.
type gzipEncoder struct {
	w   *gzip.Writer
	out appender
}

func newGzip() *gzipEncoder {
	g := &gzipEncoder{}
	g.w, _ = gzip.NewWriterLevel(&g.out, gzip.BestSpeed) // Only an unknown level is an error.
	return g
}

func (g *gzipEncoder) encode(dst, body []byte) []byte {
	g.out.b = dst
	g.w.Reset(&g.out)
	_, _ = g.w.Write(body) // An appender never fails.
	_ = g.w.Close()
	dst, g.out.b = g.out.b, nil
	return dst
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func newZstd() *zstd.Encoder {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic("httpedge: " + err.Error()) // Options that are constant.
	}
	return z
}
