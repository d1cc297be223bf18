package listen

import (
	"bytes"
	"strconv"
	"sync/atomic"
)

// heads follows the requests of an HTTP/1 connection (RFC 9112), and notes the first
// head whose framing two readers could understand differently: then nothing may be
// read behind that request, for what we take for the next one another reader in
// front of us may have taken for a part of the body. net/http understands such heads
// in its own way and does not tell, so they are looked at as they come in.
//
// What heads understands itself decides nothing but whether the connection is used
// again. A doubt is never taken back, so that a client cannot lead it astray: what
// it would be led astray by is the doubt.
type heads struct {
	doubt atomic.Bool

	state   headState
	left    int64  // of the body, or of a chunk and its line end
	line    []byte // the beginning of a line that is not complete yet
	cut     bool   // there was more of the line than is held
	last    byte   // of that
	begun   bool   // the request line has been read
	lengths int    // lines of Content-Length
	length  int64
	codings int // lines of Transfer-Encoding
}

type headState uint8

const (
	inHead headState = iota
	inBody
	inChunkSize
	inChunk
	inTrailers
)

// longestHeld is how much of a line is held that comes in parts. Only lines that
// frame a body are read, which are short.
const longestHeld = 128

// feed takes what has been read. It says whether a doubt has arisen in the body of a
// request whose head had been read before: Settle may have looked already, so only
// ending the reading stops what comes behind.
func (h *heads) feed(p []byte) (late bool) {
	settled := true // No head ends in p.
	for len(p) > 0 && !h.doubt.Load() {
		if h.left > 0 {
			n := min(h.left, int64(len(p)))
			h.left -= n
			p = p[n:]
			continue
		}
		if h.state == inBody {
			h.state = inHead
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			h.hold(p)
			return false
		}
		line := p[:i]
		p = p[i+1:]
		if len(h.line) > 0 {
			h.hold(line)
			line = h.line
			if h.cut {
				line = append(line, h.last)
			}
		}
		was := h.state
		h.take(line)
		h.line, h.cut = h.line[:0], false
		if was == inHead {
			settled = settled && h.begun
		} else if h.doubt.Load() {
			return settled
		}
	}
	return false
}

func (h *heads) hold(p []byte) {
	if len(p) == 0 {
		return
	}
	n := min(len(p), longestHeld-len(h.line))
	h.line = append(h.line, p[:n]...)
	if n < len(p) {
		h.cut, h.last = true, p[len(p)-1]
	}
}

// take reads a line, without its line feed.
func (h *heads) take(line []byte) {
	n := len(line) - 1
	if n < 0 || line[n] != '\r' { // RFC 9112, 2.2: a lone line feed may be taken for a line end, and need not.
		h.doubt.Store(true)
		return
	}
	line = line[:n]
	switch h.state {
	case inHead:
		h.takeHead(line)
	case inChunkSize:
		size, _, _ := bytes.Cut(line, []byte{';'})
		n, err := strconv.ParseInt(string(bytes.TrimRight(size, " \t")), 16, 62)
		switch {
		case err != nil || n < 0:
			h.doubt.Store(true)
		case n == 0:
			h.state = inTrailers
		default:
			h.state, h.left = inChunk, n
		}
	case inChunk: // The line end behind a chunk.
		if len(line) > 0 {
			h.doubt.Store(true)
		}
		h.state = inChunkSize
	case inTrailers:
		if len(line) == 0 {
			h.state = inHead
		}
	}
}

func (h *heads) takeHead(line []byte) {
	switch {
	case len(line) == 0 && !h.begun: // Before a request line: net/http refuses it.
	case len(line) == 0:
		h.endHead()
	case !h.begun:
		h.begun = true
	case line[0] == ' ' || line[0] == '\t': // RFC 9112, 5.2: the line before goes on, or not.
		h.doubt.Store(true)
	default:
		h.takeField(line)
	}
}

const contentLength, transferEncoding = "content-length", "transfer-encoding"

func (h *heads) takeField(line []byte) {
	switch {
	case named(line, contentLength):
		value := bytes.Trim(line[len(contentLength)+1:], " \t")
		n, err := strconv.ParseUint(string(value), 10, 62)
		h.lengths, h.length = h.lengths+1, int64(n) //nolint:gosec // 62 bits.
		if err != nil || h.lengths > 1 || h.cut {
			h.doubt.Store(true)
		}
	case named(line, transferEncoding):
		value := bytes.Trim(line[len(transferEncoding)+1:], " \t")
		if h.codings++; h.codings > 1 || h.cut || !bytes.EqualFold(value, []byte("chunked")) {
			h.doubt.Store(true)
		}
	}
}

// named says whether a line is the field of that name, in lower case.
func named(line []byte, name string) bool {
	return len(line) > len(name) && line[len(name)] == ':' && line[0]|0x20 == name[0] && bytes.EqualFold(line[:len(name)], []byte(name))
}

// endHead ends a head: what follows is its body, or the next one.
func (h *heads) endHead() {
	switch {
	case h.codings > 0 && h.lengths > 0: // RFC 9112, 6.1.
		h.doubt.Store(true)
	case h.codings > 0:
		h.state = inChunkSize
	case h.length > 0:
		h.state, h.left = inBody, h.length
	}
	h.begun, h.lengths, h.length, h.codings = false, 0, 0, 0
}
