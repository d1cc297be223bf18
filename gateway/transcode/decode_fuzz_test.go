package transcode_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// FuzzDecode asks AppendWire and protojson about the same bytes, as each of the
// messages in decoded.
func FuzzDecode(f *testing.F) {
	plans := decodePlans(f)
	for which := range decoded {
		for _, s := range []string{
			`{}`, `null`, ``, `[]`, `"1.5s"`, `"2026-01-31T12:00:00.5+01:00"`, `"a.bC,d"`, `1e2`, `"-1"`, `true`, ` "\ud834\udd1e" `,
			`{"@type":"type.googleapis.com/sluice.test.v1.Kinds","fInt32":1}`,
			`{"value":{"a":[1,null]},"@type":"google.protobuf.Struct"}`,
			`{"fMessage":{"mInt64":{"1":{}},"mBool":{"true":"COLOR_RED"}},"rInt32":[1,2e0,"3"],"wValue":null,"cNull":null}`,
			`{"id":"x","part":{"piece":[{"number":"1"}]},"[sluice.test.v1.x_numbers]":[1],"sizes":["SIZE_LARGE",9]}`,
			`{"required":"","delimited":{"required":"x"},"packed":[1],"otherName":"\\"}`,
			`{"userId":"ada","order":{"lines":[{"sku":"s","quantity":2,"price":{"units":"3","nanos":5}}],"note":"\u00e9"}}`,
		} {
			f.Add(uint8(which), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		i := int(which) % len(decoded)
		sameDecoding(t, plans[i], decoded[i], data)
	})
}

// FuzzDecodeMade is FuzzDecode over documents that are made up from the
// descriptors: most of them are JSON.
func FuzzDecodeMade(f *testing.F) {
	plans := decodePlans(f)
	for i := range uint64(8) {
		f.Add(i, i*7, uint8(i), uint8(20))
	}
	f.Fuzz(func(t *testing.T, a, b uint64, which, odd uint8) {
		i := int(which) % len(decoded)
		w := &writer{Rand: rand.New(rand.NewPCG(a, b)), odd: 2 + int(odd)}
		w.message(decoded[i].ProtoReflect().Descriptor(), testDepth)
		sameDecoding(t, plans[i], decoded[i], []byte(w.b.String()))
	})
}

// TestDecodeExponent holds the one place where AppendWire is stricter than
// protojson, so that it shows when protojson changes.
func TestDecodeExponent(t *testing.T) {
	p := decodePlans(t)[0]
	for _, doc := range []string{`{"fInt32":1e}`, `{"fInt32":1E}`, `{"rInt32":[1e,2]}`, `{"fEnum":1e}`} {
		if json.Valid([]byte(doc)) {
			t.Errorf("%s is JSON", doc)
		}
		if err := protojson.Unmarshal([]byte(doc), proto.Clone(decoded[0])); err != nil {
			t.Errorf("protojson refuses %s by now: %v", doc, err)
		}
		if _, err := p.AppendWire(nil, []byte(doc)); err == nil {
			t.Errorf("%s was taken", doc)
		}
	}
}
