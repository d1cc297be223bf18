package transcode

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxDense bounds the tables that are indexed by number.
const maxDense = 512

// message returns the plan of a message, and compiles it and all it leads to when it
// is new. The set's lock is held.
func (s *Set) message(md protoreflect.MessageDescriptor) *message {
	if m := s.messages[md]; m != nil {
		return m
	}
	m := &message{md: md, form: forms[md.FullName()], extensions: md.ExtensionRanges()}
	s.messages[md] = m // Before its fields: messages nest themselves.
	if o, ok := md.Options().(*descriptorpb.MessageOptions); ok && o.GetMessageSetWireFormat() {
		m.form = messageSetForm
	}
	if m.extensions.Len() > 0 {
		m.extended = &extended{}
	}
	fields := make([]field, md.Fields().Len())
	for i := range fields {
		fields[i] = s.field(md.Fields().Get(i))
		if v := fields[i].fd.Message(); md.IsMapEntry() && v != nil && v.RequiredNumbers().Len() > 0 {
			fields[i].required = true // A value that is not there lacks what it requires.
		}
	}
	m.assemble(fields)
	return m
}

// assemble puts the fields in order and makes the tables of them.
func (m *message) assemble(fields []field) {
	slices.SortFunc(fields, func(a, b field) int { return cmp.Compare(a.num, b.num) })
	m.fields = fields
	if n := len(fields); n > 0 {
		m.dense = make([]*field, min(int(fields[n-1].num), maxDense)+1)
	}
	m.from = make([]int32, len(fields)+1)
	m.oneofs = m.md.Oneofs().Len()
	for i := range fields {
		f := &fields[i]
		f.index = int32(i)
		f.counted = f.required || f.roams
		f.other = f
		if f.wt != f.alt {
			o := *f
			o.wt, o.alt = f.alt, f.wt
			o.setTag()
			f.other = &o
		}
		if int(f.num) < len(m.dense) {
			m.dense[f.num] = f
		} else {
			if m.sparse == nil {
				m.sparse = map[protoreflect.FieldNumber]*field{}
			}
			m.sparse[f.num] = f
		}
		if f.required {
			m.required++
		}
		if d := f.defaultJSON(); d != "" {
			if !m.bare {
				m.defaults = f.appendKey(m.defaults)
			}
			m.defaults = append(m.defaults, d...)
		}
		m.from[i+1] = int32(len(m.defaults))
	}
}

// field compiles one field, or an extension.
func (s *Set) field(fd protoreflect.FieldDescriptor) field {
	f := field{fd: fd, num: fd.Number(), oneofs: -1, required: fd.Cardinality() == protoreflect.Required}
	f.elem = ops[fd.Kind()]
	f.op = f.elem
	switch {
	case fd.IsMap():
		f.op = opMap
		f.elem = ops[fd.MapValue().Kind()]
	case fd.IsList():
		f.op = lists[f.elem]
	}
	if e := fd.Enum(); e != nil {
		if e.FullName() == "google.protobuf.NullValue" {
			f.elem = opNull
			if f.op == opEnum {
				f.op = opNull
			}
		} else {
			f.enum = s.enum(e)
		}
	}
	if md := fd.Message(); md != nil {
		f.msg = s.message(md)
	}
	f.utf8 = fd.Kind() == protoreflect.StringKind && enforcesUTF8(fd)
	f.wt = f.op.wireType()
	f.alt = f.wt
	if f.op == opNumbers {
		f.alt = f.elem.wireType()
		if !fd.IsPacked() {
			f.wt, f.alt = f.alt, f.wt
		}
	}
	if od := fd.ContainingOneof(); od != nil && !od.IsSynthetic() {
		f.oneofs, f.roams = int32(od.Index()), true
		f.oneof = 1 << min(od.Index(), 63)
	}
	if v := fd.Default(); f.op == f.elem && v.IsValid() {
		f.zero = f.appendZero(v)
	}
	f.setTag()
	f.setKey(jsonName(fd))
	return f
}

