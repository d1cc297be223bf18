package transcode

import (
	"errors"
	"math"
)

var (
	errTimestamp  = errors.New("transcode: a google.protobuf.Timestamp is out of range")
	errDuration   = errors.New("transcode: a google.protobuf.Duration is out of range, or of two signs")
	errMask       = errors.New("transcode: a google.protobuf.FieldMask has a path that JSON cannot hold")
	errNoValue    = errors.New("transcode: a google.protobuf.Value without a value")
	errNotFinite  = errors.New("transcode: a google.protobuf.Value that is no JSON number")
	errMessageSet = errors.New("transcode: message sets have no JSON")
)

// wellKnown is message for types with a JSON of their own.
func (s *state) wellKnown(dst, b []byte, m *message, depth int) ([]byte, error) {
	switch m.form {
	case timestampForm, durationForm:
		var secs, nanos int64
		if err := readTime(b, m, &secs, &nanos); err != nil {
			return dst, err
		}
		return appendTime(dst, m.form, secs, nanos)
	case anyForm:
		var a anyValue
		if err := a.read(b, m); err != nil {
			return dst, err
		}
		return s.any(dst, a, depth)
	case wrapperForm, structForm, listForm, valueForm:
		return s.onlyField(dst, b, m, depth)
	case fieldMaskForm:
		dst, err := appendPaths(append(dst, '"'), b, m, len(dst)+1)
		return append(dst, '"'), err
	}
	return dst, errMessageSet
}

// onlyField appends the one field that a wrapper, Struct, ListValue or Value has.
func (s *state) onlyField(dst, b []byte, m *message, depth int) ([]byte, error) {
	var err error
	seen := false
	for len(b) > 0 {
		num, wt, n := readTag(b)
		if n == 0 {
			return dst, errWire
		}
		b = b[n:]
		f := m.find(num)
		if f == nil || wt != f.wt {
			if n = skip(b, num, wt); n == 0 {
				return dst, errWire
			}
			b = b[n:]
			continue
		}
		if seen {
			return dst, errUnusual
		}
		seen = true
		if dst, n, err = s.single(dst, b, f, depth); err != nil {
			return dst, err
		}
		b = b[n:]
	}
	if !seen {
		return m.appendEmpty(dst)
	}
	return dst, nil
}

// appendEmpty appends what a well-known type of one field is without it.
func (m *message) appendEmpty(dst []byte) ([]byte, error) {
	switch m.form {
	case wrapperForm:
		return append(dst, m.fields[0].zero...), nil
	case structForm:
		return append(dst, '{', '}'), nil
	case listForm:
		return append(dst, '[', ']'), nil
	}
	return dst, errNoValue
}

// single appends the value of a field of a well-known type.
func (s *state) single(dst, b []byte, f *field, depth int) ([]byte, int, error) {
	switch f.op {
	case opString, opMessage:
		v, n := readBytes(b)
		if n == 0 {
			return dst, 0, errWire
		}
		if f.op == opString {
			dst, err := appendString(dst, v)
			return dst, n, err
		}
		dst, err := s.message(dst, v, f.msg, depth)
		return dst, n, err
	case opDouble:
		u, n := readNumber(b, fixed64Type)
		if n == 0 {
			return dst, 0, errWire
		}
		if f.fd.ContainingOneof() != nil && notFinite(u) {
			return dst, 0, errNotFinite
		}
		return f.appendNumber(dst, u), n, nil
	}
	return s.rare(dst, b, f, depth)
}

// notFinite says whether a double is NaN or infinite, which JSON's numbers are not.
func notFinite(u uint64) bool {
	f := math.Float64frombits(u)
	return math.IsNaN(f) || math.IsInf(f, 0)
}

// appendPaths appends the paths of a FieldMask in lowerCamelCase, with commas between
// them. What is written begins at start.
func appendPaths(dst, b []byte, m *message, start int) ([]byte, error) {
	var err error
	for len(b) > 0 {
		num, wt, n := readTag(b)
		if n == 0 {
			return dst, errWire
		}
		b = b[n:]
		if f := m.find(num); f == nil || f.wt != wt {
			if n = skip(b, num, wt); n == 0 {
				return dst, errWire
			}
			b = b[n:]
			continue
		}
		path, n := readBytes(b)
		if n == 0 {
			return dst, errWire
		}
		b = b[n:]
		if len(dst) > start {
			dst = append(dst, ',')
		}
		if dst, err = appendPath(dst, path); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// appendPath refuses paths that are no names, or would not come back from camel case.
func appendPath(dst, path []byte) ([]byte, error) {
	begins := true // a name
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '.' && !begins:
			begins = true
			dst = append(dst, c)
			continue
		case c == '_' && i+1 < len(path) && path[i+1] >= 'a' && path[i+1] <= 'z':
			i++
			dst = append(dst, path[i]-'a'+'A')
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9' && !begins:
			dst = append(dst, c)
		default:
			return dst, errMask
		}
		begins = false
	}
	if begins {
		return dst, errMask
	}
	return dst, nil
}
