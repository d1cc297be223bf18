package transcode

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

func TestSamples(t *testing.T) {
	for _, m := range samples(t) {
		sameAsProtojson(t, m, must(t, m))
	}
}

// TestConcatenated: two messages behind each other are the two merged.
func TestConcatenated(t *testing.T) {
	all := samples(t)
	for _, a := range all {
		for _, b := range all {
			if a.ProtoReflect().Descriptor() != b.ProtoReflect().Descriptor() {
				continue
			}
			both := append(must(t, a), must(t, b)...)
			sameAsProtojson(t, a, both)
			merged := proto.Clone(a)
			proto.Merge(merged, b)
			p := planOf(t, a)
			got, err := p.AppendJSON(nil, both)
			want, wantErr := p.AppendJSON(nil, must(t, merged))
			if (err == nil) != (wantErr == nil) || err == nil && !sameValues(t, got, want) {
				t.Fatalf("%s, %v\nmerged %s, %v", got, err, want, wantErr)
			}
		}
	}
}

// FuzzAppendJSON takes any bytes as any of the messages.
func FuzzAppendJSON(f *testing.F) {
	for _, m := range samples(f) {
		for i, s := range subjects {
			if s.ProtoReflect().Descriptor() == m.ProtoReflect().Descriptor() {
				f.Add(uint8(i), must(f, m))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, wire []byte) {
		sameAsProtojson(t, subjects[int(which)%len(subjects)], wire)
	})
}

// FuzzMutated changes valid messages where it keeps them well-formed more often than
// bytes do: fields are taken apart, dropped, doubled, moved, and those of another
// message put behind.
func FuzzMutated(f *testing.F) {
	all := samples(f)
	for i := range all {
		f.Add(uint8(i), uint8(i+1), []byte{0, 1, 2, 3})
		f.Add(uint8(i), uint8(i), []byte{7, 1, 5, 3, 9, 9, 2})
	}
	f.Fuzz(func(t *testing.T, a, b uint8, moves []byte) {
		m := all[int(a)%len(all)]
		other := all[int(b)%len(all)]
		if m.ProtoReflect().Descriptor() != other.ProtoReflect().Descriptor() {
			other = m
		}
		wire := mutate(must(t, m), must(t, other), moves, 0)
		sameAsProtojson(t, m, wire)
	})
}
