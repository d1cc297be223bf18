package kit

import (
	"errors"
	"fmt"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
)

// maxValues is how many values a message may have for its caller to hear of all
// that is wrong with it. Beyond, the first violation ends the validation: each
// costs about 1 kB while it is gathered.
const maxValues = 1000

// validate turns what breaks the rules of the proto into INVALID_ARGUMENT with a
// google.rpc.BadRequest violation each, up to maxViolations. What it costs is
// bounded by the size of the message, not by how much of it is wrong.
func (c *chain) validate(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	r := m.ProtoReflect()
	var s survey
	if bad := s.message(r, c.shapes.of(r.Descriptor())); bad != nil {
		return InvalidField(bad.path, bad.reason, "%s", bad.text)
	}
	if err := c.ask(m, s.values); err != nil {
		var broken *protovalidate.ValidationError
		if !errors.As(err, &broken) {
			return fmt.Errorf("validate %s: %w", r.Descriptor().FullName(), err)
		}
		return invalid(violations(broken)...)
	}
	return nil
}

// ask asks the rules of a message with so many values.
func (c *chain) ask(m proto.Message, values int) error {
	if values > maxValues {
		return c.validator.Validate(m, protovalidate.WithFailFast())
	}
	return c.validator.Validate(m)
}

func violations(broken *protovalidate.ValidationError) []*errdetails.BadRequest_FieldViolation {
	first := broken.Violations[:min(len(broken.Violations), maxViolations)]
	out := make([]*errdetails.BadRequest_FieldViolation, 0, len(first))
	for _, v := range first {
		field := fieldPath(v.Proto.GetField())
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

// fieldPath is the path as protovalidate writes it, with the client's map keys
// shortened.
func fieldPath(path *validate.FieldPath) string {
	for _, e := range path.GetElements() {
		if e.HasStringKey() {
			e.SetStringKey(shortened(e.GetStringKey(), maxKeyBytes))
		}
	}
	return protovalidate.FieldPathString(path)
}
