package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// Fields are named by their path in the request message, as validation and the
// gRPC edge name them, whichever form of a name the body has.
//
// explain finds out, on the way to a 400, what the handler could not read: it
// only reported the text of a library's error. Path, query and body are each
// read again, field by field.
func (x *exchange) explain() error {
	var bad []httpedge.FieldError
	in := x.binding.Method.Descriptor.Input()
	for _, name := range slices.Sorted(maps.Keys(x.params)) {
		if runtime.PopulateFieldFromPath(dynamicpb.NewMessage(in), name, x.params[name]) != nil {
			bad = append(bad, httpedge.FieldError{Field: name, Reason: "must be " + kindName(fieldByPath(in, name))})
		}
	}
	bad = append(bad, x.explainQuery(in)...)
	if x.binding.body == bodyJSON && len(x.body) > 0 {
		bad = append(bad, x.explainBody(in)...)
	}
	if len(bad) == 0 {
		bad = []httpedge.FieldError{{Field: "request", Reason: "cannot be read"}}
	}
	return httpedge.BadFields(bad)
}

func (x *exchange) explainQuery(in protoreflect.MessageDescriptor) (bad []httpedge.FieldError) {
	none := utilities.NewDoubleArray(nil)
	values := x.Request.URL.Query()
	names := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		vs := values[key]
		canonical := canonicalPath(in, key)
		if _, mapKey, isMap := strings.Cut(key, "["); isMap {
			canonical += "[" + mapKey
		}
		if first, twice := names[canonical]; twice {
			bad = append(bad, httpedge.FieldError{Field: key, Reason: "names the same field as " + first})
		}
		names[canonical] = key
		fd := fieldByPath(in, key)
		if (&runtime.DefaultQueryParser{}).Parse(dynamicpb.NewMessage(in), map[string][]string{key: vs}, none) == nil || fd == nil {
			continue
		}
		if len(vs) > 1 && fd.Cardinality() != protoreflect.Repeated {
			bad = append(bad, httpedge.FieldError{Field: key, Reason: "is given more than once"})
			continue
		}
		bad = append(bad, httpedge.FieldError{Field: key, Reason: "must be " + kindName(fd)})
	}
	return bad
}

func (x *exchange) explainBody(in protoreflect.MessageDescriptor) []httpedge.FieldError {
	if bad := syntax(x.body); bad != nil {
		return bad
	}
	w := &walker{left: maxValues}
	if fd := x.binding.BodyField; fd == nil {
		w.message(in, x.body, "", 0)
	} else {
		w.field(fd, x.body, string(fd.Name()), 0)
	}
	switch {
	case len(w.bad) > 0:
	case w.left <= 0:
		w.add("", "has a wrong value somewhere after its first "+strconv.Itoa(maxValues))
	default:
		w.add("", "gives a field twice, or fields that exclude each other")
	}
	x.place(w.bad)
	return w.bad
}

// place adds where the reader of the body stopped to the finding on the same field;
// one on the whole body gets the field's name, too.
func (x *exchange) place(bad []httpedge.FieldError) {
	if x.binding.input == nil {
		return
	}
	buf := httpedge.TakeBuffer()
	defer httpedge.GiveBuffer(buf)
	var te *transcode.Error
	if _, err := x.binding.input.AppendWire((*buf)[:0], x.body); !errors.As(err, &te) {
		return
	}
	field, at := te.Field, position(te)
	switch fd := x.binding.BodyField; {
	case fd != nil && field != "":
		field = join(string(fd.Name()), field)
	case fd != nil:
		field = string(fd.Name())
	case field == "":
		field = "body"
	}
	for i := range bad {
		if bad[i].Field == field {
			bad[i].Reason += ", at " + at
			return
		}
	}
	if last := &bad[len(bad)-1]; last.Field == "body" {
		last.Reason += ": " + field + ", at " + at
	}
}

// position is where the reader of a body stopped, in a client's words.
func position(e *transcode.Error) string {
	return "line " + strconv.Itoa(e.Line) + ", column " + strconv.Itoa(e.Column)
}

// syntax says where a body stops being JSON; nil means it is.
func syntax(body []byte) []httpedge.FieldError {
	var raw json.RawMessage
	err := json.Unmarshal(body, &raw)
	var se *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &se):
		before := body[:min(int64(len(body)), se.Offset)]
		line := bytes.Count(before, []byte("\n")) + 1
		col := len(before) - bytes.LastIndexByte(before, '\n') - 1
		return []httpedge.FieldError{{Field: "body", Reason: fmt.Sprintf("is not valid JSON at line %d, column %d", line, max(1, col))}}
	}
	return []httpedge.FieldError{{Field: "body", Reason: "is not valid JSON"}}
}

