package transcode

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Field is a field of a message that a plan reads, as path variables and query parameters
// name it. Two are the same field of the same message if they are equal; the zero Field
// is none.
type Field struct{ f *decodeField }

// Named returns the field of the message that JSON gives this name; none where there
// is none.
func (p *Plan) Named(name string) Field { return Field{p.in.byName[name]} }

// Named returns the field of the message that the field holds; none where that is a list
// or a map, or no message.
func (f Field) Named(name string) Field {
	if in := f.f.nests(); in != nil {
		return Field{in.byName[name]}
	}
	return Field{}
}

// Exists says that this is a field.
func (f Field) Exists() bool { return f.f != nil }

// Descriptor is the field's.
func (f Field) Descriptor() protoreflect.FieldDescriptor { return f.f.fd }

// Name is the field's in the descriptor.
func (f Field) Name() string { return f.f.name }

// IsList says that there may be several values.
func (f Field) IsList() bool { return f.f.shape == shapeList || f.f.shape == shapePacked }

// IsMap says that a value has a key.
func (f Field) IsMap() bool { return f.f.shape == shapeMap }

// IsMessage says that the value is a message, and the only one.
func (f Field) IsMessage() bool { return f.f.nests() != nil }

// Oneof tells the oneofs of one message apart; 0 is none.
func (f Field) Oneof() int { return f.f.oneof }

// IsText says that one text can be a value of the field, or of an entry of the map.
func (f Field) IsText() bool {
	if f.IsMap() {
		return Field{f.f.value}.IsText()
	}
	if f.f.message == nil {
		return true
	}
	switch f.f.message.known {
	case knownNone:
		return f.f.message.md.Fields().Len() == 0
	case knownAny:
		return false
	}
	return f.f.message.refused == ""
}

// AppendText appends a value, given as text, of the field that a path leads to, in the
// messages on the way, to dst. Of a map, key is the entry's. The text is what the JSON
// mapping writes, without quotes, by the readers of AppendRequest; of a Struct, a Value or
// a ListValue it is JSON. Zeros are written: the message may have another value before.
// Its error is an *Error without a position; dst is then returned as it was.
//
// Of the path all but the last are messages, and the last is a text; it is not kept.
func (p *Plan) AppendText(dst []byte, path []Field, key, text string) ([]byte, error) {
	d := p.set.reader(dst, nil)
	d.asRequest(false)
	ok := d.textPath(path, key, text)
	if !ok {
		d.err.Offset = 0
	}
	return d.end(ok, dst, nil)
}

func (d *reader) textPath(path []Field, key, text string) bool {
	if !utf8.ValidString(text) || !utf8.ValidString(key) {
		return d.fail(0, reasonUTF8)
	}
	d.starts = d.starts[:0]
	last := len(path) - 1
	for _, lead := range path[:last] {
		d.out = append(d.out, lead.f.tag...)
		if lead.f.kind == protoreflect.MessageKind {
			d.starts = append(d.starts, d.reserve(1))
		}
	}
	f := path[last].f
	var ok bool
	switch f.shape {
	case shapeMap:
		ok = d.textEntry(f, key, text)
	case shapePacked:
		d.out = append(d.out, f.tag...)
		start := d.reserve(1)
		var v uint64
		if v, ok = d.textNumber(f, text); ok {
			d.appendNumber(f, v)
			d.measure(start, 1)
		}
	default:
		ok = d.textValue(f, text)
	}
	if !ok {
		return false
	}
	for i := last - 1; i >= 0; i-- {
		if lead := path[i].f; lead.kind == protoreflect.MessageKind {
			start := d.starts[len(d.starts)-1]
			d.starts = d.starts[:len(d.starts)-1]
			d.measure(start, 1)
		} else {
			d.out = append(d.out, lead.end...)
		}
	}
	return true
}

// textEntry writes an entry of a map.
func (d *reader) textEntry(f *decodeField, key, text string) bool {
	d.out = append(d.out, f.tag...)
	start := d.reserve(1)
	if f.key.kind == protoreflect.StringKind {
		d.textString(f.key, key)
	} else {
		v, ok := keyNumber(f.key.kind, []byte(key))
		if !ok {
			return d.fail(0, "must have keys that are "+keyWanted(f.key.kind))
		}
		d.out = append(d.out, f.key.tag...)
		d.appendNumber(f.key, v)
	}
	if !d.textValue(f.value, text) {
		return false
	}
	d.measure(start, 1)
	return true
}

// textValue writes a single value, whatever it is, behind the field's tag.
func (d *reader) textValue(f *decodeField, text string) bool {
	switch f.kind {
	case protoreflect.StringKind:
		d.textString(f, text)
		return true
	case protoreflect.BytesKind:
		if text == "" {
			d.textString(f, text)
			return true
		}
		d.quote(text)
		return d.bytesValue(f)
	case protoreflect.MessageKind:
		d.out = append(d.out, f.tag...)
		start := d.reserve(1)
		if !d.textMessage(f.message, text) {
			return false
		}
		d.measure(start, 1)
		return true
	case protoreflect.GroupKind:
		d.out = append(d.out, f.tag...)
		if !d.textMessage(f.message, text) {
			return false
		}
		d.out = append(d.out, f.end...)
		return true
	}
	v, ok := d.textNumber(f, text)
	if ok {
		d.out = append(d.out, f.tag...)
		d.appendNumber(f, v)
	}
	return ok
}

func (d *reader) textString(f *decodeField, text string) {
	d.out = append(d.out, f.tag...)
	d.out = protowire.AppendVarint(d.out, uint64(len(text)))
	d.out = append(d.out, text...)
}

// textNumber reads a bool, a number or an enum.
func (d *reader) textNumber(f *decodeField, text string) (uint64, bool) {
	switch f.kind {
	case protoreflect.BoolKind:
		switch text {
		case "true":
			return 1, true
		case "false":
			return 0, true
		}
		return 0, d.fail(0, "must be true or false")
	case protoreflect.EnumKind:
		if text == "null" && f.nullable {
			return 0, true
		}
		if text != "" && (text[0] == '-' || isDigit(text[0])) {
			d.plain(text)
			if v, ok := d.enum(f); ok && d.pos == len(d.in) {
				return v, true
			}
			return 0, d.fail(0, "must be "+f.enum.wanted)
		}
	}
	d.quote(text)
	return d.number(f)
}

// textMessage writes the fields of a message that one text can be.
func (d *reader) textMessage(p *decodePlan, text string) bool {
	switch p.known {
	case knownWrapper:
		return d.textValue(p.byNumber(1), text)
	case knownTimestamp, knownDuration, knownMask:
		d.quote(text)
		return d.message(p)
	case knownStruct, knownValue, knownList:
		d.plain(text)
		if !d.message(p) {
			return false
		}
		if d.next(); d.pos < len(d.in) {
			return d.notJSON(d.pos, "something follows the value")
		}
		return true
	}
	if text != "" && text != "{}" { // A message without fields can only be there or not.
		return d.fail(0, "must be empty or {}")
	}
	return true
}

// plain makes the text what is read next, as it is.
func (d *reader) plain(text string) {
	d.quoted = append(d.quoted[:0], text...)
	d.in, d.pos = d.quoted, 0
}

// quote makes the text what is read next, as a JSON string. What would have to be escaped
// is in no value that this is for, so a text with it becomes one that is no value, either.
func (d *reader) quote(text string) {
	d.quoted = append(append(append(d.quoted[:0], '"'), text...), '"')
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' {
			d.quoted = append(d.quoted[:0], `"?"`...)
			break
		}
	}
	d.in, d.pos = d.quoted, 0
}
