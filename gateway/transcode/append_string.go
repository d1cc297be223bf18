package transcode

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

// Eight bytes at a time: which of them JSON strings cannot have as they are.
const (
	eachByte = 0x0101010101010101
	topBits  = 0x8080808080808080
)

// special is not zero if one of the eight bytes is a control character, a quote, a
// backslash, or not ASCII.
func special(x uint64) uint64 {
	quote, slash := x^(eachByte*'"'), x^(eachByte*'\\')
	return ((x - eachByte*0x20) | (quote - eachByte) | (slash - eachByte) | x) & topBits
}

// appendString appends s as a JSON string. It must be UTF-8.
func appendString(dst, s []byte) ([]byte, error) {
	n := len(s)
	if cap(dst)-len(dst) < n+10 {
		dst = slices.Grow(dst, n+10)
	}
	at := len(dst) + 1
	out := dst[:at+n+1] // Written only as far as s is plain.
	out[at-1] = '"'
	to := out[at : at+n]
	switch {
	case n >= 8:
		i := 0
		for ; i+8 <= n; i += 8 {
			x := binary.LittleEndian.Uint64(s[i:])
			if special(x) != 0 {
				return appendEscaped(dst, s, i)
			}
			binary.LittleEndian.PutUint64(to[i:], x)
		}
		if i < n { // The last eight, some of them once more.
			x := binary.LittleEndian.Uint64(s[n-8:])
			if special(x) != 0 {
				return appendEscaped(dst, s, i)
			}
			binary.LittleEndian.PutUint64(to[n-8:], x)
		}
	case n >= 4:
		a, b := binary.LittleEndian.Uint32(s), binary.LittleEndian.Uint32(s[n-4:])
		if special(uint64(a)<<32|uint64(b)) != 0 {
			return appendEscaped(dst, s, 0)
		}
		binary.LittleEndian.PutUint32(to, a)
		binary.LittleEndian.PutUint32(to[n-4:], b)
	default:
		for i, c := range s {
			if !literal[c] {
				return appendEscaped(dst, s, 0)
			}
			to[i] = c
		}
	}
	out[at+n] = '"'
	return out, nil
}

// literal are the ASCII characters that stand for themselves.
var literal = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendEscaped is appendString for what is not plain from i on.
func appendEscaped(dst, s []byte, i int) ([]byte, error) {
	if !utf8.Valid(s[i:]) {
		return dst, errUTF8
	}
	dst = append(dst, '"')
	done := 0
	for i < len(s) {
		if i+8 <= len(s) && escapes(binary.LittleEndian.Uint64(s[i:])) == 0 {
			i += 8
			continue
		}
		// One of these, or the end.
		for end := min(i+8, len(s)); i < end; i++ {
			if c := s[i]; c < utf8.RuneSelf && !literal[c] {
				dst = append(dst, s[done:i]...)
				dst = appendEscape(dst, c)
				done = i + 1
			}
		}
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"'), nil
}

// escapes is special for text that is known to be UTF-8, where what is not ASCII may
// stand. It may see one too many.
func escapes(x uint64) uint64 {
	quote, slash := x^(eachByte*'"'), x^(eachByte*'\\')
	return ((x-eachByte*0x20)&^x | (quote-eachByte)&^quote | (slash-eachByte)&^slash) & topBits
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// appendBase64 appends b as base64 with padding, in quotes.
func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// appendBytes appends a string or bytes.
func (f *field) appendBytes(dst, b []byte) ([]byte, error) {
	if f.elem == opBytes {
		return appendBase64(dst, b), nil
	}
	return appendString(dst, b)
}
