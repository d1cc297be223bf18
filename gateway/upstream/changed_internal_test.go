package upstream

import (
	"testing"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestParsedDoesNotPanic: the key of a map that comes again with another wire type is
// skipped by checks, and makes the parser of dynamic messages panic. Where a stream's
// messages are sent nobody would recover.
func TestParsedDoesNotPanic(t *testing.T) {
	md := (&testv1.Kinds{}).ProtoReflect().Descriptor()
	entry := []byte{0x0a, 1, 'a', 0x08, 1}                         // A text, then a number.
	wire := append([]byte{0xea, 0x01, byte(len(entry))}, entry...) // Field 29.
	if fd := md.Fields().ByNumber(29); !fd.IsMap() {
		t.Fatalf("field 29 is %s", fd.FullName())
	}
	if _, err := parsed(wire, md); err == nil {
		t.Error("it is parsed")
	}
	if _, err := rewritten(wire, md); err == nil {
		t.Error("it is written anew")
	}
}
