package transcode

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wireMaker makes the wire form of messages up.
type wireMaker struct {
	*rand.Rand
	w    *world
	odd  int // one choice in so many is an odd one, of 0 none
	left int // fields that may still come
}

func (g *wireMaker) isOdd() bool { return g.odd > 0 && g.IntN(g.odd) == 0 }

// varint is longer than it has to be now and then.
func (g *wireMaker) varint(b []byte, v uint64) []byte {
	b = protowire.AppendVarint(b, v)
	if g.odd > 0 && v < 1<<63 && g.IntN(g.odd*2) == 0 {
		for range 1 + g.IntN(10) {
			b[len(b)-1] |= 0x80
			b = append(b, 0)
		}
	}
	return b
}

func (g *wireMaker) tag(b []byte, n protoreflect.FieldNumber, t protowire.Type) []byte {
	return g.varint(b, protowire.EncodeTag(n, t))
}

// wireTexts ends with what is no UTF-8.
var wireTexts = []string{
	"", "a", "hello", "quote\"", "back\\slash", "1234567", "12345678", "123456789", "ünïcödé", "\x00", "\x01tab\t", "\u2028", "<>&", "-", "true",
	"long long string of more than sixteen bytes", "\x7f\x1f", "€uro", "𝄞", "1234\"678", "\xff", "\xc3", "abc\xed\xa0\x80", "12345678\xff",
}

func (g *wireMaker) text() string {
	if n := len(wireTexts); g.isOdd() {
		return wireTexts[g.IntN(n)]
	}
	return wireTexts[g.IntN(len(wireTexts)-4)]
}

// wireNumbers are edges of integers and, as bits, of floats.
var wireNumbers = []uint64{
	0, 1, 2, 5, 127, 128, 255, 300, 511, 512, 600, 16384, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 512,
	0x3ff0000000000000, 0x7ff0000000000000, 0x7ff8000000000000, 0xfff0000000000000, 0x444b1ae4d6e2ef50, 0x3eb0c6f7a0b5ed8d, 0x3eb0c6f7a0b5ed8c,
	0x430c6bf526340000, 0x3f800000, 0x7f800000, 0x7fc00000, 0x4b800001, 0x5f000000,
}

func (g *wireMaker) number() uint64 {
	switch g.IntN(4) {
	case 0:
		return g.Uint64() >> g.IntN(64)
	case 1:
		return uint64(g.IntN(10)) //nolint:gosec // A few.
	}
	return wireNumbers[g.IntN(len(wireNumbers))]
}

// value is one of a wire type, without a tag; of a group, with its end.
func (g *wireMaker) value(b []byte, n protoreflect.FieldNumber, t protowire.Type) []byte {
	switch t {
	case protowire.Fixed32Type:
		return protowire.AppendFixed32(b, uint32(g.number())) //nolint:gosec // Any bits will do.
	case protowire.Fixed64Type:
		return protowire.AppendFixed64(b, g.number())
	case protowire.BytesType:
		return protowire.AppendString(b, g.text())
	case protowire.StartGroupType:
		if g.IntN(2) == 0 {
			b = g.unknown(b, protoreflect.FieldNumber(1+g.IntN(5))) //nolint:gosec // A few.
		}
		return g.tag(b, n, protowire.EndGroupType)
	case protowire.EndGroupType:
		return b
	}
	return g.varint(b, g.number())
}

func (g *wireMaker) scalar(b []byte, fd protoreflect.FieldDescriptor) []byte {
	return g.value(b, fd.Number(), wireType(fd.Kind()))
}

// unknown is a field of any wire type, seldom an end without a group.
func (g *wireMaker) unknown(b []byte, n protoreflect.FieldNumber) []byte {
	t := []protowire.Type{protowire.VarintType, protowire.Fixed32Type, protowire.Fixed64Type, protowire.BytesType, protowire.StartGroupType}[g.IntN(5)]
	if g.IntN(60) == 0 {
		t = protowire.EndGroupType
	}
	return g.value(g.tag(b, n, t), n, t)
}

// message makes one up, whose fields ascend or not.
func (g *wireMaker) message(md protoreflect.MessageDescriptor, depth int) []byte {
	if !g.isOdd() {
		if b, ok := g.known(md, depth); ok {
			return b
		}
	}
	var parts [][]byte
	dense, ascending := g.IntN(3) > 0, g.IntN(2) == 0
	for _, i := range g.Perm(md.Fields().Len()) {
		fd := md.Fields().Get(i)
		if g.leftOut(fd, dense, ascending) {
			continue
		}
		n := 1
		if fd.IsList() || fd.IsMap() {
			n = g.IntN(4)
		} else if g.isOdd() {
			n = 2
		}
		for range n {
			parts = append(parts, g.field(fd, depth))
		}
	}
	for i := range g.w.file.Extensions().Len() {
		if x := g.w.file.Extensions().Get(i); x.ContainingMessage().FullName() == md.FullName() && g.IntN(2) == 0 {
			parts = append(parts, g.field(x, depth))
		}
	}
	if g.isOdd() {
		parts = append(parts, g.unknown(nil, protoreflect.FieldNumber(1+g.IntN(40)))) //nolint:gosec // A few.
	}
	if ascending {
		slices.SortStableFunc(parts, func(a, b []byte) int { return cmp.Compare(numberOf(a), numberOf(b)) })
	}
	return bytes.Join(parts, nil)
}

