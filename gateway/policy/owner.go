package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var errMalformed = errors.New("malformed message")

// FieldPath is a compiled path to a singular string field of a message, read
// from its wire bytes.
type FieldPath struct {
	path   string
	fields []protoreflect.FieldDescriptor
	utf8   bool
	// variable says that path is the name of a variable of a plain HTTP path.
	variable bool
}

// CompileFieldPath resolves a path such as `user.user_id` against a message.
// Paths through oneof, repeated, map or group fields, and to fields with a
// default value, are refused: on them, what a scan of the wire sees and what the
// parser keeps can differ.
func CompileFieldPath(md protoreflect.MessageDescriptor, path string) (*FieldPath, error) {
	f := &FieldPath{path: path}
	names := strings.Split(path, ".")
	for i, name := range names {
		fd := md.Fields().ByName(protoreflect.Name(name))
		if fd == nil {
			return nil, fmt.Errorf("%s has no field %q", md.FullName(), name)
		}
		if err := singular(fd); err != nil {
			return nil, err
		}
		last := i == len(names)-1
		if last != (fd.Kind() == protoreflect.StringKind) || (!last && fd.Kind() != protoreflect.MessageKind) {
			return nil, fmt.Errorf("%s: a path leads through messages to a string", fd.FullName())
		}
		f.fields = append(f.fields, fd)
		md = fd.Message()
	}
	f.utf8 = enforcesUTF8(f.fields[len(f.fields)-1])
	return f, nil
}

func singular(fd protoreflect.FieldDescriptor) error {
	if o := fd.ContainingOneof(); o != nil && !o.IsSynthetic() {
		return fmt.Errorf("%s is in a oneof", fd.FullName())
	}
	if fd.Cardinality() == protoreflect.Repeated {
		return fmt.Errorf("%s is repeated or a map", fd.FullName())
	}
	if fd.Kind() == protoreflect.GroupKind {
		return fmt.Errorf("%s is a group", fd.FullName())
	}
	if fd.HasDefault() {
		return fmt.Errorf("%s has a default value, which the wire does not show", fd.FullName())
	}
	return nil
}

// enforcesUTF8 says whether the parser refuses the field's invalid UTF-8.
func enforcesUTF8(fd protoreflect.FieldDescriptor) bool {
	if e, ok := fd.(interface{ EnforceUTF8() bool }); ok {
		return e.EnforceUTF8()
	}
	return fd.Syntax() == protoreflect.Proto3
}

// String returns the path as it was written.
func (f *FieldPath) String() string { return f.path }

// Of reads the field; an unset one is empty. A message that is not valid on
// the wire is an error.
func (f *FieldPath) Of(m Message) (string, error) {
	if f.variable {
		if m.Variable != nil {
			if v, ok := m.Variable(f.path); ok {
				return v, nil
			}
		}
		return "", errMalformed // Never open: a route whose path did not bind it names nobody.
	}
	var out string
	if err := f.scan(m.Wire, 0, &out); err != nil {
		return "", err
	}
	return out, nil
}

// scan agrees with the parser: the last scalar wins across all occurrences of
// each parent, in order; wrong wire types are unknown fields. Where parsers of
// other languages do not agree, the bytes are refused, for the service may be
// written in one: field numbers beyond 2^29-1, which some cut to 32 bits, and
// tags written with more bytes than they need, which some do not recognize.
func (f *FieldPath) scan(b []byte, depth int, out *string) error {
	want := f.fields[depth].Number()
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || num > protowire.MaxValidNumber || n != protowire.SizeTag(num) {
			return errMalformed
		}
		b = b[n:]
		if num != want || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return errMalformed
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if depth < len(f.fields)-1 {
			if err := f.scan(v, depth+1, out); err != nil {
				return err
			}
			continue
		}
		if f.utf8 && !utf8.Valid(v) {
			return errMalformed
		}
		*out = string(v)
	}
	return nil
}
