package kit

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// validate turns what breaks the rules of the proto into INVALID_ARGUMENT with
// one google.rpc.BadRequest violation each.
func (c *chain) validate(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	if err := c.validator.Validate(m); err != nil {
		var broken *protovalidate.ValidationError
		if !errors.As(err, &broken) {
			return fmt.Errorf("validate %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
		}
		return invalid(violations(broken)...)
	}
	if path := findNUL(m.ProtoReflect()); path != "" {
		return InvalidField(path, "string.nul", "must not hold a NUL character")
	}
	return nil
}

func violations(broken *protovalidate.ValidationError) []*errdetails.BadRequest_FieldViolation {
	out := make([]*errdetails.BadRequest_FieldViolation, 0, len(broken.Violations))
	for _, v := range broken.Violations {
		field := protovalidate.FieldPathString(v.Proto.GetField())
		if field == "" { // A rule of the whole message is named after the field it is about.
			field = v.Proto.GetRuleId()
		}
		out = append(out, &errdetails.BadRequest_FieldViolation{
			Field:       field,
			Description: v.Proto.GetMessage(),
			Reason:      v.Proto.GetRuleId(),
		})
	}
	return out
}

// findNUL returns the path of a string with a NUL character, or "". PostgreSQL
// cannot store one and SQLite can: the engines must agree, and the caller must
// not get an INTERNAL for its own mistake.
func findNUL(m protoreflect.Message) (path string) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(fd.Name())
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				path = nulIn(fd.MapKey(), k.Value(), name)
				if path == "" {
					path = nulIn(fd.MapValue(), v, fmt.Sprintf("%s[%q]", name, k.String()))
				}
				return path == ""
			})
		case fd.IsList():
			for i := 0; i < v.List().Len() && path == ""; i++ {
				if path = nulIn(fd, v.List().Get(i), name); path != "" {
					path = fmt.Sprintf("%s[%d]%s", name, i, path[len(name):])
				}
			}
		default:
			path = nulIn(fd, v, name)
		}
		return path == ""
	})
	return path
}

// nulIn returns the path of a NUL in one value, which begins with name.
func nulIn(fd protoreflect.FieldDescriptor, v protoreflect.Value, name string) string {
	switch fd.Kind() {
	case protoreflect.StringKind:
		if strings.IndexByte(v.String(), 0) >= 0 {
			return name
		}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if sub := findNUL(v.Message()); sub != "" {
			return name + "." + sub
		}
	}
	return ""
}