func (f *field) setTag() {
	tag := protowire.AppendVarint(nil, uint64(f.num)<<3|uint64(f.wt))
	f.tagLen = uint8(copy(f.tag[:], tag))
}

func jsonName(fd protoreflect.FieldDescriptor) string {
	if fd.IsExtension() {
		return "[" + string(fd.FullName()) + "]"
	}
	return fd.JSONName()
}

// enforcesUTF8 says whether protobuf-go refuses to parse what is not UTF-8.
func enforcesUTF8(fd protoreflect.FieldDescriptor) bool {
	syntax := fd.Syntax()
	if syntax == protoreflect.Editions {
		if e, ok := fd.(interface{ EnforceUTF8() bool }); ok {
			return e.EnforceUTF8()
		}
	}
	return syntax == protoreflect.Proto3
}

// setKey sets the name that is written; the name of a descriptor is UTF-8.
func (f *field) setKey(name string) {
	quoted, err := appendString([]byte{','}, []byte(name))
	if err != nil {
		quoted = append([]byte{','}, `"?"`...)
	}
	quoted = append(quoted, ':')
	if len(quoted) <= keySize {
		f.keyLen = uint8(copy(f.key[:], quoted))
		return
	}
	f.long = quoted
}

func (f *field) appendKey(dst []byte) []byte {
	if f.long != nil {
		return append(dst, f.long...)
	}
	return append(dst, f.key[:f.keyLen]...)
}

// defaultJSON is what is written for a field that is not there; nothing for one
// that knows whether it is.
func (f *field) defaultJSON() string {
	switch {
	case f.op == opSkip || f.fd.IsExtension():
		return ""
	case f.fd.IsMap():
		return "{}"
	case f.fd.IsList():
		return "[]"
	case f.fd.HasPresence():
		return ""
	}
	return string(f.zero)
}

// appendZero is the default of a scalar.
func (f *field) appendZero(v protoreflect.Value) []byte {
	switch f.op {
	case opString, opBytes:
		b, err := f.appendBytes(nil, []byte(stringOf(f.op, v)))
		if err != nil {
			return []byte(`""`)
		}
		return b
	case opMessage, opGroup:
		return nil
	}
	return f.appendNumber(nil, rawOf(f.op, v))
}

func stringOf(o op, v protoreflect.Value) string {
	if o == opBytes {
		return string(v.Bytes())
	}
	return v.String()
}

var ops = map[protoreflect.Kind]op{
	protoreflect.BoolKind:     opBool,
	protoreflect.EnumKind:     opEnum,
	protoreflect.Int32Kind:    opInt32,
	protoreflect.Sint32Kind:   opSint32,
	protoreflect.Uint32Kind:   opUint32,
	protoreflect.Int64Kind:    opInt64,
	protoreflect.Sint64Kind:   opSint64,
	protoreflect.Uint64Kind:   opUint64,
	protoreflect.Sfixed32Kind: opSfixed32,
	protoreflect.Fixed32Kind:  opFixed32,
	protoreflect.FloatKind:    opFloat,
	protoreflect.Sfixed64Kind: opSfixed64,
	protoreflect.Fixed64Kind:  opFixed64,
	protoreflect.DoubleKind:   opDouble,
	protoreflect.StringKind:   opString,
	protoreflect.BytesKind:    opBytes,
	protoreflect.MessageKind:  opMessage,
	protoreflect.GroupKind:    opGroup,
}

var lists = [...]op{
	opBool: opNumbers, opInt32: opNumbers, opInt64: opNumbers, opUint32: opNumbers, opUint64: opNumbers,
	opSint32: opNumbers, opSint64: opNumbers, opFixed32: opNumbers, opFixed64: opNumbers,
	opSfixed32: opNumbers, opSfixed64: opNumbers, opFloat: opNumbers, opDouble: opNumbers,
	opEnum: opNumbers, opNull: opNumbers,
	opString: opStrings, opBytes: opBytesList, opMessage: opMessages, opGroup: opGroups,
}
