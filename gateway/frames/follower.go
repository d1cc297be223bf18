package frames

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Frame is the head of a frame.
type Frame struct {
	Type   http2.FrameType
	Flags  http2.Flags
	Stream uint32
	Length int // of the payload, in bytes
}

// Follower follows the frames of one direction of a connection, and holds none of
// their bytes. It is for one goroutine at a time.
type Follower struct {
	skip  int // bytes until the next frame's head
	head  [9]byte
	have  int  // bytes of head
	block bool // HEADERS go on in CONTINUATION: nothing may come between
	data  bool // what is skipped is the payload of DATA
	fresh bool // Between was true since the last question of it, see lapsed
}

// FromPreface is a Follower of what a client sends, from its first byte on.
func FromPreface() Follower { return Follower{skip: len(http2.ClientPreface)} }

// Feed calls saw for each frame whose head is complete.
func (f *Follower) Feed(p []byte, saw func(Frame)) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(p))
			f.skip -= n
			p = p[n:]
			if f.Between() {
				f.fresh = true
			}
			continue
		}
		n := copy(f.head[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have < len(f.head) {
			return
		}
		f.have = 0
		f.skip = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
		fr := Frame{Type: http2.FrameType(f.head[3]), Flags: http2.Flags(f.head[4]), Stream: binary.BigEndian.Uint32(f.head[5:]) & (1<<31 - 1), Length: f.skip}
		f.data = fr.Type == http2.FrameData
		if fr.Type == http2.FrameHeaders || fr.Type == http2.FrameContinuation {
			f.block = !fr.Flags.Has(http2.FlagHeadersEndHeaders)
		}
		saw(fr)
		if f.Between() {
			f.fresh = true
		}
	}
}

// Between says whether a frame ends here, and another may begin.
func (f *Follower) Between() bool { return f.skip == 0 && f.have == 0 && !f.block }

// unfinished says whether something has been begun that must be finished before
// anything else can be read: the preface, a frame, a header block. The payload of
// DATA is none: how slowly a body may come is the request's to bound.
func (f *Follower) unfinished() bool { return !f.Between() && (f.skip == 0 || f.block || !f.data) }
