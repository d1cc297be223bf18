package transcode

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// nest wraps wire n times in a field.
func nest(num protowire.Number, n int, wire []byte) []byte {
	return wrap(wire, n, func(int) protowire.Number { return num })
}

// nestPair wraps wire n times in two fields.
func nestPair(outer, inner protowire.Number, n int, wire []byte) []byte {
	return wrap(wire, 2*n, func(i int) protowire.Number {
		if i%2 == 0 {
			return outer
		}
		return inner
	})
}

// wrap computes the lengths first: from the inside out would be quadratic.
func wrap(wire []byte, n int, num func(level int) protowire.Number) []byte {
	sizes := make([]int, n+1)
	sizes[n] = len(wire)
	for i := n - 1; i >= 0; i-- {
		sizes[i] = protowire.SizeTag(num(i)) + protowire.SizeBytes(sizes[i+1])
	}
	var out []byte
	for i := range n {
		out = protowire.AppendTag(out, num(i), protowire.BytesType)
		out = protowire.AppendVarint(out, uint64(sizes[i+1]))
	}
	return append(out, wire...)
}

// TestDepth: 10,000 levels, as in protobuf-go.
func TestDepth(t *testing.T) {
	again := []byte{0x08, 1, 0x08, 2} // A number twice: not to be streamed.
	for _, c := range []struct {
		name string
		m    proto.Message
		wire func(n int) []byte
		fits int
	}{
		{"messages", &testv1.Kinds{}, func(n int) []byte { return nest(17, n, nil) }, 9999},
		{"messages, carefully", &testv1.Inner{}, func(n int) []byte { return nest(4, n, again) }, 9999},
		{"lists", &structpb.ListValue{}, func(n int) []byte {
			return nestPair(1, 6, n, []byte{0x0a, 2, 0x20, 1})
		}, 4999},
		{"unknown groups", &testv1.Inner{}, func(n int) []byte {
			return append(bytes.Repeat([]byte{0x7b}, n), bytes.Repeat([]byte{0x7c}, n)...)
		}, 10001},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{c.fits, c.fits + 1, c.fits + 1000} {
				wire := c.wire(n)
				_, err := planOf(t, c.m).AppendJSON(nil, wire)
				checkErr := planOf(t, c.m).Check(wire)
				want := proto.Unmarshal(wire, c.m.ProtoReflect().New().Interface())
				if (err == nil) != (want == nil) || (checkErr == nil) != (want == nil) {
					t.Errorf("%d levels: %v, %v; Unmarshal says %v", n, err, checkErr, want)
				}
				if (want == nil) != (n <= c.fits) {
					t.Errorf("%d levels: Unmarshal says %v", n, want)
				}
			}
		})
	}
}

// nestAny is n Any in each other.
func nestAny(n int) []byte {
	url := protowire.AppendString([]byte{0x0a}, "x/google.protobuf.Any")
	sizes := make([]int, n+1)
	for i := 1; i <= n; i++ {
		sizes[i] = len(url) + 1 + protowire.SizeBytes(sizes[i-1])
	}
	var wire []byte
	for i := n; i > 0; i-- {
		wire = append(append(wire, url...), 0x12)
		wire = protowire.AppendVarint(wire, uint64(sizes[i-1]))
	}
	return wire
}

// TestAnyDepth: protojson begins to count anew in each Any, at quadratic cost; here
// they count like other messages.
func TestAnyDepth(t *testing.T) {
	p := planOf(t, &anypb.Any{})
	for n, ok := range map[int]bool{2000: true, 11000: false} {
		wire := nestAny(n)
		if _, err := p.AppendJSON(nil, wire); (err == nil) != ok {
			t.Errorf("%d levels: %v", n, err)
		} else if !ok && !errors.Is(err, errDepth) {
			t.Error(err)
		}
	}
}

// TestLinear: what is redone on every level would be told by the count of bytes that
// are written, were it exponential, by never ending. 2^5000 is long.
func TestLinear(t *testing.T) {
	// On each level of nesting a field that comes twice.
	wire := []byte{}
	for range 3000 {
		level := protowire.AppendBytes([]byte{0x22}, wire)
		wire = append(level, 0x10, 1, 0x10, 2)
	}
	out, err := planOf(t, &testv1.Inner{}).AppendJSON(nil, wire)
	if err != nil || strings.Count(string(out), `"number":2`) != 3000 {
		t.Fatal(len(out), err)
	}
	// On each level the nested message in two parts.
	wire = []byte{}
	for range 3000 {
		level := protowire.AppendBytes([]byte{0x22}, wire)
		wire = append(level, 0x22, 2, 0x10, 3)
	}
	if out, err = planOf(t, &testv1.Inner{}).AppendJSON(nil, wire); err != nil || strings.Count(string(out), `"number":3`) != 3000 {
		t.Fatal(len(out), err)
	}
	// Groups in groups, whose ends have to be found.
	m := &testv1.Edition{Required: proto.String("")}
	for range 5000 {
		m = &testv1.Edition{Required: proto.String(""), Delimited: m}
	}
	sameAsProtojson(t, m, must(t, m))
}

func TestUnknownTypes(t *testing.T) {
	for _, a := range []*anypb.Any{{TypeUrl: "type.googleapis.com/no.Such"}, {Value: []byte{1}}, {TypeUrl: "x", Value: nil}, {TypeUrl: "/google.protobuf.Empty", Value: []byte{0xff}}} {
		if out, err := planOf(t, a).AppendJSON(nil, must(t, a)); err == nil {
			t.Errorf("%v: %s", a, out)
		}
	}
	// Prefixes are anyone's; they are not all remembered.
	s := New(Options{Types: protoregistry.GlobalTypes})
	p, err := s.Plan((&anypb.Any{}).ProtoReflect().Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxURLs {
		if _, err := p.AppendJSON(nil, must(t, &anypb.Any{TypeUrl: fmt.Sprintf("%d/google.protobuf.Empty", i)})); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(*s.urls.Load()); n != maxURLs {
		t.Errorf("%d URLs are remembered", n)
	}
}
