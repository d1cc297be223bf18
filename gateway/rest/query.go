package rest

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// readQuery parses the query and refuses, by name, what no field of the
// request takes: grpc-gateway would ignore it.
func (x *exchange) readQuery() (values url.Values, err error) {
	values = noValues
	if x.Request.URL.RawQuery != "" {
		if values, err = url.ParseQuery(x.Request.URL.RawQuery); err != nil {
			return nil, httpedge.BadField("query", "is not a valid query string")
		}
	}
	if x.mask, x.fields, err = x.binding.masks.take(x.Request.Header, values); err != nil {
		return nil, err
	}
	if len(values) == 0 {
		return noValues, nil
	}
	var bad []httpedge.FieldError
	for key, vs := range values {
		p := x.binding.parameter(key)
		if p.refused != "" {
			bad = append(bad, httpedge.FieldError{Field: key, Reason: p.refused})
		} else if part := x.binding.partOf(p.whole, values); part != "" {
			bad = append(bad, httpedge.FieldError{Field: key, Reason: "is given beside a part of it, " + part})
		} else if slices.ContainsFunc(vs, notUTF8) { // A protobuf string holds nothing else.
			bad = append(bad, httpedge.FieldError{Field: key, Reason: "must be UTF-8"})
		}
	}
	if len(bad) > 0 {
		return nil, httpedge.BadFields(bad)
	}
	x.binding.namesInMasks(values)
	return values, nil
}

// parameter is what is known of a query parameter before any request.
type parameter struct {
	refused string // as refuses says
	mask    bool   // its values are paths of a field mask
	whole   string // of a message, its field path and a dot; empty otherwise
}

// partOf names a query parameter that is a part of a message which another parameter
// gives whole: which of the two a generated handler took would be chance.
func (b *Binding) partOf(whole string, values url.Values) string {
	if whole == "" {
		return ""
	}
	for key := range values {
		if strings.HasPrefix(canonicalPath(b.Method.Descriptor.Input(), key), whole) {
			return key
		}
	}
	return ""
}

// What of the query parameters is worked out at the start: messages nest without
// end, and clients name what is near.
const (
	parameterDepth = 3
	parameterCount = 1000
)

// parameters works out the query parameters of a binding, under both forms of
// their names.
func (b *Binding) parameters() map[string]parameter {
	all := map[string]parameter{}
	b.addParameters(all, b.Method.Descriptor.Input(), "", parameterDepth)
	return all
}

func (b *Binding) addParameters(all map[string]parameter, md protoreflect.MessageDescriptor, prefix string, depth int) {
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		for _, name := range []string{prefix + fd.TextName(), prefix + fd.JSONName()} {
			if _, known := all[name]; known || len(all) >= parameterCount || fd.IsMap() {
				continue
			}
			all[name] = b.newParameter(name, fd)
			if fd.Message() != nil && fd.Cardinality() != protoreflect.Repeated && depth > 1 {
				b.addParameters(all, fd.Message(), name+".", depth-1)
			}
		}
	}
}

// parameter says of a query key whether it may be given, and for what.
func (b *Binding) parameter(key string) parameter {
	if p, known := b.query[key]; known {
		return p
	}
	return b.newParameter(key, fieldByPath(b.Method.Descriptor.Input(), key))
}

// newParameter is for a field, or for nil where key names none.
func (b *Binding) newParameter(key string, fd protoreflect.FieldDescriptor) parameter {
	p := parameter{refused: b.refuses(key)}
	if p.refused == "" {
		p.mask = isMask(fd)
		if fd.Message() != nil && !fd.IsMap() && !fd.IsList() {
			p.whole = canonicalPath(b.Method.Descriptor.Input(), key) + "."
		}
	}
	return p
}

func isMask(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().FullName() == "google.protobuf.FieldMask"
}

func notUTF8(s string) bool { return !utf8.ValidString(s) }

// namesInMasks turns the paths of field masks into proto names: clients know
// the JSON ones, and grpc-gateway takes the text as it is.
func (b *Binding) namesInMasks(values url.Values) {
	for key, vs := range values {
		if !b.parameter(key).mask {
			continue
		}
		for i := range vs {
			vs[i] = snakeCase(vs[i])
		}
	}
}

func snakeCase(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			b.WriteByte(c + 'a' - 'A')
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// refuses says why a query parameter cannot be taken; "" means it can.
func (b *Binding) refuses(key string) string {
	if b.body != bodyNone && b.BodyField == nil {
		return "unknown query parameter: this call takes its fields from the body"
	}
	fd := fieldByPath(b.Method.Descriptor.Input(), key)
	if fd == nil {
		return "unknown query parameter"
	}
	canonical := canonicalPath(b.Method.Descriptor.Input(), key)
	for taken, by := range b.taken {
		if canonical == taken || strings.HasPrefix(canonical, taken+".") || strings.HasPrefix(taken, canonical+".") {
			return "is taken from the " + by
		}
	}
	if fd.IsMap() || fd.Message() == nil || queryMessage(fd.Message()) {
		return ""
	}
	return "is a message: name one of its fields, such as " + key + "." + string(fd.Message().Fields().Get(0).Name())
}

// queryMessage says whether a message can be given as one query parameter.
func queryMessage(md protoreflect.MessageDescriptor) bool {
	switch md.FullName() {
	case "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask",
		"google.protobuf.DoubleValue", "google.protobuf.FloatValue", "google.protobuf.Int64Value", "google.protobuf.UInt64Value",
		"google.protobuf.Int32Value", "google.protobuf.UInt32Value", "google.protobuf.BoolValue", "google.protobuf.StringValue",
		"google.protobuf.BytesValue", "google.protobuf.Value", "google.protobuf.Struct":
		return true
	}
	return md.Fields().Len() == 0
}

// fieldByPath finds the field a query key names, by proto or JSON names; a map
// field may carry its key in brackets.
func fieldByPath(md protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	var fd protoreflect.FieldDescriptor
	path, mapKey, hasKey := strings.Cut(key, "[")
	for name := range strings.SplitSeq(path, ".") {
		if md == nil || (fd != nil && fd.Cardinality() == protoreflect.Repeated) {
			return nil
		}
		if fd = fieldByName(md, name); fd == nil {
			return nil
		}
		md = fd.Message()
	}
	if hasKey != fd.IsMap() || (hasKey && !strings.HasSuffix(mapKey, "]")) {
		return nil
	}
	return fd
}

// canonicalPath is the key in proto names, without a map's key.
func canonicalPath(md protoreflect.MessageDescriptor, key string) string {
	path, _, _ := strings.Cut(key, "[")
	var out []string
	for name := range strings.SplitSeq(path, ".") {
		fd := fieldByName(md, name)
		if fd == nil {
			break
		}
		out = append(out, string(fd.Name()))
		md = fd.Message()
	}
	return strings.Join(out, ".")
}

func fieldByName(md protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := md.Fields().ByTextName(name); fd != nil {
		return fd
	}
	return md.Fields().ByJSONName(name)
}
