package transcode

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/tools/effort"
)

// TestValues holds many values of each formatter against protojson.
func TestValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	n := effort.Rounds(1000, 3000)
	alphabet := []string{"a", "\"", "\\", "\x00", "\x1f", " ", "\x7f", "é", "日", "\U0001f600", "\u2028", "\ufffd", "plain text", "\n", "\b\f\r\t"}
	for range n {
		bits := r.Uint64()
		sameAsProtojson(t, &wrapperspb.DoubleValue{}, must(t, wrapperspb.Double(math.Float64frombits(bits))))
		sameAsProtojson(t, &wrapperspb.FloatValue{}, must(t, wrapperspb.Float(math.Float32frombits(uint32(bits)))))
		short := math.Round(r.Float64()*1e6) / math.Pow10(r.IntN(30)-8)
		sameAsProtojson(t, &wrapperspb.DoubleValue{}, must(t, wrapperspb.Double(short)))
		sameAsProtojson(t, &wrapperspb.FloatValue{}, must(t, wrapperspb.Float(float32(short))))
		sameAsProtojson(t, &wrapperspb.Int64Value{}, must(t, wrapperspb.Int64(int64(bits>>r.IntN(64)))))
		sameAsProtojson(t, &wrapperspb.Int32Value{}, must(t, wrapperspb.Int32(int32(bits>>r.IntN(64)))))
		secs := r.Int64N(mostSeconds-leastSeconds+1) + leastSeconds
		nanos := []int32{0, 1, 999999999, 120_000_000, 123_456_000, int32(r.IntN(1e9))}[r.IntN(6)]
		sameAsProtojson(t, &timestamppb.Timestamp{}, must(t, &timestamppb.Timestamp{Seconds: secs, Nanos: nanos}))
		sameAsProtojson(t, &durationpb.Duration{}, must(t, &durationpb.Duration{Seconds: secs % mostDuration, Nanos: nanos}))
		sameAsProtojson(t, &durationpb.Duration{}, must(t, &durationpb.Duration{Seconds: -1, Nanos: -nanos}))
		var text strings.Builder
		for range r.IntN(12) {
			text.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		sameAsProtojson(t, &wrapperspb.StringValue{}, must(t, wrapperspb.String(text.String())))
		raw := []byte(text.String())
		if len(raw) > 0 {
			raw = raw[r.IntN(len(raw)):]
			raw = raw[:r.IntN(len(raw)+1)]
		}
		sameAsProtojson(t, &wrapperspb.StringValue{}, append([]byte{0x0a, byte(len(raw))}, raw...))
		sameAsProtojson(t, &wrapperspb.BytesValue{}, must(t, wrapperspb.Bytes(raw)))
	}
	for _, secs := range []int64{leastSeconds, mostSeconds, leastSeconds - 1, mostSeconds + 1, -1, 0, 951782400, 951868800, 68169600, -2203891200} {
		sameAsProtojson(t, &timestamppb.Timestamp{}, must(t, &timestamppb.Timestamp{Seconds: secs}))
	}
	for _, secs := range []int64{mostDuration, mostDuration + 1, -mostDuration, -mostDuration - 1} {
		sameAsProtojson(t, &durationpb.Duration{}, must(t, &durationpb.Duration{Seconds: secs}))
	}
}

// TestClosedEnums: numbers without a name are written as numbers, in enums that are
// closed, too: protobuf-go treats all enums as open.
func TestClosedEnums(t *testing.T) {
	m := &testv1.Legacy{Id: proto.String(""), Size: testv1.Legacy_Size(9).Enum(), Sizes: []testv1.Legacy_Size{1, 9}, MFit: map[string]testv1.Legacy_Fit{"": 9}}
	wire := must(t, m)
	sameAsProtojson(t, m, wire)
	got, err := planOf(t, m).AppendJSON(nil, wire)
	if want := `{"id":"","size":9,"loose":[],"tight":[],"sizes":["SIZE_SMALL",9],"row":[],"mFit":{"":9},"raws":[]}`; err != nil || string(got) != want {
		t.Fatalf("%s, %v\nwant %s", got, err, want)
	}
}

// odd is a message with what descriptors allow and people rarely write: long names,
// far numbers, fields declared out of order, and more than 64 oneofs.
func odd(t *testing.T) *dynamicpb.Message {
	t.Helper()
	m := &descriptorpb.DescriptorProto{Name: proto.String("Odd")}
	add := func(name string, num int32, oneof int32) {
		f := &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: &num, Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if oneof >= 0 {
			f.OneofIndex = &oneof
		}
		m.Field = append(m.Field, f)
	}
	add("last_"+strings.Repeat("long_", 20), 536870911, -1)
	add("middle", 600, -1)
	add("z2", 2, -1)
	add("a1", 1, -1)
	for i := range int32(70) {
		name := "o" + strings.Repeat("x", int(i))
		m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("choice_" + name)})
		add(name+"_one", 10+i, i) // Its other member is far away.
		add(name+"_two", 1000+i, i)
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("odd.proto"), Package: proto.String("odd"), Syntax: proto.String("proto3"), MessageType: []*descriptorpb.DescriptorProto{m},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewMessage(file.Messages().Get(0))
}

func TestOddMessages(t *testing.T) {
	m := odd(t)
	sameAsProtojson(t, m, nil)
	field := func(num int, text string) []byte {
		tag := uint64(num)<<3 | 2
		var b []byte
		for ; tag >= 0x80; tag >>= 7 {
			b = append(b, byte(tag)|0x80)
		}
		return append(append(b, byte(tag), byte(len(text))), text...)
	}
	var ascending, behind []byte
	for _, num := range []int{1, 2, 10, 11, 75, 76, 79, 600, 1002, 536870911} {
		ascending = append(ascending, field(num, "x")...)
	}
	for _, num := range []int{2, 600, 536870911, 1000, 11, 1069} { // As protobuf-go does.
		behind = append(behind, field(num, "x")...)
	}
	for _, wire := range [][]byte{ascending, behind, append(ascending, behind...), append(behind, ascending...)} {
		sameAsProtojson(t, m, wire)
		r := rand.New(rand.NewPCG(3, uint64(len(wire))))
		for range 100 {
			parts := split(wire)
			r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
			var shuffled []byte
			for _, p := range parts {
				shuffled = append(shuffled, p...)
			}
			sameAsProtojson(t, m, shuffled)
		}
	}
	// In the order of protobuf-go one pass is enough.
	p, err := testSet.Plan(m.Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	for _, wire := range [][]byte{ascending[:len(field(1, "x"))*4], behind} {
		s := state{set: p.set, wire: wire}
		if _, err := s.document(nil, p.root); err != nil {
			t.Error(err)
		}
	}
}
