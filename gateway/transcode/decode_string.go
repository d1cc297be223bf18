package transcode

import (
	"encoding/base64"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// stringValue reads a string and writes it behind the field's tag.
func (d *reader) stringValue(f *decodeField) bool {
	if d.next() != '"' {
		return d.want("a string")
	}
	start := d.pos + 1
	end, ok := d.run(start)
	if !ok {
		return false
	}
	if d.in[end] != '"' {
		return d.escapedValue(f, start, end)
	}
	d.pos = end + 1
	if end == start && !f.always {
		return true
	}
	d.out = append(d.out, f.tag...)
	d.out = protowire.AppendVarint(d.out, uint64(end-start))
	d.out = append(d.out, d.in[start:end]...)
	return true
}

// escapedValue is stringValue for a string that has escapes, the first at a place:
// how long it is shows only once it is written.
func (d *reader) escapedValue(f *decodeField, start, at int) (ok bool) {
	d.out = append(d.out, f.tag...)
	from := d.reserve(1)
	if d.out, ok = d.unescape(d.out, start, at); ok {
		d.measure(from, 1)
	}
	return ok
}

// bytesValue reads base64 and writes what it says behind the field's tag. It may
// be of either alphabet, with or without padding.
func (d *reader) bytesValue(f *decodeField) bool {
	if d.next() != '"' {
		return d.want("base64 in a string")
	}
	at := d.pos
	s, ok := d.text()
	if !ok {
		return false
	}
	if len(s) == 0 && !f.always {
		return true
	}
	enc := encodingOf(s)
	most := enc.DecodedLen(len(s))
	tagged := len(d.out)
	d.out = append(d.out, f.tag...)
	reserved := protowire.SizeVarint(uint64(most))
	start := d.reserve(reserved)
	d.out = slices.Grow(d.out, most)
	n, err := enc.Decode(d.out[start:start+most], s)
	if err != nil {
		return d.fail(at, "must be base64 in a string")
	}
	if d.out = d.out[:start+n]; n == 0 && !f.always {
		d.out = d.out[:tagged] // Nothing but line ends, which base64 skips.
		return true
	}
	d.measure(start, reserved)
	return true
}

// encodingOf picks the encoding as protojson does.
func encodingOf(s []byte) *base64.Encoding {
	url := slices.Contains(s, '-') || slices.Contains(s, '_')
	switch padded := len(s)%4 == 0; {
	case url && padded:
		return base64.URLEncoding
	case url:
		return base64.RawURLEncoding
	case padded:
		return base64.StdEncoding
	default:
		return base64.RawStdEncoding
	}
}
