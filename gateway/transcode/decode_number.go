package transcode

import (
	"math"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// number reads the value of a bool, a number or an enum, as the bits that the wire
// carries.
func (d *reader) number(f *decodeField) (uint64, bool) {
	switch f.kind {
	case protoreflect.BoolKind:
		return d.boolean()
	case protoreflect.EnumKind:
		return d.enum(f)
	case protoreflect.FloatKind:
		v, ok := d.float(32)
		return uint64(math.Float32bits(float32(v))), ok
	case protoreflect.DoubleKind:
		v, ok := d.float(64)
		return math.Float64bits(v), ok
	case protoreflect.Int32Kind:
		return d.integer(math.MaxInt32+1, math.MaxInt32)
	case protoreflect.Sfixed32Kind:
		v, ok := d.integer(math.MaxInt32+1, math.MaxInt32)
		return uint64(uint32(v)), ok
	case protoreflect.Sint32Kind:
		v, ok := d.integer(math.MaxInt32+1, math.MaxInt32)
		return v<<1 ^ uint64(int64(v)>>63), ok
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return d.integer(math.MaxInt64+1, math.MaxInt64)
	case protoreflect.Sint64Kind:
		v, ok := d.integer(math.MaxInt64+1, math.MaxInt64)
		return v<<1 ^ uint64(int64(v)>>63), ok
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return d.integer(0, math.MaxUint32)
	default: // Uint64Kind, Fixed64Kind
		return d.integer(0, math.MaxUint64)
	}
}

func (d *reader) boolean() (uint64, bool) {
	switch d.next() {
	case 't':
		if d.literal("true") {
			return 1, true
		}
	case 'f':
		if d.literal("false") {
			return 0, true
		}
	}
	return 0, d.want("true or false")
}

// integer reads an integer from -low to high, as a JSON number or in a string, in
// two's complement. A fraction and an exponent may be there where they leave an
// integer.
func (d *reader) integer(low, high uint64) (uint64, bool) {
	switch c := d.next(); {
	case c == '-' || isDigit(c):
		at := d.pos
		neg, v, n := readInteger(d.in[d.pos:])
		if d.pos += n; n == 0 || !within(neg, v, low, high) {
			return 0, d.wantInteger(at, low, high)
		}
		return signed(neg, v), true
	case c == '"':
		at := d.pos
		s, ok := d.text()
		if !ok {
			return 0, false
		}
		neg, v, n := readInteger(s)
		if n == 0 || n != len(s) || !within(neg, v, low, high) {
			return 0, d.wantInteger(at, low, high)
		}
		return signed(neg, v), true
	}
	return 0, d.want(integerNames(low, high))
}

func within(neg bool, v, low, high uint64) bool {
	if neg {
		return v <= low
	}
	return v <= high
}

func signed(neg bool, v uint64) uint64 {
	if neg {
		return -v
	}
	return v
}

func isDigit(c byte) bool { return c-'0' < 10 }

// readInteger reads a JSON number from the front of s, and returns how long it is;
// 0 where it is none, no integer, or larger than 64 bits.
func readInteger(s []byte) (neg bool, v uint64, n int) {
	if len(s) > 0 && s[0] == '-' {
		neg, n = true, 1
	}
	first := n
	for n < len(s) && isDigit(s[n]) && n-first < 19 { // 19 digits do not overflow.
		v = v*10 + uint64(s[n]-'0')
		n++
	}
	if n == first || (s[first] == '0' && n > first+1) {
		return neg, 0, 0
	}
	if n < len(s) {
		if c := s[n]; c == '.' || c == 'e' || c == 'E' || isDigit(c) {
			return readLongInteger(s)
		}
	}
	return neg, v, n
}

// readLongInteger is readInteger for numbers that have a fraction, an exponent, or
// more than 19 digits, by the rules of protojson.
func readLongInteger(s []byte) (neg bool, v uint64, n int) {
	p, n := splitNumber(s)
	if n == 0 {
		return p.neg, 0, 0
	}
	if len(p.whole) == 0 && len(p.fraction) == 0 {
		return p.neg, 0, n
	}
	exp, ok := p.exponent()
	if !ok {
		return p.neg, 0, 0
	}
	digits, zeros := p.whole, 0
	switch {
	case exp >= 0:
		// 20 digits are as many as 64 bits have.
		if len(p.fraction) > exp || len(p.whole)+exp > 20 {
			return p.neg, 0, 0
		}
		zeros = exp - len(p.fraction)
	case len(p.fraction) > 0 || len(p.whole)+exp < 0:
		return p.neg, 0, 0
	default:
		digits = p.whole[:len(p.whole)+exp]
		for _, c := range p.whole[len(digits):] {
			if c != '0' {
				return p.neg, 0, 0
			}
		}
	}
	if v, ok = accumulate(0, digits); ok {
		v, ok = accumulate(v, p.fraction)
	}
	for ; ok && zeros > 0; zeros-- {
		v, ok = accumulate(v, []byte{'0'})
	}
	if !ok {
		return p.neg, 0, 0
	}
	return p.neg, v, n
}

// accumulate appends decimal digits to v, unless that overflows.
func accumulate(v uint64, digits []byte) (uint64, bool) {
	for _, c := range digits {
		d := uint64(c - '0')
		if v > math.MaxUint64/10 || v*10 > math.MaxUint64-d {
			return 0, false
		}
		v = v*10 + d
	}
	return v, true
}

// numberParts is a JSON number without the zeros that mean nothing.
type numberParts struct {
	neg             bool
	whole, fraction []byte
	exp             []byte // with its sign
}

// splitNumber reads a JSON number (RFC 8259, section 6) from the front of s, and
// returns how long it is; 0 where it is none.
func splitNumber(s []byte) (p numberParts, n int) {
	if len(s) > 0 && s[0] == '-' {
		p.neg, n = true, 1
	}
	first := n
	n = skipDigits(s, n)
	if n == first || (s[first] == '0' && n > first+1) {
		return p, 0
	}
	if s[first] != '0' {
		p.whole = s[first:n]
	}
	if n < len(s) && s[n] == '.' {
		first = n + 1
		if n = skipDigits(s, first); n == first {
			return p, 0
		}
		last := n
		for last > first && s[last-1] == '0' {
			last--
		}
		p.fraction = s[first:last]
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		n++
		start := n
		if n < len(s) && (s[n] == '+' || s[n] == '-') {
			n++
		}
		first = n
		if n = skipDigits(s, first); n == first {
			return p, 0
		}
		p.exp = s[start:n]
	}
	return p, n
}

func skipDigits(s []byte, n int) int {
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// exponent is the number's, if 32 bits hold it.
func (p *numberParts) exponent() (int, bool) {
	if len(p.exp) == 0 {
		return 0, true
	}
	e, err := strconv.ParseInt(string(p.exp), 10, 32)
	return int(e), err == nil
}

// float reads a floating-point number of so many bits, as a JSON number or in a
// string, where it may also be NaN or an infinity.
func (d *reader) float(size int) (float64, bool) {
	switch c := d.next(); {
	case c == '-' || isDigit(c):
		v, n := readFloat(d.in[d.pos:], size)
		if n == 0 {
			return 0, d.wantFloat(d.pos, d.in[d.pos:], size)
		}
		d.pos += n
		return v, true
	case c == '"':
		at := d.pos
		s, ok := d.text()
		if !ok {
			return 0, false
		}
		switch string(s) {
		case "NaN":
			return math.NaN(), true
		case "Infinity":
			return math.Inf(1), true
		case "-Infinity":
			return math.Inf(-1), true
		}
		v, n := readFloat(s, size)
		if n == 0 || n != len(s) {
			return 0, d.wantFloat(at, s, size)
		}
		return v, true
	}
	return 0, d.want(wantedFloat)
}

// readFloat reads a JSON number from the front of s, and returns how long it is; 0
// where it is none, or too large for so many bits.
func readFloat(s []byte, size int) (float64, int) {
	_, n := splitNumber(s)
	if n == 0 {
		return 0, 0
	}
	v, err := strconv.ParseFloat(string(s[:n]), size)
	if err != nil {
		return 0, 0
	}
	return v, n
}

// enum reads a value by its name or its number. Numbers without a name are taken,
// also by closed enums, as protojson takes them.
func (d *reader) enum(f *decodeField) (uint64, bool) {
	switch c := d.next(); {
	case c == '"':
		at := d.pos
		s, ok := d.text()
		if !ok {
			return 0, false
		}
		if v, ok := f.enum.numbers[string(s)]; ok {
			return uint64(int64(v)), true
		}
		return 0, d.fail(at, "must be "+f.enum.wanted)
	case c == '-' || isDigit(c):
		at := d.pos
		neg, v, n := readInteger(d.in[d.pos:])
		if n == 0 || !within(neg, v, math.MaxInt32+1, math.MaxInt32) {
			return 0, d.fail(at, "must be "+f.enum.wanted)
		}
		d.pos += n
		return signed(neg, v), true
	case c == 'n' && f.nullable && d.literal("null"):
		return 0, true
	}
	return 0, d.want(f.enum.wanted)
}
