package request_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
)

// texts are values that one kind or another takes, and many that look like it.
var texts = []string{
	"", "0", "1", "-1", "-0", "1.5", "1.0", "1e3", "1e-3", "100e-2", "+5", "0x10", "0x1p4", "1_0", "007", " 1", "1 ", "1.", ".5", "1e", "1e400", "1e39", "-1e39",
	"2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
	"18446744073709551615", "18446744073709551616", "true", "false", "t", "True", "TRUE", "null", "NaN", "nan", "Infinity", "-Infinity", "inf", "Inf",
	"COLOR_RED", "color_red", "COLOR_NEGATIVE", "7", "NULL_VALUE", "eA==", "eA", "eA=", "_-8", "+/8", "-_8=", "a b", "ä€", "\xff", "x\"y", `x\y`, `\u0041`, "x\ty", "x\ny", `"quoted"`, `"1"`,
	"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789+02:00", "2026-01-02 03:04:05Z", "2026-01-02", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-02-30T00:00:00Z",
	"1s", "1.5s", "-1.5s", "1h", "1m30s", "1.0000000001s", "315576000000s", "315576000001s", "s", "+1s",
	"a,b", "fooBar,baz.quxYes", "foo_bar", "*", "a,,b", ",", "a..b", "{}", "[]", "[1]", `{"a":1}`, `{"a":}`, `{"a":null,"b":[1,"x"]}`, `{} x`,
}

// inJSON is a text as the JSON mapping has it for a single value of a field; "" says that
// the mapping has none, and ok that we take all the same, with the meaning of the JSON.
func inJSON(fd protoreflect.FieldDescriptor, text string) (doc string) {
	quoted, _ := json.Marshal(text)
	if md := fd.Message(); md != nil {
		switch md.Name() {
		case "Struct", "Value", "ListValue":
			if text == "null" && md.Name() != "Value" {
				return "!"
			}
			return text
		case "Empty":
			if text == "" || text == "{}" {
				return "{}"
			}
			return "!"
		case "FieldMask":
			return strings.NewReplacer("foo_bar", "fooBar", "color_red", "colorRed").Replace(string(quoted))
		}
		if v := md.Fields().ByName("value"); v != nil {
			return inJSON(v, text)
		}
		return string(quoted)
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		if text != "true" && text != "false" {
			return "!"
		}
		return text
	case protoreflect.BytesKind:
		if text == "x\ny" { // A decoder of base64 skips line ends; a URL has no lines.
			return "!"
		}
	case protoreflect.EnumKind:
		if text != "" && (text[0] == '-' || text[0] >= '0' && text[0] <= '9') && text == strings.TrimSpace(text) {
			return text
		}
		if text == "null" && fd.Enum().FullName() == "google.protobuf.NullValue" {
			return text
		}
	}
	return string(quoted)
}

// want is the message that has a single value of a field, by protojson; nil is that it
// takes no such value.
func want(fd protoreflect.FieldDescriptor, text string) proto.Message {
	element := fd
	if fd.IsMap() {
		element = fd.MapValue()
	}
	doc := inJSON(element, text)
	switch {
	case text == "\xff":
		return nil
	case element.Message() != nil && element.Message().Name() == "FieldMask" && text == "*":
		m := &testv1.Kinds{}
		mask := m.ProtoReflect().Mutable(fd).Message()
		mask.Mutable(mask.Descriptor().Fields().Get(0)).List().Append(protoreflect.ValueOfString("*"))
		return m
	case fd.IsList():
		doc = "[" + doc + "]"
	case fd.IsMap():
		doc = `{"` + mapKey(fd) + `":` + doc + "}"
	}
	m := &testv1.Kinds{}
	whole := `{"` + fd.JSONName() + `":` + doc + `}`
	if protojson.Unmarshal([]byte(whole), m) != nil || !json.Valid([]byte(whole)) {
		return nil
	}
	return m
}

func mapKey(fd protoreflect.FieldDescriptor) string {
	switch fd.MapKey().Kind() {
	case protoreflect.BoolKind:
		return "true"
	case protoreflect.StringKind:
		return "a.b"
	}
	return "-5"
}

// textual says whether a query can give the field.
func textual(fd protoreflect.FieldDescriptor) bool {
	if fd.IsMap() {
		return textual(fd.MapValue())
	}
	md := fd.Message()
	return md == nil || md.FullName().Parent() == "google.protobuf" && md.Name() != "Any"
}

