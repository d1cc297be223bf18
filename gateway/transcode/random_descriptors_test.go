package transcode

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

type (
	fieldProto = descriptorpb.FieldDescriptorProto
	fieldType  = descriptorpb.FieldDescriptorProto_Type
)

const (
	optional = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
	repeated = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	required = descriptorpb.FieldDescriptorProto_LABEL_REQUIRED

	typeString  = descriptorpb.FieldDescriptorProto_TYPE_STRING
	typeMessage = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	typeGroup   = descriptorpb.FieldDescriptorProto_TYPE_GROUP
	typeEnum    = descriptorpb.FieldDescriptorProto_TYPE_ENUM
	typeBytes   = descriptorpb.FieldDescriptorProto_TYPE_BYTES
)

var knownTypes = []string{
	"google.protobuf.Any", "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask", "google.protobuf.Struct",
	"google.protobuf.Value", "google.protobuf.ListValue", "google.protobuf.Empty", "google.protobuf.BoolValue", "google.protobuf.Int32Value",
	"google.protobuf.Int64Value", "google.protobuf.UInt32Value", "google.protobuf.UInt64Value", "google.protobuf.FloatValue",
	"google.protobuf.DoubleValue", "google.protobuf.StringValue", "google.protobuf.BytesValue",
}

// oddNames are names in JSON around the length of those that are kept in place, and
// with characters to escape.
var oddNames = []string{
	"a\"b", "é", "with space", "@type", "value", "x\\y", "a_very_long_json_name_that_goes_beyond_thirty_two_bytes",
	"exactly_thirty_two_bytes_lng", "\u2028", "a.b", "A", "*", "\x7f", "tab\tx", "abcdefghijklmnopqrstuvwxyz01",
	"abcdefghijklmnopqrstuvwxyz012", "abcdefghijklmnopqrstuvwxyz0123", "x,y",
}

// world is a file that is made up, with all its messages may refer to.
type world struct {
	file  protoreflect.FileDescriptor
	types *dynamicpb.Types
	msgs  []protoreflect.MessageDescriptor
}

// maker makes descriptors up.
type maker struct {
	*rand.Rand
	edition         descriptorpb.Edition
	messages, enums int
}

func (k *maker) in(n int) bool { return k.IntN(n) == 0 }

// newWorld makes a file up. Not every one is legal: tries go on until one is.
func newWorld(tb testing.TB, r *rand.Rand) *world {
	tb.Helper()
	var err error
	for range 200 {
		editions := []descriptorpb.Edition{descriptorpb.Edition_EDITION_PROTO2, descriptorpb.Edition_EDITION_PROTO3, descriptorpb.Edition_EDITION_2023}
		k := &maker{Rand: r, edition: editions[r.IntN(3)], messages: 2 + r.IntN(4), enums: 1 + r.IntN(2)}
		var fd protoreflect.FileDescriptor
		if fd, err = protodesc.NewFile(k.file(), protoregistry.GlobalFiles); err == nil {
			return worldOf(tb, fd)
		}
	}
	tb.Fatal("no legal file: ", err)
	return nil
}

