package rest

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// filled is a message with a value in every field, three levels deep, so that a
// field that is lost on the way is missed. Messages of another seed differ.
func filled(t testing.TB, md protoreflect.MessageDescriptor, seed string) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		t.Fatal(err)
	}
	m := mt.New()
	fillAll(t, m, seed, 3)
	return m.Interface()
}

func fillAll(t testing.TB, m protoreflect.Message, seed string, depth int) {
	t.Helper()
	if known := knownValue(t, m.Descriptor().FullName(), seed); known != nil {
		proto.Merge(m.Interface(), known)
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if depth == 0 && fd.Message() != nil {
			continue
		}
		switch {
		case fd.IsMap():
			if depth == 0 || (fd.MapValue().Message() != nil && depth == 1) {
				continue
			}
			values := m.Mutable(fd).Map()
			key := value(t, fd.MapKey(), protoreflect.Value{}, seed, 0).MapKey()
			if fd.MapValue().Message() != nil {
				fillAll(t, values.Mutable(key).Message(), seed, depth-1)
			} else {
				values.Set(key, value(t, fd.MapValue(), protoreflect.Value{}, seed, 0))
			}
		case fd.IsList():
			list := m.Mutable(fd).List()
			for _, s := range []string{seed, seed + seed} {
				list.Append(value(t, fd, list.NewElement(), s, depth))
			}
		default:
			m.Set(fd, value(t, fd, m.NewField(fd), seed, depth))
		}
	}
}

// value is one that is not the default of the field.
func value(t testing.TB, fd protoreflect.FieldDescriptor, fresh protoreflect.Value, seed string, depth int) protoreflect.Value {
	t.Helper()
	n := int64(fd.Number()) + int64(len(seed)) + int64(seed[0])
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(seed + "/é\"<" + string(fd.Name()))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(seed + "\xff\x00" + string(fd.Name())))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(fd.Enum().Values().Get(fd.Enum().Values().Len() - 1).Number())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) + 0.1)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n) + 0.5)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(-n)) //nolint:gosec // a field's number
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(-n << 40)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n)) //nolint:gosec // a field's number
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n) << 40) //nolint:gosec // a field's number
	}
	fillAll(t, fresh.Message(), seed, depth-1)
	return fresh
}

// knownValue is one for the types whose JSON is of their own making.
func knownValue(t testing.TB, name protoreflect.FullName, seed string) proto.Message {
	t.Helper()
	switch name {
	case "google.protobuf.Timestamp":
		return &timestamppb.Timestamp{Seconds: 1_700_000_000 + int64(seed[0]), Nanos: 5_000_000}
	case "google.protobuf.Duration":
		return &durationpb.Duration{Seconds: int64(seed[0]), Nanos: 7}
	case "google.protobuf.FieldMask":
		return &fieldmaskpb.FieldMask{Paths: []string{"some_field", seed + ".other"}}
	case "google.protobuf.Value":
		return structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue(seed), structpb.NewNullValue()}})
	case "google.protobuf.Struct":
		return &structpb.Struct{Fields: map[string]*structpb.Value{seed: structpb.NewNumberValue(1.5)}}
	case "google.protobuf.ListValue":
		return &structpb.ListValue{Values: []*structpb.Value{structpb.NewBoolValue(true)}}
	case "google.protobuf.Any":
		a, err := anypb.New(&durationpb.Duration{Seconds: 9})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	return nil
}
