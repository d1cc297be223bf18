package policy

import (
	"encoding/binary"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// KeyField reads a request field that answers differ by (Cache.Vary) from wire bytes,
// as a part of a cache's key. Whatever two requests are told apart by when they are
// parsed, their parts differ in; equal values that are written differently may make
// two parts, which costs no more than a second entry.
type KeyField struct {
	path *FieldPath // of a string within messages; nil means the field below
	num  protowire.Number
	typ  protowire.Type
}

// CompileKeyField resolves a path against a message: to a singular scalar field of its
// own, or through messages to a string that is no `optional` one, of which the path
// would not tell unset from empty.
func CompileKeyField(md protoreflect.MessageDescriptor, path string) (*KeyField, error) {
	if strings.Contains(path, ".") {
		p, err := CompileFieldPath(md, path)
		if err != nil {
			return nil, err
		}
		if last := p.fields[len(p.fields)-1]; last.HasPresence() {
			return nil, fmt.Errorf("%s is optional: within a message, unset and empty cannot be told apart", last.FullName())
		}
		return &KeyField{path: p}, nil
	}
	fd := md.Fields().ByName(protoreflect.Name(path))
	if fd == nil {
		return nil, fmt.Errorf("%s has no field %q", md.FullName(), path)
	}
	if err := singular(fd); err != nil {
		return nil, err
	}
	f := &KeyField{num: fd.Number()}
	switch fd.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind:
		f.typ = protowire.BytesType
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		f.typ = protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		f.typ = protowire.Fixed64Type
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return nil, fmt.Errorf("%s is a message: name its strings, or nothing for the whole request", fd.FullName())
	default:
		f.typ = protowire.VarintType
	}
	return f, nil
}

// Append appends the field of a message in wire form: its value behind a length, or,
// where it is unset, what no value looks like.
func (f *KeyField) Append(dst, wire []byte) ([]byte, error) {
	if f.path != nil {
		v, err := f.path.Of(Message{Wire: wire})
		if err != nil {
			return dst, err
		}
		return append(binary.AppendUvarint(dst, uint64(len(v))+1), v...), nil
	}
	v, set, err := f.last(wire)
	if err != nil || !set {
		return append(dst, 0), err
	}
	return append(binary.AppendUvarint(dst, uint64(len(v))+1), v...), nil
}

// last finds the value that the parser keeps, as FieldPath.scan does.
func (f *KeyField) last(b []byte) (v []byte, set bool, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || num > protowire.MaxValidNumber || n != protowire.SizeTag(num) {
			return nil, false, errMalformed
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, false, errMalformed
		}
		if num == f.num && typ == f.typ {
			v, set = b[:n], true
			if typ == protowire.BytesType {
				v, _ = protowire.ConsumeBytes(b) // Its length was just read.
			}
		}
		b = b[n:]
	}
	return v, set, nil
}
