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
// (inprocgrpc.Cloner), whichever side is typed. The sides never share memory:
// each may give its own back to the pool.
type Cloner struct{}

// Copy sets out to in.
func (Cloner) Copy(out, in any) error {
	switch out := out.(type) {
	case *Frame:
		return out.copy(in)
	case proto.Message:
		switch in := in.(type) {
		case proto.Message:
			return convert(out, in)
		case *Frame:
			if in.taken() {
				return errGone
			}
			return parse(out, in.Data)
		}
		return fmt.Errorf("wire: cannot read %T", in)
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
		b, err := marshal(in)
		if err != nil {
			return err
		}
		f.hold(b)
		return nil
	}
	return fmt.Errorf("wire: cannot marshal %T", in)
}

// marshal writes a message into memory of the pool, unless it is so small that
// the pool is not worth it.
func marshal(m proto.Message) (mem.Buffer, error) {
	n := proto.Size(m)
	options := proto.MarshalOptions{UseCachedSize: true} // Of the line above.
	if mem.IsBelowBufferPoolingThreshold(n) {
		b, err := options.Marshal(m)
		return mem.SliceBuffer(b), err
	}
	pool := pool()
	b := pool.Get(n)
	out, err := options.MarshalAppend((*b)[:0], m)
	if err != nil {
		pool.Put(b)
		return nil, err
	}
	if len(out) > cap(*b) { // It changed while it was written: then nothing holds, but not the pool's memory either.
		pool.Put(b)
		return mem.SliceBuffer(out), nil
	}
	*b = out
	return mem.NewBuffer(b, pool), nil
}

// convert copies one message into another, which may be of another type.
func convert(out, in proto.Message) error {
	if in.ProtoReflect().Descriptor() == out.ProtoReflect().Descriptor() {
		proto.Reset(out)
		proto.Merge(out, in)
		return nil
	}
	b, err := marshal(in)
	if err != nil {
		return err
	}
	defer b.Free()
	return parse(out, b.ReadOnlyData())
}

// parse reads a message; it keeps none of b.
func parse(out proto.Message, b []byte) error {
	if err := proto.Unmarshal(b, out); err != nil {
		// As grpc-go says it, so that both kinds of connection answer alike.
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}
