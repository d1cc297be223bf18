// Package wire lets messages pass through the gateway as bytes: a frame type,
// the codec that both gRPC sides use, and the copying that an in-process
// connection needs. gateway/rpc forwards frames, gateway/rest makes them of messages;
// gateway/upstream carries them over either kind of connection.
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

// Codec carries frames as they are and typed messages as protobuf, under the
// name proto, so that one server or connection serves both.
type Codec struct{}

var typed = encoding.GetCodecV2("proto")

// Name returns the content-subtype, as encoding.CodecV2 asks.
func (Codec) Name() string { return "proto" }

// Marshal returns v's wire form.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*Frame); ok {
		return f.buffers()
	}
	return typed.Marshal(v)
}

// Unmarshal reads v from its wire form. A frame keeps a message that lies in one
// piece by reference, and one in several as a copy, in memory of the same pool.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*Frame); ok {
		f.hold(data.MaterializeToBuffer(pool()))
		return nil
	}
	return typed.Unmarshal(data, v)
}

// Cloner copies messages between the two sides of an in-process connection
// (inprocgrpc.Cloner): the service's may be typed, the gateway's is frames. The sides never share memory:
// each may give its own back to the pool.
type Cloner struct{}

// Copy sets out to in.
func (Cloner) Copy(out, in any) error {
	switch out := out.(type) {
	case *Frame:
		return out.copy(in)
	case proto.Message:
		f, ok := in.(*Frame)
		if !ok {
			return fmt.Errorf("wire: cannot read %T", in)
		}
		if f.taken() {
			return errGone
		}
		return parse(out, f.Data)
	}
	return fmt.Errorf("wire: cannot copy into %T", out)
}

// Clone returns a copy of in.
func (Cloner) Clone(in any) (any, error) {
	switch in := in.(type) {
	case *Frame:
		out := &Frame{}
		return out, out.copy(in)
	case proto.Message:
		return proto.Clone(in), nil
	}
	return nil, fmt.Errorf("wire: cannot clone %T", in)
}

// copy sets the frame to in's wire form.
func (f *Frame) copy(in any) error {
	switch in := in.(type) {
	case *Frame:
		if in.taken() {
			return errGone
		}
		f.hold(mem.Copy(in.Data, pool()))
		return nil
	case proto.Message:
		return f.Encode(in, nil)
	}
	return fmt.Errorf("wire: cannot marshal %T", in)
}

// Encode sets the frame to a message's wire form. Equal messages have equal ones, by which
// caches know them. A small one is written into room, where it fits: memory that must live
// as long as the frame and whoever reads it; nil means none.
func (f *Frame) Encode(m proto.Message, room []byte) error {
	n := proto.Size(m)
	options := proto.MarshalOptions{UseCachedSize: true, Deterministic: true} // Its size is that of the line above.
	if len(room) >= max(n, 1) || mem.IsBelowBufferPoolingThreshold(n) {       // So small that the pool is not worth it.
		b, err := options.MarshalAppend(fitting(room, n), m)
		if err != nil {
			return err
		}
		*f = Frame{Data: b}
		return nil
	}
	pool := pool()
	b := pool.Get(n)
	out, err := options.MarshalAppend((*b)[:0], m)
	if err != nil {
		pool.Put(b)
		return err
	}
	if len(out) > cap(*b) { // It changed while it was written: then nothing holds, but not the pool's memory either.
		pool.Put(b)
		*f = Frame{Data: out}
		return nil
	}
	*b = out
	f.hold(mem.NewBuffer(b, pool))
	return nil
}

func fitting(room []byte, n int) []byte {
	if len(room) >= max(n, 1) {
		return room[:0:len(room)]
	}
	return make([]byte, 0, n)
}

// parse reads a message; it keeps none of b.
func parse(out proto.Message, b []byte) error {
	if err := proto.Unmarshal(b, out); err != nil {
		// As grpc-go says it, so that both kinds of connection answer alike.
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}
