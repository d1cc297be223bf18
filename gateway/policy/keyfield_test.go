package policy_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/policy"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestKeyFieldsOfEveryScalar: of each singular scalar, what the parser tells apart makes
// two parts, and what it does not see none.
func TestKeyFieldsOfEveryScalar(t *testing.T) {
	md := (&testv1.Kinds{}).ProtoReflect().Descriptor()
	n := 0
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f, err := policy.CompileKeyField(md, string(fd.Name()))
		scalar := fd.Cardinality() != protoreflect.Repeated && fd.Message() == nil && (fd.ContainingOneof() == nil || fd.ContainingOneof().IsSynthetic())
		if scalar != (err == nil) {
			t.Errorf("%s: %v", fd.Name(), err)
		}
		if err != nil {
			continue
		}
		n++
		set := (&testv1.Kinds{}).ProtoReflect()
		set.Set(fd, other(fd))
		b, err := proto.Marshal(set.Interface())
		if err != nil {
			t.Fatal(err)
		}
		part := func(wire []byte) string {
			p, err := f.Append(nil, wire)
			if err != nil {
				t.Errorf("%s: %v", fd.Name(), err)
			}
			return string(p)
		}
		if part(nil) == part(b) {
			t.Errorf("%s: unset is the same as set", fd.Name())
		}
		if got := part(append(append([]byte{}, b...), b...)); got != part(b) {
			t.Errorf("%s: the last of two: %q, want %q", fd.Name(), got, part(b))
		}
		if _, err := f.Append(nil, b[:len(b)-1]); err == nil {
			t.Errorf("%s: a message that ends early was read", fd.Name())
		}
	}
	if n < 10 {
		t.Errorf("only %d fields are scalars", n)
	}
	for path, want := range map[string]string{"nope": "no field", "nope.x": "no field", "": "no field"} {
		if _, err := policy.CompileKeyField(md, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// other is a value of the field that is not its zero.
func other(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(fd.Enum().Values().Get(fd.Enum().Values().Len() - 1).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(300)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(300)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(300)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(300)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(1.5)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1.5)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("x"))
	}
	return protoreflect.ValueOfString("x")
}
