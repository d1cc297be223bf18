package transcode

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// enum returns the names of an enum. Of several names for a number the first counts.
// The set's lock is held.
func (s *Set) enum(ed protoreflect.EnumDescriptor) *enum {
	if e := s.enums[ed]; e != nil {
		return e
	}
	e := &enum{sparse: map[int32][]byte{}}
	s.enums[ed] = e
	values, top := ed.Values(), int32(-1)
	for i := range values.Len() {
		if n := int32(values.Get(i).Number()); n < maxDense {
			top = max(top, n)
		}
	}
	e.dense = make([][]byte, top+1)
	for i := range values.Len() {
		n := int32(values.Get(i).Number())
		if e.name(n) != nil {
			continue
		}
		quoted := []byte(`"` + string(values.Get(i).Name()) + `"`)
		if n >= 0 && n <= top {
			e.dense[n] = quoted
		} else {
			e.sparse[n] = quoted
		}
	}
	return e
}

// rawOf is a number as the wire has it.
func rawOf(o op, v protoreflect.Value) uint64 {
	switch o {
	case opBool:
		return protowire.EncodeBool(v.Bool())
	case opEnum, opNull:
		return uint64(v.Enum())
	case opSint32, opSint64:
		return protowire.EncodeZigZag(v.Int())
	case opInt32, opInt64, opSfixed32, opSfixed64:
		return uint64(v.Int())
	case opFloat:
		return uint64(math.Float32bits(float32(v.Float())))
	case opDouble:
		return math.Float64bits(v.Float())
	}
	return v.Uint()
}
