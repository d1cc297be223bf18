// Package raw passes messages over gRPC as the bytes they are: for the peers of
// the benchmark that look into nothing, and for the load.
package raw

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec of typed messages
	"google.golang.org/grpc/mem"
)

// Message is a message's wire form. Who receives one frees it.
type Message struct{ Data mem.BufferSlice }

// New returns a message of these bytes, which must not change.
func New(b []byte) *Message { return &Message{Data: mem.BufferSlice{mem.SliceBuffer(b)}} }

// Free gives the memory back.
func (m *Message) Free() {
	m.Data.Free()
	m.Data = nil
}

// Codec carries a *Message as it is and anything else as protobuf.
type Codec struct{}

var typed = encoding.GetCodecV2("proto")

// Name returns the content-subtype, as encoding.CodecV2 asks.
func (Codec) Name() string { return typed.Name() }

// Marshal returns v's wire form.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*Message); ok {
		m.Data.Ref() // grpc frees what it was given.
		return m.Data, nil
	}
	return typed.Marshal(v)
}

// Unmarshal keeps data, or parses it into a typed message.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*Message); ok {
		data.Ref()
		m.Data = data
		return nil
	}
	return typed.Unmarshal(data, v)
}
