package transcode

import (
	"errors"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What parsers of other languages refuse where protobuf-go does not: messages within more
// than 100 others, and tags or lengths that are written with more bytes than 32 bits need.
const (
	maxRequestNesting = 100
	maxTag            = 5
)

// CheckRequest says whether a service, in whatever language, can parse the bytes of a
// request. It is stricter than Check: a service that cannot parse answers INTERNAL, and
// nobody could tell that from a failure of its own. The error is an *Error that names the
// field, where there is one; it has no position.
func (p *Plan) CheckRequest(wire []byte) error {
	c := checker{set: p.set, request: true}
	_, err := c.message(wire, p.whole, 0, maxRequestNesting+1)
	if err == nil && c.partial { // What one part lacks another may have; protobuf-go overlooks some that are missing in a oneof.
		var m proto.Message
		if m, err = p.parse(wire, true); err == nil {
			if proto.CheckInitialized(m) == nil {
				return nil
			}
			return Unwritable(m)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUTF8):
		return &Error{Field: c.path, Reason: reasonUTF8}
	case errors.Is(err, errDepth):
		return &Error{Field: c.path, Reason: "is nested deeper than " + strconv.Itoa(maxRequestNesting) + " messages"}
	}
	return &Error{Field: c.path, Reason: "is not valid protobuf"}
}

const reasonUTF8 = "must be UTF-8"

// Unwritable says why a message has no wire form: a required field that is not set, or
// text that is not UTF-8. It is for messages that could not be marshaled.
func Unwritable(m proto.Message) *Error {
	e := &Error{Reason: "cannot be written"}
	unwritable(m.ProtoReflect(), e)
	return e
}

// unwritable finds the first field that is wrong, and says whether there is one.
func unwritable(m protoreflect.Message, e *Error) (found bool) {
	fields := m.Descriptor().Fields()
	required := m.Descriptor().RequiredNumbers()
	for i := range required.Len() {
		if fd := fields.ByNumber(required.Get(i)); !m.Has(fd) {
			e.Field, e.Reason = string(fd.Name()), reasonRequired
			return true
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := nameOf(fd)
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				found = isUnwritable(fd.MapKey(), k.Value(), e) || isUnwritable(fd.MapValue(), v, e)
				return !found
			})
		case fd.IsList():
			for i := 0; i < v.List().Len() && !found; i++ {
				if found = isUnwritable(fd, v.List().Get(i), e); found {
					name += "[" + strconv.Itoa(i) + "]"
				}
			}
		default:
			found = isUnwritable(fd, v, e)
		}
		if found {
			e.Field = joined(name, e.Field)
		}
		return !found
	})
	return found
}

func isUnwritable(fd protoreflect.FieldDescriptor, v protoreflect.Value, e *Error) bool {
	switch {
	case fd.Message() != nil:
		return unwritable(v.Message(), e)
	case fd.Kind() == protoreflect.StringKind && enforcesUTF8(fd) && !utf8.ValidString(v.String()):
		e.Reason = reasonUTF8
		return true
	}
	return false
}

// within puts a field before the path of an error.
func (c *checker) within(f *field) { c.path = joined(nameOf(f.fd), c.path) }

func joined(name, path string) string {
	if path == "" {
		return name
	}
	if len(path) > maxPath {
		return path
	}
	return name + "." + path
}

func nameOf(fd protoreflect.FieldDescriptor) string {
	if fd.IsExtension() {
		return "[" + string(fd.FullName()) + "]"
	}
	return string(fd.Name())
}
