package transcode

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// next skips white space and returns the byte that follows; 0 is the end, or a
// byte that begins nothing.
func (d *reader) next() byte {
	for d.pos < len(d.in) {
		switch c := d.in[d.pos]; c {
		case ' ', '\n', '\r', '\t':
			d.pos++
		default:
			return c
		}
	}
	return 0
}

// literal reads null, true or false. What follows is checked by whoever wants a
// comma or a bracket there.
func (d *reader) literal(word string) bool {
	if end := d.pos + len(word); end <= len(d.in) && string(d.in[d.pos:end]) == word {
		d.pos = end
		return true
	}
	return false
}

// enter reads the bracket that opens an object or an array; what names the value
// that is wanted.
func (d *reader) enter(bracket byte, what string) bool {
	if d.next() != bracket {
		return d.want(what)
	}
	if d.open++; d.open > d.openMax {
		return d.tooDeep()
	}
	d.pos++
	return true
}

// leave reads the bracket that closes an object or an array, if it is next.
func (d *reader) leave(bracket byte) bool {
	if d.next() != bracket {
		return false
	}
	d.pos++
	d.open--
	return true
}

// more reads what follows a member of an object or an array: a comma, and then
// there is one more, or the bracket, and then there is none.
func (d *reader) more(bracket byte) (again, ok bool) {
	switch d.next() {
	case ',':
		d.pos++
		return true, true
	case bracket:
		d.pos++
		d.open--
		return false, true
	}
	if d.pos >= len(d.in) {
		return false, d.notJSON(d.pos, endsEarly)
	}
	return false, d.notJSON(d.pos, "a comma or "+string(rune(bracket))+" is wanted here")
}

// colon reads what stands between a name and its value.
func (d *reader) colon() bool {
	if d.next() == ':' {
		d.pos++
		return true
	}
	if d.pos >= len(d.in) {
		return d.notJSON(d.pos, endsEarly)
	}
	return d.notJSON(d.pos, "a colon is wanted here")
}

// text reads a string, the quote being next, and returns what it means. The bytes
// are those of the document, or scratch: good until the next call.
func (d *reader) text() ([]byte, bool) {
	start := d.pos + 1
	end, ok := d.run(start)
	if !ok {
		return nil, false
	}
	if d.in[end] == '"' {
		d.pos = end + 1
		return d.in[start:end], true
	}
	d.scratch, ok = d.unescape(d.scratch[:0], start, end)
	return d.scratch, ok
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// run returns where the first quote or backslash is from start on. What lies
// between is checked: it is UTF-8, without control characters.
func (d *reader) run(start int) (int, bool) {
	in, i := d.in, start
	var high uint64
	for ; i+8 <= len(in); i += 8 {
		w := binary.LittleEndian.Uint64(in[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// The lowest bit that is set is at the first byte below ' ' or equal to one
		// of the two; those above it may be wrong.
		stop := ((w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if stop != 0 {
			n := bits.TrailingZeros64(stop) &^ 7
			high |= w & highs & (1<<n - 1)
			i += n / 8
			return d.ran(start, i, high != 0)
		}
		high |= w & highs
	}
	for ; i < len(in); i++ {
		c := in[i]
		if c < ' ' || c == '"' || c == '\\' {
			break
		}
		high |= uint64(c & utf8.RuneSelf)
	}
	return d.ran(start, i, high != 0)
}

// ran checks what run has found: what ended it, and that it is UTF-8.
func (d *reader) ran(start, end int, high bool) (int, bool) {
	if high && !utf8.Valid(d.in[start:end]) {
		return 0, d.notJSON(start-1, "the string is not UTF-8")
	}
	if end == len(d.in) {
		return 0, d.notJSON(end, endsEarly)
	}
	if d.in[end] < ' ' {
		return 0, d.notJSON(end, "a control character in a string must be escaped")
	}
	return end, true
}

// unescape appends the rest of a string whose plain beginning lies between start
// and at, where the first backslash is, and reads up to its end.
func (d *reader) unescape(dst []byte, start, at int) ([]byte, bool) {
	for {
		dst = append(dst, d.in[start:at]...)
		if d.in[at] == '"' {
			d.pos = at + 1
			return dst, true
		}
		if at+1 >= len(d.in) {
			return dst, d.notJSON(len(d.in), endsEarly)
		}
		switch c := d.in[at+1]; c {
		case '"', '\\', '/':
			dst, start = append(dst, c), at+2
		case 'b':
			dst, start = append(dst, '\b'), at+2
		case 'f':
			dst, start = append(dst, '\f'), at+2
		case 'n':
			dst, start = append(dst, '\n'), at+2
		case 'r':
			dst, start = append(dst, '\r'), at+2
		case 't':
			dst, start = append(dst, '\t'), at+2
		case 'u':
			r, n := d.codePoint(at)
			if n == 0 {
				return dst, d.notJSON(at, "\\u wants four hexadecimal digits, and surrogates come in pairs")
			}
			dst, start = utf8.AppendRune(dst, r), at+n
		default:
			return dst, d.notJSON(at, "no such escape in a string")
		}
		var ok bool
		if at, ok = d.run(start); !ok {
			return dst, false
		}
	}
}

// codePoint reads \uXXXX, or a pair of them for a code point beyond 16 bits. It
// returns how many bytes that took; 0 where it is neither.
func (d *reader) codePoint(at int) (rune, int) {
	r, ok := d.hex(at)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	low, ok := d.hex(at + 6)
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// hex reads \uXXXX at a place.
func (d *reader) hex(at int) (rune, bool) {
	if at+6 > len(d.in) || d.in[at] != '\\' || d.in[at+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range d.in[at+2 : at+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