// TestValues: what a query and a path take of every kind is what protojson takes in a body.
func TestValues(t *testing.T) {
	query := serve(t, &testv1.Kinds{}, "GET /x", "", request.Options{})
	for _, fd := range fields((&testv1.Kinds{}).ProtoReflect().Descriptor()) {
		if !textual(fd) {
			continue
		}
		path := onPath(t, fd)
		for _, text := range texts {
			wanted := want(fd, text)
			for _, name := range []string{fd.JSONName(), fd.TextName()} {
				if fd.IsMap() {
					name += "[" + mapKey(fd) + "]"
				}
				got, bad := query.message(t, "/x?"+url.Values{name: {text}}.Encode(), "")
				compare(t, name+"="+text, wanted, got, bad)
			}
			if path != nil && text != "" {
				got, bad := path.message(t, "/x/"+text, "")
				compare(t, "/"+text+" as "+fd.TextName(), wanted, got, bad)
			}
		}
	}
}

func compare(t *testing.T, name string, wanted, got proto.Message, bad string) {
	t.Helper()
	switch {
	case wanted == nil && got != nil:
		t.Errorf("%s is taken as %v", name, got)
	case wanted != nil && got == nil:
		t.Errorf("%s is refused, not taken as %v: %s", name, wanted, bad)
	case wanted != nil && !proto.Equal(got, wanted):
		t.Errorf("%s is %v, not %v", name, got, wanted)
	}
}

// onPath is a binding with the field in its path, nil where that cannot be.
func onPath(t *testing.T, fd protoreflect.FieldDescriptor) *served {
	t.Helper()
	b := binding(t, &testv1.Kinds{}, "GET /x/{"+string(fd.Name())+"=**}", "")
	if _, err := request.Compile(b, request.Options{}); err != nil {
		return nil
	}
	return serve(t, &testv1.Kinds{}, "GET /x/{"+string(fd.Name())+"=**}", "", request.Options{})
}

// TestAgainstGrpcGateway: a query means what grpc-gateway's own parser makes of it, or is
// refused, save where that parser leaves the JSON mapping.
func TestAgainstGrpcGateway(t *testing.T) {
	s := serve(t, &testv1.Kinds{}, "GET /x", "", request.Options{})
	none := utilities.NewDoubleArray(nil)
	for _, fd := range fields((&testv1.Kinds{}).ProtoReflect().Descriptor()) {
		for _, text := range texts {
			name := "f_message." + fd.JSONName()
			if fd.IsMap() {
				name += "[" + mapKey(fd) + "]"
			}
			values := url.Values{name: {text}}
			theirs := &testv1.Kinds{}
			err := runtime.PopulateQueryParameters(theirs, values, none)
			ours, bad := s.message(t, "/x?"+values.Encode(), "")
			switch {
			case (err == nil) == (ours != nil) && (err != nil || proto.Equal(ours, theirs)):
			case differs(fd, text, err == nil, ours != nil):
			default:
				t.Errorf("%s=%q: ours %v (%s), theirs %v (%v)", name, text, ours, bad, theirs, err)
			}
		}
	}
}

// differs says where the JSON mapping is not what grpc-gateway's query parser does.
func differs(fd protoreflect.FieldDescriptor, text string, theirs, ours bool) bool {
	if fd.IsMap() {
		fd = fd.MapValue()
	}
	if md := fd.Message(); md != nil && strings.HasSuffix(string(md.Name()), "Value") && md.Fields().Len() == 1 && md.Name() != "ListValue" {
		fd = md.Fields().Get(0)
	}
	switch {
	case text == "\xff": // A string that no parser of proto3 reads.
		return theirs && !ours
	case fd.Message() == nil:
	case fd.Message().Name() == "ListValue": // Theirs takes none.
		return ours
	case fd.Message().Name() == "Duration": // time.ParseDuration: hours, but no 10,000 years.
		return true
	case fd.Message().Name() == "FieldMask": // Theirs splits at commas, whatever is between.
		return theirs
	case fd.Message().Name() == "Timestamp": // Theirs takes the year 10000.
		return theirs && !ours
	}
	switch fd.Kind() {
	case protoreflect.BoolKind: // strconv.ParseBool: t, TRUE, 1.
		return theirs && !ours
	case protoreflect.EnumKind: // Numbers without a name: the mapping takes them.
		return ours && !theirs || text == "+5" || text == "007"
	case protoreflect.BytesKind:
		return text == "x\ny"
	case protoreflect.StringKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return false
	}
	return true // strconv.Parse…: signs, hexadecimal, underscores; no exponents in integers.
}
