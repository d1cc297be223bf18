package transcode

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestLongURLsAreNotRemembered: 1,024 URLs of any length would be as much memory as a
// service likes.
func TestLongURLsAreNotRemembered(t *testing.T) {
	s := New(Options{Types: protoregistry.GlobalTypes})
	p, err := s.Plan((&anypb.Any{}).ProtoReflect().Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	const name = "/google.protobuf.Empty"
	for _, size := range []int{maxURL, maxURL + 1, 1 << 20} {
		url := strings.Repeat("x", size-len(name)) + name
		out, err := p.AppendJSON(nil, must(t, &anypb.Any{TypeUrl: url}))
		if want := `{"@type":"` + url + `"}`; err != nil || string(out) != want {
			t.Fatalf("a URL of %d bytes: %s, %v", size, out[min(len(out), 250):], err)
		}
	}
	if known := *s.urls.Load(); len(known) != 1 {
		t.Errorf("%d URLs are remembered, of which one is short", len(known))
	}
}

// TestKeysThatComeAgain: entries of a map whose keys come over and over, in numbers
// around those at which they are sorted out on the way.
func TestKeysThatComeAgain(t *testing.T) {
	for _, c := range []struct{ keys, entries int }{
		{1, maxScratch}, {10, maxScratch + 1}, {maxScratch, maxScratch}, {maxScratch - 1, 2 * maxScratch}, {3000, 5 * maxScratch}, {maxScratch + 1, 2*maxScratch + 3},
	} {
		var wire []byte
		for i := range c.entries {
			key := i * 7919 % c.keys
			text := append(lenField(1, fmt.Append(nil, key)), lenField(2, fmt.Append(nil, i))...)
			wire = append(wire, lenField(29, text)...)
			number := protowire.AppendVarint([]byte{0x08}, uint64(key)) //nolint:gosec // Not negative.
			wire = append(wire, lenField(30, append(number, lenField(2, lenField(1, fmt.Append(nil, i)))...))...)
		}
		sameAsProtojson(t, &testv1.Kinds{}, wire)
	}
}

// TestKeysThatComeAgainTakeNoRoom: a million entries of one key are not all kept until
// the last has come.
func TestKeysThatComeAgainTakeNoRoom(t *testing.T) {
	p := planOf(t, &testv1.Kinds{})
	wire := bytes.Repeat(lenField(29, nil), 1<<18)
	for _, careful := range []bool{false, true} {
		s := state{set: p.set, wire: wire, careful: careful}
		_, err := s.document(nil, p.root)
		if n := cap(s.scratchpad().entries); n > 8*maxScratch {
			t.Errorf("carefully %t: room for %d entries (%v)", careful, n, err)
		}
		s.release()
	}
}

// TestGroupsAreNotKept: a map that has held a million groups takes long to clear, for
// ever after.
func TestGroupsAreNotKept(t *testing.T) {
	p := planOf(t, &testv1.Legacy{})
	wire := append([]byte{0x0a, 1, 'x', 0x43}, bytes.Repeat([]byte{0x7b, 0x7c}, 2*maxScratch)...)
	wire = append(wire, 0x44)
	sameAsProtojson(t, &testv1.Legacy{}, wire)
	s := state{set: p.set, wire: wire, careful: true}
	if _, err := s.document(nil, p.root); err != nil {
		t.Fatal(err)
	}
	sc := s.scratch
	if len(sc.groups) <= maxScratch {
		t.Fatalf("%d groups: the test no longer asks", len(sc.groups))
	}
	if s.release(); sc.groups != nil {
		t.Error("the map of groups is kept")
	}
}

// TestDynamicParserPanics: a key of a map comes again with another wire type.
func TestDynamicParserPanics(t *testing.T) {
	profile, err := hex.DecodeString("3227d001d9e2acfc83eaf8a6120a0008919bafe1f8f5e8819e01c3b5030a07756e6b6e6f776ec4b503")
	if err != nil {
		t.Fatal(err)
	}
	sameAsProtojson(t, &profilev1.Profile{}, profile)
	// Without the required id, which the next part has.
	part := lenField(11, lenField(13, []byte{0x0a, 1, 'k', 0x08, 1}))
	legacy := append(append(part, lenField(11, []byte{0x0a, 1, 'y'})...), 0x0a, 1, 'x')
	sameAsProtojson(t, &testv1.Legacy{}, legacy)
	// Unlinked, the parser is that of dynamicpb.
	file, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(testv1.File_sluice_test_v1_legacy_proto), protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{Types: protoregistry.GlobalTypes}).Plan(file.Messages().ByName("Legacy"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(legacy); err == nil {
		t.Error("Check takes what the parser panics on")
	}
	if err := p.Check([]byte{0x0a, 1, 'x'}); err != nil {
		t.Error(err)
	}
}

// TestEmptyPackedExtension: a list of no numbers is not there, as an extension.
func TestEmptyPackedExtension(t *testing.T) {
	sameAsProtojson(t, &testv1.Legacy{}, append([]byte{0x0a, 1, 'x'}, lenField(101, nil)...))
}

// TestDelimitedValueIsNull: editions have google.protobuf.Value as a group.
func TestDelimitedValueIsNull(t *testing.T) {
	delimited := &descriptorpb.FeatureSet{MessageEncoding: descriptorpb.FeatureSet_DELIMITED.Enum()}
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("delimited.proto"), Syntax: proto.String("editions"), Edition: descriptorpb.Edition_EDITION_2023.Enum(),
		Dependency: []string{"google/protobuf/struct.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("v"), Number: proto.Int32(1), Label: optional.Enum(), Type: typeMessage.Enum(),
			TypeName: proto.String(".google.protobuf.Value"), Options: &descriptorpb.FieldOptions{Features: delimited},
		}}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	md := fd.Messages().Get(0)
	p, err := New(Options{Types: protoregistry.GlobalTypes}).Plan(md)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`{"v":null}`, `{"v":1}`, `{"v":[null]}`, `{}`} {
		want := dynamicpb.NewMessage(md)
		if err := protojson.Unmarshal([]byte(text), want); err != nil {
			t.Fatal(err)
		}
		wire, err := p.AppendWire(nil, []byte(text))
		got := dynamicpb.NewMessage(md)
		if err != nil || proto.Unmarshal(wire, got) != nil || !proto.Equal(got, want) {
			t.Errorf("%s is %x (%v), %v; not %v", text, wire, err, got, want)
		}
	}
}
