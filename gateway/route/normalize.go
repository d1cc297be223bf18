package route

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxPath is the longest path, in bytes as sent, that Normalize accepts.
const MaxPath = 8 << 10

// PathError refuses a request path. Reason is one of a fixed set of short phrases, without any of the path's
// own bytes: it may be shown to a client and used as a metric's label. Normalize returns it as *PathError.
type PathError struct{ Reason string }

func (e *PathError) Error() string { return "path refused: " + e.Reason }

const (
	reasonNoSlash      = "does not start with a slash"
	reasonTooLong      = "too long"
	reasonBadEscape    = "invalid percent-encoding"
	reasonEncodedSlash = "encoded slash"
	reasonBackslash    = "backslash"
	reasonControl      = "control character"
	reasonNotUTF8      = "not UTF-8"
	reasonEmptySegment = "empty segment"
	reasonDotSegment   = "dot segment"
)

// Normalize turns the path as sent (r.URL.EscapedPath()) into the one string that both routing and policy
// read, or refuses it. Percent-encoding is decoded exactly once. Whatever two readers could take for
// different paths is refused with a *PathError rather than repaired: encoded slashes, backslashes, control
// characters, empty segments, dot segments, broken encodings. One slash at the end is kept: "/a/" is not
// "/a". Dot segments include those in front of a colon, because a custom verb is cut off there, and a
// parameter would be left that is "..". They, and empty segments, include those in front of a semicolon,
// because some servers cut off what follows one ("/..;/" is "/../" to them).
//
// A path without percent signs is returned as it is, without an allocation.
func Normalize(escaped string) (string, error) {
	switch {
	case escaped == "" || escaped[0] != '/':
		return "", &PathError{reasonNoSlash}
	case len(escaped) > MaxPath:
		return "", &PathError{reasonTooLong}
	}
	path := escaped
	if strings.IndexByte(escaped, '%') >= 0 {
		var reason string
		if path, reason = decode(escaped); reason != "" {
			return "", &PathError{reason}
		}
	}
	if reason := inspect(path); reason != "" {
		return "", &PathError{reason}
	}
	return path, nil
}

// decode resolves percent-encoding once. Encoded slashes are refused here, the only place where they can
// still be told from others.
func decode(escaped string) (path, reason string) {
	var out strings.Builder
	out.Grow(len(escaped))
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c == '%' {
			if i+2 >= len(escaped) || !isHex(escaped[i+1]) || !isHex(escaped[i+2]) {
				return "", reasonBadEscape
			}
			if c = unhex(escaped[i+1])<<4 | unhex(escaped[i+2]); c == '/' {
				return "", reasonEncodedSlash
			}
			i += 2
		}
		out.WriteByte(c)
	}
	return out.String(), ""
}

// inspect returns the reason to refuse a decoded path that starts with a slash, or "".
func inspect(path string) string {
	ascii, start := true, 1
	for i := 1; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			if i == start {
				return reasonEmptySegment
			}
			if isDots(path[start:i]) {
				return reasonDotSegment
			}
			start = i + 1
		case c == ';' && i == start:
			return reasonEmptySegment
		case c == '\\':
			return reasonBackslash
		case c < 0x20 || c == 0x7f:
			return reasonControl
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	switch {
	case isDots(path[start:]):
		return reasonDotSegment
	case ascii:
		return ""
	case !utf8.ValidString(path):
		return reasonNotUTF8
	case strings.IndexFunc(path, unicode.IsControl) >= 0: // Those beyond ASCII, such as U+0085, a line's end to some.
		return reasonControl
	}
	return ""
}

// isDots reports whether a segment is "." or "..", or would be once a verb or a parameter is cut off it.
func isDots(segment string) bool {
	dots := 0
	for dots < len(segment) && segment[dots] == '.' {
		dots++
	}
	return (dots == 1 || dots == 2) && (dots == len(segment) || segment[dots] == ':' || segment[dots] == ';')
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