func worldOf(tb testing.TB, fd protoreflect.FileDescriptor) *world {
	tb.Helper()
	files := new(protoregistry.Files)
	for i := range fd.Imports().Len() {
		if err := files.RegisterFile(fd.Imports().Get(i)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := files.RegisterFile(fd); err != nil {
		tb.Fatal(err)
	}
	w := &world{file: fd, types: dynamicpb.NewTypes(files)}
	for i := range fd.Messages().Len() {
		w.msgs = append(w.msgs, fd.Messages().Get(i))
	}
	return w
}

func (w *world) String() string { return protodesc.ToFileDescriptorProto(w.file).String() }

func (k *maker) file() *descriptorpb.FileDescriptorProto {
	f := &descriptorpb.FileDescriptorProto{Name: proto.String("random.proto"), Package: proto.String("rand")}
	for _, name := range []string{"any", "timestamp", "duration", "field_mask", "struct", "empty", "wrappers"} {
		f.Dependency = append(f.Dependency, "google/protobuf/"+name+".proto")
	}
	switch k.edition {
	case descriptorpb.Edition_EDITION_PROTO2:
		f.Syntax = proto.String("proto2")
	case descriptorpb.Edition_EDITION_PROTO3:
		f.Syntax = proto.String("proto3")
	default:
		f.Syntax, f.Edition = proto.String("editions"), k.edition.Enum()
	}
	for i := range k.enums {
		f.EnumType = append(f.EnumType, k.enum(i))
	}
	for i := range k.messages {
		f.MessageType = append(f.MessageType, k.message(fmt.Sprintf("M%d", i)))
	}
	if k.edition != descriptorpb.Edition_EDITION_PROTO3 && k.in(2) {
		f.MessageType[0].ExtensionRange = []*descriptorpb.DescriptorProto_ExtensionRange{{Start: proto.Int32(100000), End: proto.Int32(200000)}}
		for i := range int32(4) {
			x := k.field(fmt.Sprintf("ext%d", i), 100000+i*7, false)
			if x.GetLabel() == required {
				x.Label = optional.Enum()
			}
			x.Options, x.Extendee = nil, proto.String(".rand.M0")
			f.Extension = append(f.Extension, x)
		}
	}
	return f
}

// enum has aliases, gaps, and numbers on both sides of what is looked up by index.
func (k *maker) enum(i int) *descriptorpb.EnumDescriptorProto {
	e := &descriptorpb.EnumDescriptorProto{Name: proto.String(fmt.Sprintf("E%d", i))}
	numbers := []int32{0, 1, 1, 2, -1, 600, 511, 512, -2147483648, 2147483647}
	if k.edition == descriptorpb.Edition_EDITION_PROTO2 && k.in(2) {
		numbers = numbers[3:]
	} else {
		e.Options = &descriptorpb.EnumOptions{AllowAlias: proto.Bool(true)}
	}
	for j, n := range numbers {
		e.Value = append(e.Value, &descriptorpb.EnumValueDescriptorProto{Name: proto.String(fmt.Sprintf("V%d_%d", i, j)), Number: proto.Int32(n)})
	}
	return e
}

// number is one that is free, of any size of tag.
func (k *maker) number(used map[int32]bool) int32 {
	edges := []int32{15, 16, 63, 64, 65, 511, 512, 513, 2047, 2048, 262143, 262144, 33554431, 33554432, 536870911}
	for {
		n := 1 + k.Int32N([]int32{15, 15, 100, 3000, 18000}[k.IntN(5)])
		if k.in(6) {
			n = edges[k.IntN(len(edges))]
		}
		if !used[n] {
			used[n] = true
			return n
		}
	}
}

func (k *maker) message(name string) *descriptorpb.DescriptorProto {
	d := &descriptorpb.DescriptorProto{Name: proto.String(name)}
	fields, oneofs := 1+k.IntN(8), k.IntN(3)
	switch {
	case k.in(8):
		fields = 60 + k.IntN(20)
	case k.in(20): // More oneofs than bits, each with a member.
		fields, oneofs = 140, 66
	}
	fields = max(fields, oneofs)
	for i := range oneofs {
		d.OneofDecl = append(d.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String(fmt.Sprintf("o%d", i))})
	}
	used, usedNames := map[int32]bool{}, map[string]bool{}
	for i := range fields {
		member := i < oneofs || oneofs > 0 && k.in(3)
		f := k.field(fmt.Sprintf("f_%d", i), k.number(used), member)
		switch {
		case i < oneofs:
			f.OneofIndex = proto.Int32(int32(i)) //nolint:gosec // A few.
		case member:
			f.OneofIndex = proto.Int32(k.Int32N(int32(oneofs))) //nolint:gosec // A few.
		case k.in(6):
			f = k.mapField(d, f)
		}
		if odd := oddNames[k.IntN(len(oddNames))]; k.in(4) && !usedNames[odd] {
			usedNames[odd] = true
			f.JsonName = proto.String(odd)
		}
		d.Field = append(d.Field, f)
	}
	// Members of a oneof stand together.
	slices.SortStableFunc(d.Field, func(a, b *fieldProto) int { return oneofOf(a) - oneofOf(b) })
	for _, f := range d.Field {
		if f.GetProto3Optional() {
			f.OneofIndex = proto.Int32(int32(len(d.OneofDecl))) //nolint:gosec // A few.
			d.OneofDecl = append(d.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("_" + f.GetName())})
		}
	}
	return d
}

