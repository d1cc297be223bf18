package transcode

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// known is which of the well-known types a message is: those have a JSON of their
// own.
type known uint8

const (
	knownNone known = iota
	knownAny
	knownTimestamp
	knownDuration
	knownMask
	knownStruct
	knownList
	knownValue
	knownWrapper
	knownEmpty
)

var knownNames = map[protoreflect.FullName]known{
	"google.protobuf.Any":         knownAny,
	"google.protobuf.Timestamp":   knownTimestamp,
	"google.protobuf.Duration":    knownDuration,
	"google.protobuf.FieldMask":   knownMask,
	"google.protobuf.Struct":      knownStruct,
	"google.protobuf.ListValue":   knownList,
	"google.protobuf.Value":       knownValue,
	"google.protobuf.Empty":       knownEmpty,
	"google.protobuf.BoolValue":   knownWrapper,
	"google.protobuf.Int32Value":  knownWrapper,
	"google.protobuf.Int64Value":  knownWrapper,
	"google.protobuf.UInt32Value": knownWrapper,
	"google.protobuf.UInt64Value": knownWrapper,
	"google.protobuf.FloatValue":  knownWrapper,
	"google.protobuf.DoubleValue": knownWrapper,
	"google.protobuf.StringValue": knownWrapper,
	"google.protobuf.BytesValue":  knownWrapper,
}

func knownOf(md protoreflect.MessageDescriptor) known { return knownNames[md.FullName()] }

// knownShapes are the kinds of the fields of the well-known types, from number 1
// on; the numbers are theirs for good, and what reads them relies on it.
var knownShapes = map[known][]protoreflect.Kind{
	knownAny:       {protoreflect.StringKind, protoreflect.BytesKind},
	knownTimestamp: {protoreflect.Int64Kind, protoreflect.Int32Kind},
	knownDuration:  {protoreflect.Int64Kind, protoreflect.Int32Kind},
	knownMask:      {protoreflect.StringKind},
	knownStruct:    {protoreflect.MessageKind},
	knownList:      {protoreflect.MessageKind},
	knownValue: {
		protoreflect.EnumKind, protoreflect.DoubleKind, protoreflect.StringKind,
		protoreflect.BoolKind, protoreflect.MessageKind, protoreflect.MessageKind,
	},
}

// fits says whether a message is the well-known type that it has the name of.
func (k known) fits(md protoreflect.MessageDescriptor) bool {
	fds := md.Fields()
	if k == knownWrapper {
		fd := fds.ByNumber(1)
		return fd != nil && fd.Message() == nil && fd.Enum() == nil && !fd.IsList()
	}
	for i, kind := range knownShapes[k] {
		if fd := fds.ByNumber(protoreflect.FieldNumber(i + 1)); fd == nil || fd.Kind() != kind {
			return false
		}
	}
	switch k {
	case knownStruct:
		return fds.ByNumber(1).IsMap()
	case knownList:
		return fds.ByNumber(1).IsList()
	}
	return true
}

// byNumber is the field of a well-known type with a number.
func (p *decodePlan) byNumber(n protoreflect.FieldNumber) *decodeField {
	return p.fields[p.md.Fields().ByNumber(n).Index()]
}

// knownMessage reads a well-known type and writes its fields.
func (d *reader) knownMessage(p *decodePlan) bool {
	switch p.known {
	case knownAny:
		return d.any()
	case knownTimestamp:
		return d.timestamp()
	case knownDuration:
		return d.duration()
	case knownMask:
		return d.mask()
	case knownStruct:
		return d.mapping(p.byNumber(1))
	case knownList:
		return d.list(p.byNumber(1))
	case knownValue:
		return d.anyValue(p)
	case knownWrapper:
		return d.field(p.byNumber(1))
	default:
		return d.empty()
	}
}

// anyValue reads any JSON as a google.protobuf.Value.
func (d *reader) anyValue(p *decodePlan) bool {
	switch c := d.next(); {
	case c == 'n' && d.literal("null"):
		d.out = append(d.out, p.byNumber(1).tag...)
		d.out = append(d.out, 0)
		return true
	case c == '-' || isDigit(c):
		return d.field(p.byNumber(2))
	case c == '"':
		return d.field(p.byNumber(3))
	case c == 't' || c == 'f':
		return d.field(p.byNumber(4))
	case c == '{':
		return d.nested(p.byNumber(5))
	case c == '[':
		return d.nested(p.byNumber(6))
	}
	return d.want("any JSON value")
}

// nested reads the Struct or the ListValue of a Value, which are no level of
// their own.
func (d *reader) nested(f *decodeField) bool {
	d.out = append(d.out, f.tag...)
	start := d.reserve(1)
	if !d.body(f.message) {
		return false
	}
	d.measure(start, 1)
	return true
}

// empty reads a google.protobuf.Empty.
func (d *reader) empty() bool {
	if !d.enter('{', "an object") {
		return false
	}
	if d.leave('}') {
		return true
	}
	if d.next() != '"' {
		return d.wantName()
	}
	at := d.pos
	name, ok := d.text()
	if !ok {
		return false
	}
	return d.failField(at, shown(name), reasonUnknown)
}

// string reads the string that a well-known type has its JSON in; wanted says what
// that is.
func (d *reader) string(wanted string) (s []byte, at int, ok bool) {
	if d.next() != '"' {
		return nil, 0, d.want(wanted)
	}
	at = d.pos
	s, ok = d.text()
	return s, at, ok
}

const wantedMask = "names of fields in lowerCamelCase, separated by commas"

// mask reads a google.protobuf.FieldMask. Its paths are written in snake_case.
func (d *reader) mask() bool {
	s, at, ok := d.string(wantedMask)
	if !ok {
		return false
	}
	s = bytes.TrimSpace(s)
	for again := len(s) > 0; again; {
		var path []byte
		path, s, again = bytes.Cut(s, []byte{','})
		d.out = append(d.out, maskTag)
		start := d.reserve(1)
		if !d.maskPath(path) {
			return d.fail(at, "must be "+wantedMask)
		}
		d.measure(start, 1)
	}
	return true
}

const maskTag = 1<<3 | byte(protowire.BytesType)

// maskPath writes a path in snake_case; it is false where that is none. In a request each
// name may be in snake_case already, or * for all of a message (AIP-134, AIP-161): clients
// of Google's APIs write all of these in a query.
func (d *reader) maskPath(path []byte) bool {
	first, upper, under := true, false, false
	for i, c := range path {
		switch {
		case c >= 'A' && c <= 'Z':
			d.out = append(d.out, '_', c+'a'-'A')
			upper = true
		case c >= 'a' && c <= 'z', isDigit(c) && !first:
			d.out = append(d.out, c)
		case c == '.' && !first:
			d.out = append(d.out, c)
			first, upper, under = true, false, false
			continue
		case d.request && c == '_' && !first:
			d.out = append(d.out, c)
			under = true
		case d.request && c == '*' && first && (i+1 == len(path) || path[i+1] == '.'):
			d.out = append(d.out, c)
		default:
			return false
		}
		first = false
	}
	return !first && !(upper && under)
}

// secondsAndNanos writes the two fields of a Timestamp or a Duration.
func (d *reader) secondsAndNanos(seconds int64, nanos int32) {
	if seconds != 0 {
		d.out = append(d.out, 1<<3|byte(protowire.VarintType))
		d.out = protowire.AppendVarint(d.out, uint64(seconds))
	}
	if nanos != 0 {
		d.out = append(d.out, 2<<3|byte(protowire.VarintType))
		d.out = protowire.AppendVarint(d.out, uint64(int64(nanos)))
	}
}