// walker compares a JSON value with a descriptor and notes what does not fit.
type walker struct {
	bad  []httpedge.FieldError
	left int // values it may still look at
}

// maxFindings bounds an answer to a body that is wrong everywhere, maxValues
// the work on a long one: a value costs microseconds, and a MiB has 500,000.
const (
	maxFindings = 20
	maxValues   = 10_000
)

func (w *walker) add(path, reason string) {
	if len(w.bad) < maxFindings {
		if path == "" {
			path = "body"
		}
		w.bad = append(w.bad, httpedge.FieldError{Field: path, Reason: reason})
	}
}

func (w *walker) message(md protoreflect.MessageDescriptor, raw json.RawMessage, path string, depth int) {
	if depth > maxDepth {
		w.add(path, "is nested too deeply")
		return
	}
	var object map[string]json.RawMessage
	if isNull(raw) || json.Unmarshal(raw, &object) != nil {
		w.add(path, "must be an object")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		fd := fieldByName(md, key)
		if fd == nil {
			w.add(join(path, key), "unknown field")
			continue
		}
		w.field(fd, object[key], join(path, string(fd.Name())), depth+1)
	}
}

func (w *walker) field(fd protoreflect.FieldDescriptor, raw json.RawMessage, path string, depth int) {
	switch {
	case isNull(raw) && path != "":
	case fd.IsMap():
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			w.add(path, "must be an object")
			return
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			w.value(fd.MapValue(), object[key], path+"["+key+"]", depth)
		}
		w.whole(fd, raw, path)
	case fd.IsList():
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			w.add(path, "must be an array")
			return
		}
		for i, value := range list {
			w.value(fd, value, path+"["+strconv.Itoa(i)+"]", depth)
		}
	default:
		w.value(fd, raw, path, depth)
	}
}

// value checks one value: messages by their fields, the rest by trying.
func (w *walker) value(fd protoreflect.FieldDescriptor, raw json.RawMessage, path string, depth int) {
	if w.left--; w.left < 0 || len(w.bad) >= maxFindings {
		return
	}
	if md := fd.Message(); md != nil && !wellKnown(md) {
		w.message(md, raw, path, depth)
		return
	}
	if fd.IsList() {
		raw = append(append([]byte("["), raw...), ']')
	}
	if fd.ContainingMessage().IsMapEntry() {
		if !parses(fd.ContainingMessage(), `{"value":`+string(raw)+`}`) {
			w.add(path, "must be "+kindName(fd))
		}
		return
	}
	if !parses(fd.ContainingMessage(), `{"`+fd.JSONName()+`":`+string(raw)+`}`) {
		w.add(path, "must be "+kindName(fd))
	}
}

// whole checks what only shows on a whole field: the keys of a map.
func (w *walker) whole(fd protoreflect.FieldDescriptor, raw json.RawMessage, path string) {
	if len(w.bad) == 0 && !parses(fd.ContainingMessage(), `{"`+fd.JSONName()+`":`+string(raw)+`}`) {
		w.add(path, "must have keys that are "+kindName(fd.MapKey()))
	}
}

func parses(md protoreflect.MessageDescriptor, doc string) bool {
	var m proto.Message = dynamicpb.NewMessage(md)
	return protojson.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal([]byte(doc), m) == nil
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func wellKnown(md protoreflect.MessageDescriptor) bool {
	return md.FullName().Parent() == "google.protobuf"
}

// kindName says in a client's words what a field takes.
func kindName(fd protoreflect.FieldDescriptor) string {
	if fd == nil {
		return "something else"
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BytesKind:
		return "a base64 string"
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return "a number"
	case protoreflect.EnumKind:
		return "one of " + enumNames(fd.Enum())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return "a 32-bit integer"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return "a 32-bit integer, not negative"
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return "a 64-bit integer"
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "a 64-bit integer, not negative"
	}
	return messageName(fd.Message())
}

func messageName(md protoreflect.MessageDescriptor) string {
	switch md.Name() {
	case "Timestamp":
		return "an RFC 3339 time, such as 2026-01-31T12:00:00Z"
	case "Duration":
		return "a duration in seconds, such as 1.5s"
	case "FieldMask":
		return "a list of field paths, separated by commas"
	case "Struct", "Empty":
		return "an object"
	case "ListValue":
		return "an array"
	}
	return "a valid " + string(md.Name())
}

func enumNames(ed protoreflect.EnumDescriptor) string {
	var names []string
	for i := range min(ed.Values().Len(), 10) {
		names = append(names, string(ed.Values().Get(i).Name()))
	}
	return strings.Join(names, ", ")
}
