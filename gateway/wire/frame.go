package wire

import (
	"errors"
	"unsafe"

	"google.golang.org/grpc/mem"
)

// Frame is a message in its wire form. Its bytes are not changed once the frame
// has been sent or received.
//
// A frame that was received keeps memory of a pool by reference. Free gives it back, HandOver leaves that to grpc-go. Both are for
// the frame's only reader; a frame with which neither is done is left to the
// garbage collector, which is always right. A request is given back only once
// its call has succeeded: after a cancel, the serving side of an in-process call
// may still be reading it.
//
// A frame is not safe for concurrent use, and not to be copied by value.
type Frame struct {
	Data []byte

	buf  mem.Buffer // that holds Data; nil when it is nobody's but the collector's
	last bool       // the next Marshal takes buf away
	gone bool       // the bytes were given back or handed over
}

var errGone = errors.New("wire: a frame is sent whose bytes were given back")

// Free gives the memory of a frame that was received back to its pool, and takes
// its bytes away. It is for the frame's only reader, once it has read; a second
// Free, and that of a nil frame, does nothing.
func (f *Frame) Free() {
	if f == nil {
		return
	}
	if f.buf != nil {
		f.buf.Free()
	}
	*f = Frame{gone: true}
}

// HandOver says that the frame will be sent once more, and not be read again:
// grpc-go frees its memory when it has been written. Without it, sending a frame
// shares its memory, and Free is still to be called. It is for answers that a
// handler returns: nobody is told when grpc-go has sent them.
func (f *Frame) HandOver() { f.last = true }

// taken says that there are no bytes to send: not even those of an empty message.
func (f *Frame) taken() bool { return f.gone && f.Data == nil }

// hold makes the frame keep b, and its reference.
func (f *Frame) hold(b mem.Buffer) { *f = Frame{Data: b.ReadOnlyData(), buf: b} }

// buffers are what the frame sends: with a reference of their own, if its memory
// is a pool's and nobody has put other bytes in its place.
func (f *Frame) buffers() (mem.BufferSlice, error) {
	if f.taken() {
		return nil, errGone
	}
	b := f.buf
	switch {
	case b == nil || !same(f.Data, b.ReadOnlyData()):
		b = mem.SliceBuffer(f.Data)
	case !f.last:
		b.Ref()
	}
	if f.last {
		*f = Frame{gone: true}
	}
	return mem.BufferSlice{b}, nil
}

func same(a, b []byte) bool { return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b) }
