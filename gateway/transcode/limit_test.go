package transcode

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// lenField is a field of bytes.
func lenField(num protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value)
}

// bounded is the plan of a message in a set that bounds JSON at n bytes.
func bounded(t *testing.T, m proto.Message, n int) *Plan {
	t.Helper()
	p, err := New(Options{Types: protoregistry.GlobalTypes, MaxJSON: n}).Plan(m.ProtoReflect().Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMaxJSONIsExact: as much as the bound is written, one byte more is not, whatever
// is in dst before.
func TestMaxJSONIsExact(t *testing.T) {
	for _, m := range samples(t) {
		wire := must(t, m)
		whole, err := planOf(t, m).AppendJSON(nil, wire)
		if err != nil {
			continue // TestSamples knows which.
		}
		prefix := bytes.Repeat([]byte("before"), 100)
		got, err := bounded(t, m, len(whole)).AppendJSON(prefix, wire)
		if err != nil || !bytes.Equal(got[len(prefix):], whole) {
			t.Errorf("%T within the bound of %d bytes: %s, %v", m, len(whole), got, err)
		}
		got, err = bounded(t, m, len(whole)-1).AppendJSON(prefix, wire)
		if !errors.Is(err, ErrTooLarge) || len(got) != len(prefix) {
			t.Errorf("%T beyond the bound of %d bytes: %s, %v", m, len(whole)-1, got[len(prefix):], err)
		}
	}
}

// TestMaxJSONStopsEarly: what is much larger as JSON is not written first and then
// found to be too large, in passes of either kind.
func TestMaxJSONStopsEarly(t *testing.T) {
	const bound, slack = 64 << 10, 32 << 10
	kinds := (&testv1.Kinds{}).ProtoReflect().Descriptor().Fields()
	number := func(name protoreflect.Name) protoreflect.FieldNumber { return kinds.ByName(name).Number() }
	var entries []byte
	for i := range 1 << 15 {
		entries = append(entries, lenField(number("m_string"), lenField(1, fmt.Append(nil, i)))...)
	}
	for name, c := range map[string]struct {
		m    proto.Message
		wire []byte
	}{
		"messages":      {&orderv1.ListOrdersResponse{}, bytes.Repeat([]byte{0x0a, 0}, 1<<18)},
		"strings":       {&testv1.Inner{}, bytes.Repeat([]byte{0x1a, 1, 1}, 1<<18)},
		"packed enums":  {&testv1.Kinds{}, lenField(number("r_enum"), make([]byte, 1<<18))},
		"nested values": {&structpb.ListValue{}, bytes.Repeat([]byte{0x0a, 2, 0x08, 0}, 1<<18)},
		"in an Any": {&anypb.Any{}, must(t, &anypb.Any{
			TypeUrl: "x/shop.order.v1.ListOrdersResponse", Value: bytes.Repeat([]byte{0x0a, 0}, 1<<18),
		})},
		"a map": {&testv1.Kinds{}, entries},
	} {
		t.Run(name, func(t *testing.T) {
			p := bounded(t, c.m, bound)
			for _, careful := range []bool{false, true} {
				s := state{set: p.set, wire: c.wire, careful: careful}
				out, err := s.document(nil, p.root)
				s.release()
				if !errors.Is(err, ErrTooLarge) || len(out) > bound+slack {
					t.Errorf("carefully %t: %d bytes, %v", careful, len(out), err)
				}
			}
		})
	}
}
