package transcode

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestAnyIsWalkedOnce holds that nested Anys whose types stand behind what they hold
// are found by one walk over the outermost: one for each would be quadratic.
func TestAnyIsWalkedOnce(t *testing.T) {
	const levels = 50
	doc := []byte(strings.Repeat(`{"value":`, levels) + `{}` + strings.Repeat(`,"@type":"google.protobuf.Any"}`, levels))
	two := []byte(`{"value":{"a":` + string(doc) + `,"@type":"sluice.test.v1.Kinds"},"@type":"google.protobuf.Any"}`)
	p, err := New(Options{Types: protoregistry.GlobalTypes}).Plan((&anypb.Any{}).ProtoReflect().Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	var d reader
	d.begin(&p.set.in, p.set, nil, doc)
	if !d.whole(p) {
		t.Fatal(d.err)
	}
	if got := len(d.typesAt.walked); got != levels || d.typesAt.until != len(doc) {
		t.Errorf("the last walk found %d types up to %d, not %d up to %d", got, d.typesAt.until, levels, len(doc))
	}
	d.begin(&p.set.in, p.set, nil, two)
	if d.whole(p) || d.typesAt.until != len(two) {
		t.Errorf("taken, or not walked whole: %d of %d", d.typesAt.until, len(two))
	}
}
