// Package wire lets messages pass through the gateway as bytes: a frame type,
// the codec that both gRPC sides use, and the copying that an in-process
// connection needs. gateway/rpc forwards frames; gateway/upstream carries them
// over either kind of connection.
package wire

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // Registers the codec that typed messages use.
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Frame is a message in its wire form. Its bytes are not changed once the frame
// has been sent or received, and never return to a pool: after a cancel, the
// serving side of an in-process call may still be reading them.
type Frame struct{ Data []byte }

// Free gives the memory of a frame that was received back to its pool, and takes
// its bytes away. It is for the frame's only reader, once it has read; a frame
// that nobody frees is left to the garbage collector.
func (f *Frame) Free() {}

// Codec carries frames as they are and typed messages as protobuf, under the
// name proto, so that one server or connection serves both.
type Codec struct{}

var typed = encoding.GetCodecV2("proto")

// Name returns the content-subtype, as encoding.CodecV2 asks.
func (Codec) Name() string { return "proto" }

// Marshal returns v's wire form.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*Frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f.Data)}, nil
	}
	return typed.Marshal(v)
}

// Unmarshal reads v from its wire form; a frame keeps a copy of its own.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*Frame); ok {
		f.Data = data.Materialize()
		return nil
	}
	return typed.Unmarshal(data, v)
}

// Cloner copies messages between the two sides of an in-process connection
// (inprocgrpc.Cloner), whichever side is typed.
type Cloner struct{}

// Copy sets out to in.
func (Cloner) Copy(out, in any) error {
	switch out := out.(type) {
	case *Frame:
		b, err := bytesOf(in)
		if err != nil {
			return err
		}
		out.Data = b
		return nil
	case proto.Message:
		if in, ok := in.(proto.Message); ok && in.ProtoReflect().Descriptor() == out.ProtoReflect().Descriptor() {
			proto.Reset(out)
			proto.Merge(out, in)
			return nil
		}
		b, err := bytesOf(in)
		if err != nil {
			return err
		}
		if err := proto.Unmarshal(b, out); err != nil {
			// As grpc-go says it, so that both kinds of connection answer alike.
			return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
		}
		return nil
	}
	return fmt.Errorf("wire: cannot copy into %T", out)
}

// Clone returns a copy of in.
func (Cloner) Clone(in any) (any, error) {
	switch in := in.(type) {
	case *Frame:
		return &Frame{Data: append([]byte(nil), in.Data...)}, nil
	case proto.Message:
		return proto.Clone(in), nil
	}
	return nil, fmt.Errorf("wire: cannot clone %T", in)
}

// bytesOf returns bytes that nobody else changes: a frame's are never changed.
func bytesOf(in any) ([]byte, error) {
	switch in := in.(type) {
	case *Frame:
		return in.Data, nil
	case proto.Message:
		return proto.Marshal(in)
	}
	return nil, fmt.Errorf("wire: cannot marshal %T", in)
}
