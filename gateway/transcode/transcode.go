package transcode

import (
	"bytes"
	"encoding/json"
	"errors"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Resolver finds the messages inside google.protobuf.Any, and extensions.
type Resolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// Options of a Set.
type Options struct {
	// Types is what Any and extensions are looked up in; nil means
	// protoregistry.GlobalTypes.
	Types Resolver
	// MaxDepth bounds the nesting of JSON that is read; 0 means 64.
	MaxDepth int
}

// Set compiles plans, which share those of the messages they nest. Plan is for
// start-up, one call at a time; plans are safe for concurrent use.
type Set struct {
	o  Options
	in decodePlans // of AppendWire
}

// New returns an empty Set.
func New(o Options) *Set { return &Set{o: o} }

// Plan returns the plan of a message, compiled at the first call.
func (s *Set) Plan(md protoreflect.MessageDescriptor) (*Plan, error) {
	return &Plan{set: s, md: md, in: s.in.of(md)}, nil
}

// Plan turns one type of message into JSON and back.
type Plan struct {
	set   *Set
	md    protoreflect.MessageDescriptor
	field protoreflect.FieldDescriptor // of a plan that Field made
	in    *decodePlan                  // of AppendWire
}

// Field returns a plan that writes the value of one top-level field of the
// message in place of the whole: google.api.HttpRule.response_body.
func (p *Plan) Field(name protoreflect.Name) (*Plan, error) {
	fd := p.md.Fields().ByName(name)
	if fd == nil {
		return nil, errors.New("no such field")
	}
	return &Plan{set: p.set, md: p.md, field: fd, in: p.in}, nil
}

// AppendJSON appends the JSON of a message, given in wire form, to dst. On an
// error dst is returned as it was. It keeps neither slice.
func (p *Plan) AppendJSON(dst, wire []byte) ([]byte, error) {
	return p.AppendMasked(dst, wire, nil)
}

// Check says whether proto.Unmarshal would take the bytes, without keeping
// anything of them.
func (p *Plan) Check(wire []byte) error {
	return proto.Unmarshal(wire, dynamicpb.NewMessage(p.md))
}

// Mask is the fields that a caller asks for, compiled for one plan.
type Mask struct{}

// UnknownPathsError names the paths of a mask that lead nowhere.
type UnknownPathsError struct{ Paths []string }

func (e *UnknownPathsError) Error() string { return "unknown paths" }

// Mask compiles a list of field paths, separated by commas: names in JSON or proto
// form, dots between levels, * for all. Its error is an *UnknownPathsError, or says
// what is wrong with the syntax.
func (p *Plan) Mask(paths string) (*Mask, error) { return nil, errors.New("not yet") }

// AppendMasked is AppendJSON with only the fields of the mask; a nil one is all.
func (p *Plan) AppendMasked(dst, wire []byte, m *Mask) ([]byte, error) {
	msg := dynamicpb.NewMessage(p.md)
	if err := proto.Unmarshal(wire, msg); err != nil {
		return dst, err
	}
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(msg)
	if err != nil {
		return dst, err
	}
	if p.field != nil {
		var all map[string]json.RawMessage
		if err := json.Unmarshal(b, &all); err != nil {
			return dst, err
		}
		b = all[p.field.JSONName()]
		if b == nil {
			b = []byte("null")
		}
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return dst, err
	}
	return append(dst, out.Bytes()...), nil
}
