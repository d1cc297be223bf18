package httpedge

import "sync"

// buffers are for JSON on its way out and for messages on their way in. What is
// larger than keptBuffer is not kept: one large answer must not stay in memory
// for the small ones.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const keptBuffer = 1 << 20

// TakeBuffer lends memory; its slice has any content.
func TakeBuffer() *[]byte { return buffers.Get().(*[]byte) }

// GiveBuffer gives it back; nobody may read from it any more.
func GiveBuffer(b *[]byte) {
	if cap(*b) <= keptBuffer {
		buffers.Put(b)
	}
}
