package rest

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// inputs are the plans of the messages that request bodies hold, by name.
type inputs map[protoreflect.FullName]*transcode.Plan

func (in inputs) add(b *Binding) {
	if b.input == nil {
		return
	}
	md := b.Method.Descriptor.Input()
	if b.BodyField != nil {
		md = b.BodyField.Message()
	}
	in[md.FullName()] = b.input
}

// NewDecoder reads request bodies.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	if s, ok := r.(*streamBody); ok {
		dec := json.NewDecoder(s)
		return runtime.DecoderFunc(func(v any) error {
			s.left = s.max
			if err := m.decodeNext(dec, v); err != nil {
				return s.failed(err)
			}
			return nil
		})
	}
	return runtime.DecoderFunc(func(v any) error { return m.decode(r, v) })
}

// decodeNext reads one of several JSON values.
func (m *marshaler) decodeNext(dec *json.Decoder, v any) error {
	p, ok := v.(proto.Message)
	if !ok {
		return errors.New("rest: a stream of values that are no messages")
	}
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	return m.parse(raw, p)
}

func (m *marshaler) decode(r io.Reader, v any) error {
	if raw, ok := r.(*rawBody); ok {
		if p, ok := v.(**httpbody.HttpBody); ok {
			*p = &httpbody.HttpBody{ContentType: raw.contentType, Data: raw.data}
			return nil
		}
	}
	data, err := bytesOf(r)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return io.EOF
	}
	if p := message(v); p != nil {
		return m.parse(data, p)
	}
	return m.JSONPb.Unmarshal(data, v)
}

// parse reads a message from JSON, by way of its wire form: writing that with a
// plan and reading it with generated code is the faster way.
func (m *marshaler) parse(data []byte, p proto.Message) error {
	plan := m.inputs[p.ProtoReflect().Descriptor().FullName()]
	if plan == nil {
		return m.UnmarshalOptions.Unmarshal(data, p)
	}
	buf := httpedge.TakeBuffer()
	wire, err := plan.AppendWire((*buf)[:0], data)
	if err == nil {
		err = proto.Unmarshal(wire, p) // It copies what it keeps.
	}
	*buf = wire
	httpedge.GiveBuffer(buf)
	return err
}

func bytesOf(r io.Reader) ([]byte, error) {
	if b, ok := r.(*jsonBody); ok {
		return b.data, nil
	}
	return io.ReadAll(r)
}

// message returns the message v points at, making it where v is a pointer to a
// pointer, as handlers of a body field pass it.
func message(v any) proto.Message {
	if m, ok := v.(proto.Message); ok {
		return m
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.Elem().Kind() != reflect.Pointer {
		return nil
	}
	fresh := reflect.New(rv.Elem().Type().Elem())
	m, ok := fresh.Interface().(proto.Message)
	if ok {
		rv.Elem().Set(fresh)
	}
	return m
}