func oneofOf(f *fieldProto) int {
	if f.OneofIndex == nil {
		return -1
	}
	return int(f.GetOneofIndex())
}

// mapField makes a map of a field.
func (k *maker) mapField(d *descriptorpb.DescriptorProto, f *fieldProto) *fieldProto {
	keys := []fieldType{5, 3, 13, 4, 17, 18, 15, 16, 7, 6, 8, typeString, typeString, typeString}
	entry := "F" + f.GetName()[2:] + "Entry"
	value := k.field("value", 2, true)
	value.Options = nil
	d.NestedType = append(d.NestedType, &descriptorpb.DescriptorProto{
		Name: proto.String(entry), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
		Field: []*fieldProto{{Name: proto.String("key"), Number: proto.Int32(1), Label: optional.Enum(), Type: keys[k.IntN(len(keys))].Enum()}, value},
	})
	return &fieldProto{
		Name: f.Name, Number: f.Number, Label: repeated.Enum(), Type: typeMessage.Enum(),
		TypeName: proto.String(".rand." + d.GetName() + "." + entry),
	}
}

// field makes a field up; a member of a oneof has no label of its own.
func (k *maker) field(name string, num int32, member bool) *fieldProto {
	t := fieldType(1 + k.IntN(18)) //nolint:gosec // A few.
	if t == typeGroup || k.in(4) { // DELIMITED makes groups.
		t = typeMessage
	}
	f := &fieldProto{Name: proto.String(name), Number: proto.Int32(num), Type: t.Enum(), Label: optional.Enum()}
	switch {
	case t == typeMessage && k.in(3):
		f.TypeName = proto.String("." + knownTypes[k.IntN(len(knownTypes))])
	case t == typeMessage:
		f.TypeName = proto.String(fmt.Sprintf(".rand.M%d", k.IntN(k.messages)))
	case t == typeEnum && k.in(5):
		f.TypeName = proto.String(".google.protobuf.NullValue")
	case t == typeEnum:
		f.TypeName = proto.String(fmt.Sprintf(".rand.E%d", k.IntN(k.enums)))
	}
	if !member && k.in(4) {
		f.Label = repeated.Enum()
	}
	switch k.edition {
	case descriptorpb.Edition_EDITION_PROTO2:
		k.proto2(f, t, member)
	case descriptorpb.Edition_EDITION_PROTO3:
		if !member && f.GetLabel() == optional && t != typeMessage && k.in(3) {
			f.Proto3Optional = proto.Bool(true)
		}
	default:
		k.features(f, t, member)
	}
	return f
}

func packable(t fieldType) bool { return t != typeString && t != typeBytes && t != typeMessage }

func (k *maker) proto2(f *fieldProto, t fieldType, member bool) {
	switch {
	case f.GetLabel() == repeated:
		if packable(t) && k.in(2) {
			f.Options = &descriptorpb.FieldOptions{Packed: proto.Bool(k.in(2))}
		}
	case member || t == typeMessage:
	case k.in(6):
		f.Label = required.Enum()
	case k.in(4) && (t == typeString || t == typeBytes):
		f.DefaultValue = proto.String("text")
	case k.in(4) && packable(t) && t > 2 && t != 8 && t != typeEnum:
		f.DefaultValue = proto.String("7")
	}
}

func (k *maker) features(f *fieldProto, t fieldType, member bool) {
	fs := &descriptorpb.FeatureSet{}
	if f.GetLabel() == optional && !member && t != typeMessage && k.in(2) {
		fs.FieldPresence = descriptorpb.FeatureSet_IMPLICIT.Enum()
		if k.in(4) {
			fs.FieldPresence = descriptorpb.FeatureSet_LEGACY_REQUIRED.Enum()
		}
	}
	if f.GetLabel() == repeated && packable(t) && k.in(2) {
		fs.RepeatedFieldEncoding = descriptorpb.FeatureSet_EXPANDED.Enum()
	}
	if t == typeString && k.in(2) {
		fs.Utf8Validation = descriptorpb.FeatureSet_NONE.Enum()
	}
	if t == typeMessage && k.in(2) {
		fs.MessageEncoding = descriptorpb.FeatureSet_DELIMITED.Enum()
	}
	if !proto.Equal(fs, &descriptorpb.FeatureSet{}) {
		f.Options = &descriptorpb.FieldOptions{Features: fs}
	}
}
