package transcode

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// mutate rearranges the fields of a message, and of some of the messages in it, as
// the moves say.
func mutate(wire, other, moves []byte, depth int) []byte {
	parts := split(wire)
	for i := 0; i+1 < len(moves) && len(parts) > 0 && i < 64; i += 2 {
		at := int(moves[i+1]) % len(parts)
		switch moves[i] % 8 {
		case 0: // Twice.
			parts = append(parts, parts[at])
		case 1: // To the end.
			p := parts[at]
			parts = append(append(parts[:at:at], parts[at+1:]...), p)
		case 2: // Away.
			parts = append(parts[:at:at], parts[at+1:]...)
		case 3: // The other's behind.
			parts = append(parts, split(other)...)
		case 4: // Something unknown before.
			parts = append([][]byte{{0xba, 0xf7, 0x03, 1, 'x'}}, parts...)
		case 5: // An unknown group.
			parts = append(parts, []byte{0xbb, 0xf7, 0x03, 0x08, 1, 0xbc, 0xf7, 0x03})
		case 6: // Of another wire type.
			parts[at] = retyped(parts[at])
		case 7: // What is left of the moves inside it.
			parts[at] = inside(parts[at], moves[i+2:], depth)
			return slices.Concat(parts...)
		}
	}
	return slices.Concat(parts...)
}

// split takes a message apart into its fields.
func split(wire []byte) (parts [][]byte) {
	for len(wire) > 0 {
		_, _, n := protowire.ConsumeField(wire)
		if n < 0 {
			return append(parts, wire)
		}
		parts = append(parts, wire[:n:n])
		wire = wire[n:]
	}
	return parts
}

// retyped is the field with its value packed, or unpacked.
func retyped(part []byte) []byte {
	num, wt, n := protowire.ConsumeTag(part)
	if n < 0 {
		return part
	}
	if wt == protowire.BytesType {
		v, size := protowire.ConsumeBytes(part[n:])
		if size < 0 {
			return part
		}
		var out []byte
		for len(v) > 0 {
			_, n := protowire.ConsumeVarint(v)
			if n < 0 {
				return part
			}
			out = append(protowire.AppendTag(out, num, protowire.VarintType), v[:n]...)
			v = v[n:]
		}
		return out
	}
	if wt == protowire.StartGroupType {
		return part
	}
	out := protowire.AppendTag(nil, num, protowire.BytesType)
	return protowire.AppendBytes(out, part[n:])
}

// inside mutates a field's value as a message.
func inside(part, moves []byte, depth int) []byte {
	num, wt, n := protowire.ConsumeTag(part)
	if n < 0 || wt != protowire.BytesType || depth > 4 {
		return part
	}
	v, size := protowire.ConsumeBytes(part[n:])
	if size < 0 {
		return part
	}
	out := protowire.AppendTag(nil, num, wt)
	return protowire.AppendBytes(out, mutate(v, v, moves, depth+1))
}
