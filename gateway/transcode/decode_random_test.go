package transcode_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/tools/effort"
)

// writer makes JSON up, mostly of the right type, sometimes not, to have every
// rule asked from both sides.
type writer struct {
	*rand.Rand
	b   strings.Builder
	odd int // one choice in so many is an odd one
}

func (w *writer) one(of ...string) { w.b.WriteString(of[w.IntN(len(of))]) }

func (w *writer) isOdd() bool { return w.IntN(w.odd) == 0 }

// space writes white space, now and then, or what is none.
func (w *writer) space() {
	if w.IntN(12) == 0 {
		w.one(" ", "\n", "\t\r ", "  ")
	}
	if w.IntN(60*w.odd) == 0 {
		w.one("\v", "\u00a0", "\ufeff", "\x00", "x", ",", "//")
	}
}

var (
	integers = []string{
		"0", "1", "-1", "7", "-0", "127", "128", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296",
		"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
		"1.0", "1e2", "1E+2", "100e-2", "10e-2", "1.50e1", "1.5", "0.0e-7", "-0.0", "0e99999999999", "0.5e1", "0.05e2", "12e19", "1e19", "1e20", "1e99999999999",
		"123456789012345678901234567890e-20", "1000000000000000000000000000000e-29", "01", "-", "1.", ".5", "+1", "1e", "1e+", "0x1", "1_0", "--1", "00", "-01", "1e0000000000001",
		"12345678901234567890", "1234567890123456789", "0.00000000000000000000001e23",
	}
	floats = []string{
		"0", "-0", "1.5", "-2.5e-3", "1e38", "3.5e38", "1e308", "1.8e308", "1e-400", "1e-45", "0.1", "123456789.123456789", "NaN", "Infinity", "-Infinity", "inf", "nan",
		"-NaN", "+Infinity", "1e", "1e+", "1.e1", "3.4028234663852886e38", "3.4028235677973366e+38", "1.7976931348623157e308", "4.9e-324", "9007199254740993",
	}
	texts = []string{
		``, `a`, `text`, `äöü€𝄞`, `\n\t\r\b\f\/\\\"`, `\u0041\u00e9\u20AC`, `\ud834\udd1e`, `\ud834`, `\udd1e\ud834`, `\ud834\u0041`, `\u12`, `\x`, `\u0000`, "\x01", "\xff", "ok\xc3",
		"\xed\xa0\x80", `0123456789012345678901234567890123456789`, strings.Repeat("long ", 40), strings.Repeat("é", 70), `a\`, "tab\tin", `\uD834\uDD1Ex`, `\u00zz`, `\U0041`, "\x7f", `\u+123`,
		strings.Repeat("x", 127), strings.Repeat("x", 128), strings.Repeat(`\n`, 128), strings.Repeat("y", 17000),
	}
	base64s = []string{
		``, `YQ==`, `YQ`, `YWI=`, `YWI`, `YWJj`, `-_-_`, `+/+/`, `-/`, `YQ=`, `Y`, `YQ===`, `Y Q=`, `YQ\n==`, `Y\nQ`, `\u0059Q==`, `\n`, `\n\n\n\n`, `YR==`, `+\/+\/`, `____`, `ÿ`, strings.Repeat("QUJD", 60),
	}
	times = []string{
		`2026-01-31T12:00:00Z`, `2026-01-31T12:00:00.5Z`, `2026-01-31T12:00:00.123456789Z`, `2026-01-31T12:00:00.1234567890Z`, `2024-02-29T23:59:59+02:00`, `2023-02-29T00:00:00Z`, `1900-02-29T00:00:00Z`,
		`2000-02-29T00:00:00-23:59`, `0001-01-01T00:00:00Z`, `0000-12-31T23:59:59Z`, `9999-12-31T23:59:59.999999999Z`, `9999-12-31T23:59:59-00:01`, `0001-01-01T00:00:00+00:01`, `2026-01-31t12:00:00Z`,
		`2026-01-31T12:00:00z`, `2026-01-31T12:00:00`, `2026-01-31 12:00:00Z`, `2026-13-01T00:00:00Z`, `2026-00-01T00:00:00Z`, `2026-01-00T00:00:00Z`, `2026-04-31T00:00:00Z`, `2026-01-31T24:00:00Z`, `2026-01-31T23:60:00Z`,
		`2026-01-31T23:59:60Z`, `2026-01-31T1:00:00Z`, `2026-01-31T12:00:00,5Z`, `2026-01-31T12:00:00.Z`, `2026-01-31T12:00:00+24:00`, `2026-01-31T12:00:00+2:00`, `2026-01-31T12:00:00+0200`, `2026-01-31T12:00:00+02:60`,
		`1969-12-31T23:59:59.5Z`, `1970-01-01T00:00:00Z`, ` 2026-01-31T12:00:00Z`, `2026-1-31T12:00:00Z`, `12026-01-31T12:00:00Z`, `-001-01-31T12:00:00Z`, `2026-01-31T12:00:00.000+01:00`, `2026\u002d01-31T12:00:00Z`,
	}
	durations = []string{
		`0s`, `1s`, `1.5s`, `-1.5s`, `+1s`, `.5s`, `-.5s`, `1.s`, `.s`, `-.s`, `s`, `-s`, `1`, `01s`, `1.0000000000s`, `1.123456789s`, `315576000000s`, `315576000001s`, `-315576000000.9s`, `-315576000001s`, `1e3s`, `9223372036854775808s`, ` 1s`, `1 s`, `0.0s`, `1m`,
	}
	masks = []string{``, `a`, `aB,cD.eF`, `a_b`, `a,`, `,`, `a..b`, `.a`, `a.`, ` a `, `a, b`, `1a`, `a1`, `Ab`, `a.B`, `aBC`, `é`, `\u0061B`, `\u2003a`, `\u0085`, strings.Repeat("aB.", 60) + "c"}
)

// value writes a value for a field that is no list and no map.
func (w *writer) value(fd protoreflect.FieldDescriptor, depth int) {
	w.space()
	defer w.space()
	if w.isOdd() {
		w.anything(depth)
		return
	}
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		w.message(fd.Message(), depth-1)
	case protoreflect.BoolKind:
		w.one("true", "false")
	case protoreflect.StringKind:
		w.text(texts)
	case protoreflect.BytesKind:
		w.text(base64s)
	case protoreflect.EnumKind:
		if vs := fd.Enum().Values(); w.IntN(2) == 0 {
			w.quoted(string(vs.Get(w.IntN(vs.Len())).Name()))
		} else {
			w.one("0", "1", "2", "5", "-1", "99", "1.0", "null")
		}
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		w.numeric(floats)
	default:
		w.numeric(integers)
	}
}

// usual is how many of the first entries of a table are beyond doubt.
const usual = 4

func (w *writer) numeric(from []string) {
	s := from[w.IntN(len(from))]
	if !w.isOdd() {
		s = from[w.IntN(usual)]
	}
	switch w.IntN(3) {
	case 0:
		w.quoted(s)
	default:
		w.b.WriteString(s)
	}
}

func (w *writer) text(from []string) {
	s := from[w.IntN(len(from))]
	if !w.isOdd() {
		s = from[w.IntN(usual)]
	}
	w.quoted(s)
}

// quoted writes text between quotes as it is, or with one character escaped.
func (w *writer) quoted(s string) {
	if n := len(s); n > 0 && w.IntN(15) == 0 && !strings.ContainsAny(s, `\`) {
		i := w.IntN(n)
		if c := s[i]; c < 0x7f {
			s = s[:i] + `\u00` + strconv.FormatInt(int64(c)+256, 16)[1:] + s[i+1:]
		}
	}
	w.b.WriteByte('"')
	w.b.WriteString(s)
	w.b.WriteByte('"')
}

// anything writes any JSON.
func (w *writer) anything(depth int) {
	switch n := w.IntN(12); {
	case n < 2:
		w.one("null", "true", "false", "nul", "truex", "", "{", "]", "NaN")
	case n < 4:
		w.one(integers...)
	case n == 4:
		w.one(floats...)
	case n == 5:
		w.quoted(texts[w.IntN(len(texts))])
	case n == 6:
		w.quoted(times[w.IntN(len(times))])
	case n < 9 && depth > 0:
		w.list(w.IntN(4), func() { w.anything(depth - 1) })
	case depth > 0:
		w.object(w.IntN(4), func() { w.one(`"a"`, `"b"`, `"@type"`, `"value"`, `""`, `"fInt32"`) }, func() { w.anything(depth - 1) })
	default:
		w.one("null", "{}", "[]", "1", `"x"`)
	}
}

func (w *writer) list(n int, element func()) {
	w.b.WriteByte('[')
	for i := range n {
		if i > 0 {
			w.b.WriteByte(',')
		}
		element()
	}
	w.closing("]", "],", ",]", "}")
}

func (w *writer) object(n int, name, value func()) {
	w.b.WriteByte('{')
	for i := range n {
		if i > 0 {
			w.b.WriteByte(',')
		}
		w.space()
		name()
		w.space()
		w.b.WriteByte(':')
		value()
	}
	w.closing("}", ",}", "]", "}}")
}

func (w *writer) closing(right string, wrong ...string) {
	w.space()
	if w.IntN(40*w.odd) == 0 {
		w.one(wrong...)
		return
	}
	w.b.WriteString(right)
}

// message writes the JSON of a message.
func (w *writer) message(md protoreflect.MessageDescriptor, depth int) {
	switch md.FullName() {
	case "google.protobuf.Timestamp":
		w.text(times)
	case "google.protobuf.Duration":
		w.text(durations)
	case "google.protobuf.FieldMask":
		w.text(masks)
	case "google.protobuf.Any":
		w.any(depth)
	case "google.protobuf.Struct":
		w.object(w.size(), func() { w.one(`"a"`, `"b"`, `"c"`, `""`, `"ä"`) }, func() { w.anything(depth) })
	case "google.protobuf.ListValue":
		w.list(w.size(), func() { w.anything(depth) })
	case "google.protobuf.Value":
		w.anything(depth)
	case "google.protobuf.Empty":
		w.one("{}", "{}", "{ }", `{"a":1}`, "null")
	default:
		if md.FullName().Parent() == "google.protobuf" {
			w.value(md.Fields().ByName("value"), depth)
			return
		}
		w.b.WriteByte('{')
		w.members(md, depth, false)
		w.closing("}", ",}", "]")
	}
}

func (w *writer) size() int {
	if w.IntN(30) == 0 {
		return 20
	}
	return w.IntN(4)
}

// members writes some fields of a message, its required ones mostly among them.
func (w *writer) members(md protoreflect.MessageDescriptor, depth int, comma bool) {
	fds := fieldsOf(md)
	var chosen []protoreflect.FieldDescriptor
	for _, fd := range fds {
		if fd.Cardinality() == protoreflect.Required && !w.isOdd() {
			chosen = append(chosen, fd)
		}
	}
	if depth > 0 {
		for range w.size() {
			chosen = append(chosen, fds[w.IntN(len(fds))])
		}
	}
	had := map[protoreflect.FullName]bool{}
	for _, fd := range chosen {
		if had[fd.FullName()] && !w.isOdd() {
			continue
		}
		had[fd.FullName()] = true
		if comma {
			w.b.WriteByte(',')
		}
		comma = true
		w.member(fd, depth)
	}
}

// fieldsOf are the fields of a message and its extensions.
func fieldsOf(md protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	var all []protoreflect.FieldDescriptor
	for i := range md.Fields().Len() {
		all = append(all, md.Fields().Get(i))
	}
	protoregistry.GlobalTypes.RangeExtensionsByMessage(md.FullName(), func(xt protoreflect.ExtensionType) bool {
		all = append(all, xt.TypeDescriptor())
		return true
	})
	return all
}

func (w *writer) member(fd protoreflect.FieldDescriptor, depth int) {
	w.space()
	switch name := fd.JSONName(); {
	case fd.IsExtension():
		w.quoted("[" + string(fd.FullName()) + "]")
	case w.IntN(30*w.odd) == 0:
		w.one(`"nope"`, `"[nope]"`, `"[]"`, `"["`, `"@type"`, `""`, "1", `"[sluice.test.v1.x_note]"`, `"`+strings.ToUpper(name)+`"`, `"`+strings.ToLower(name)+`"`)
	case w.IntN(3) == 0:
		w.quoted(string(fd.Name()))
	default:
		w.quoted(name)
	}
	w.space()
	w.b.WriteByte(':')
	switch {
	case w.IntN(20) == 0:
		w.b.WriteString("null")
	case fd.IsList():
		w.list(w.size(), func() { w.value(fd, depth) })
	case fd.IsMap():
		w.object(w.size(), func() { w.key(fd.MapKey()) }, func() { w.value(fd.MapValue(), depth) })
	default:
		w.value(fd, depth)
	}
}

func (w *writer) key(fd protoreflect.FieldDescriptor) {
	switch {
	case w.isOdd():
		w.one(`""`, `"a"`, `"1"`, `"01"`, `"+1"`, `"-0"`, `"1.0"`, `"1e2"`, `"true"`, `"TRUE"`, `" 1"`, `"\u0031"`, "1", "true", `"9223372036854775808"`, `"1_0"`)
	case fd.Kind() == protoreflect.BoolKind:
		w.one(`"true"`, `"false"`)
	default:
		w.quoted(strconv.Itoa(w.IntN(1000) - 500))
	}
}

// any writes an Any, with its type somewhere.
func (w *writer) any(depth int) {
	names := []string{
		"sluice.test.v1.Kinds", "sluice.test.v1.Legacy", "sluice.test.v1.Inner", "google.protobuf.Any", "google.protobuf.Timestamp", "google.protobuf.Empty",
		"google.protobuf.Value", "google.protobuf.Struct", "google.protobuf.Int32Value", "google.protobuf.FieldMask", "google.protobuf.ListValue", "sluice.test.v1.Nope",
	}
	name := names[w.IntN(len(names))]
	if depth <= 0 || w.IntN(20) == 0 {
		w.one("{}", "{}", "{ }", `{"@type":""}`, `{"value":1}`, `{"@type":"sluice.test.v1.Kinds"}`)
		return
	}
	prefix := []string{"type.googleapis.com/", "", "/", "a/b/"}[w.IntN(4)]
	typed := `"@type":"` + prefix + name + `"`
	if w.IntN(10) == 0 {
		typed = `"\u0040type" : "` + prefix + name + `"`
	}
	d, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		w.b.WriteString("{" + typed + "}")
		return
	}
	w.b.WriteByte('{')
	first := w.IntN(2) == 0
	if first {
		w.b.WriteString(typed)
	}
	before := w.b.Len()
	if d.Descriptor().FullName().Parent() == "google.protobuf" {
		if first {
			w.b.WriteByte(',')
		}
		w.one(`"value":`, `"value":`, `"value":`, `"valu":`)
		w.message(d.Descriptor(), depth-1)
	} else {
		w.members(d.Descriptor(), depth-1, first)
	}
	if !first || w.isOdd() {
		if w.b.Len() > before {
			w.b.WriteByte(',')
		}
		w.b.WriteString(typed)
	}
	w.closing("}", ",}", "]")
}

// TestDecodeRandom asks AppendWire and protojson about documents that are made up
// from the descriptors. The seed is fixed; FuzzDecode goes where this does not.
func TestDecodeRandom(t *testing.T) {
	plans := decodePlans(t)
	rounds := effort.Rounds(10_000, 40_000)
	taken := 0
	r := rand.New(rand.NewPCG(4, 2))
	for i := range rounds {
		which := r.IntN(len(decoded))
		if i%2 == 0 {
			which = r.IntN(4) // Those with many fields.
		}
		w := &writer{Rand: r, odd: []int{6, 20, 100}[r.IntN(3)]}
		md := decoded[which].ProtoReflect().Descriptor()
		w.space()
		w.message(md, 1+r.IntN(testDepth+1))
		w.space()
		if sameDecoding(t, plans[which], decoded[which], []byte(w.b.String())) {
			taken++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d taken", taken, rounds)
	if taken < rounds/4 || taken > rounds*9/10 {
		t.Errorf("%d of %d documents were taken: the test no longer asks both sides", taken, rounds)
	}
}