func (g *wireMaker) leftOut(fd protoreflect.FieldDescriptor, dense, ascending bool) bool {
	g.left--
	if fd.Cardinality() == protoreflect.Required {
		return g.odd > 0 && g.IntN(g.odd*2) == 0
	}
	if o := fd.ContainingOneof(); o != nil && !o.IsSynthetic() && ascending && g.IntN(o.Fields().Len()) > 0 {
		return true
	}
	return g.left < 0 || !dense && g.IntN(2) == 0
}

func numberOf(part []byte) uint64 {
	v, _ := protowire.ConsumeVarint(part)
	return v >> 3
}

// known is a message with a JSON of its own that is mostly right.
func (g *wireMaker) known(md protoreflect.MessageDescriptor, depth int) ([]byte, bool) {
	var b []byte
	switch md.FullName() {
	case "google.protobuf.Any":
		return g.any(depth), true
	case "google.protobuf.Timestamp", "google.protobuf.Duration":
		secs, nanos := g.Int64N(2e9)-1e9, g.Int64N(1e9)
		if g.IntN(3) == 0 {
			nanos -= nanos % 1e6
		}
		if g.IntN(12) == 0 {
			edges := []int64{-62135596800, -62135596801, 253402300799, 253402300800, 315576000000, -315576000000, 0, -2208988800, 951782400}
			secs = edges[g.IntN(len(edges))]
		}
		if secs < 0 && md.Name() == "Duration" {
			nanos = -nanos
		}
		b = g.varint(g.tag(b, 1, protowire.VarintType), uint64(secs))           //nolint:gosec // As on the wire.
		return g.varint(g.tag(b, 2, protowire.VarintType), uint64(nanos)), true //nolint:gosec // As on the wire.
	case "google.protobuf.FieldMask":
		for range g.IntN(3) {
			paths := []string{"a", "a_b", "a.b_c", "x1", "a_1", "A", "", "a__b", "_a", "a.", "é"}
			b = protowire.AppendString(g.tag(b, 1, protowire.BytesType), paths[g.IntN(4+g.IntN(len(paths)-3))])
		}
		return b, true
	case "google.protobuf.Value":
		return g.field(md.Fields().Get(g.IntN(md.Fields().Len())), depth), true
	}
	return nil, false
}

func (g *wireMaker) any(depth int) []byte {
	if g.IntN(4) == 0 || depth <= 0 {
		return nil
	}
	name := g.w.msgs[g.IntN(len(g.w.msgs))].FullName()
	if g.IntN(3) == 0 {
		name = protoreflect.FullName(knownTypes[g.IntN(len(knownTypes))])
	}
	mt, err := g.w.types.FindMessageByName(name)
	if err != nil {
		panic(err) // worldOf has registered them.
	}
	url := []string{"type.googleapis.com/", "", "/", "x/y/", "\"/"}[g.IntN(5)] + string(name)
	b := protowire.AppendString(g.tag(nil, 1, protowire.BytesType), url)
	return protowire.AppendBytes(g.tag(b, 2, protowire.BytesType), g.message(mt.Descriptor(), depth-1))
}

// field is one occurrence of a field.
func (g *wireMaker) field(fd protoreflect.FieldDescriptor, depth int) []byte {
	n := fd.Number()
	switch {
	case fd.IsMap():
		return protowire.AppendBytes(g.tag(nil, n, protowire.BytesType), g.entry(fd, depth))
	case fd.Message() != nil:
		var v []byte
		if depth > 0 {
			v = g.message(fd.Message(), depth-1)
		}
		if fd.Kind() == protoreflect.GroupKind {
			return g.tag(append(g.tag(nil, n, protowire.StartGroupType), v...), n, protowire.EndGroupType)
		}
		return append(g.varint(g.tag(nil, n, protowire.BytesType), uint64(len(v))), v...)
	case fd.IsList() && wireType(fd.Kind()) != protowire.BytesType && g.IntN(2) == 0:
		var v []byte
		for range g.IntN(4) {
			v = g.scalar(v, fd)
		}
		return protowire.AppendBytes(g.tag(nil, n, protowire.BytesType), v)
	}
	return g.scalar(g.tag(nil, n, wireType(fd.Kind())), fd)
}

// entry of a map: a key and a value, in either order, not always once.
func (g *wireMaker) entry(fd protoreflect.FieldDescriptor, depth int) []byte {
	var e []byte
	times := 1
	if g.isOdd() {
		times = g.IntN(3)
	}
	for range times {
		key, value := g.field(fd.MapKey(), 0), g.field(fd.MapValue(), depth-1)
		if g.isOdd() {
			key, value = value, key
		}
		e = append(append(e, key...), value...)
	}
	if g.isOdd() {
		e = g.unknown(e, protoreflect.FieldNumber(1+g.IntN(3))) //nolint:gosec // A few.
	}
	return e
}

// corrupt changes a few bytes.
func (g *wireMaker) corrupt(b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + g.IntN(3) {
		if len(b) == 0 {
			break
		}
		i := g.IntN(len(b))
		switch g.IntN(5) {
		case 0:
			b = b[:i]
		case 1:
			b = slices.Delete(b, i, i+1)
		case 2:
			b = slices.Insert(b, i, byte(g.Uint32())) //nolint:gosec // Any byte will do.
		case 3:
			b[i] ^= 1 << g.IntN(8)
		case 4:
			b = append(b, b[i:min(len(b), i+8)]...)
		}
	}
	return b
}
