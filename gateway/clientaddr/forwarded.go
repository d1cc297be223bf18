package clientaddr

import "strings"

// The Forwarded header (RFC 7239) is read from the right, quotes included: a
// caller who leaves a quote open must not swallow what a proxy writes behind.

// lastComma returns the index of the last comma outside of quotes, or -1; ok
// is false where a quoted string does not begin.
func lastComma(s string) (at int, ok bool) {
	for i := len(s) - 1; i >= 0; i-- {
		switch s[i] {
		case ',':
			return i, true
		case '"':
			if i = opening(s, i); i < 0 {
				return -1, false
			}
		}
	}
	return -1, true
}

// opening returns the index of the quote that opens the string which the quote
// at end closes, or -1.
func opening(s string, end int) int {
	for i := end - 1; i >= 0; i-- {
		if s[i] == '"' && !escaped(s, i) {
			return i
		}
	}
	return -1
}

func escaped(s string, i int) bool {
	n := 0
	for i--; i >= 0 && s[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// forValue returns the value of the parameter `for` of an element, unquoted; ok
// is false where it is missing, there twice, or the element is malformed.
func forValue(element string) (value string, ok bool) {
	rest, found := element, false
	for rest != "" {
		var name, v string
		if name, v, rest, ok = pair(rest); !ok {
			return "", false
		}
		if strings.EqualFold(name, "for") {
			if found {
				return "", false
			}
			value, found = v, true
		}
	}
	return value, found
}

// pair reads `token=value`, up to the semicolon behind it. Spaces around
// semicolons are not in the grammar, but are common. An empty pair is one.
func pair(s string) (name, value, rest string, ok bool) {
	s = trim(s)
	if s == "" || s[0] == ';' {
		return "", "", strings.TrimPrefix(s, ";"), true
	}
	name, s, found := strings.Cut(s, "=")
	if !found || !isToken(name) || s == "" {
		return "", "", "", false
	}
	if s[0] == '"' {
		value, s, ok = unquote(s)
	} else {
		end := strings.IndexAny(s, "; \t")
		if end < 0 {
			end = len(s)
		}
		value, s = s[:end], s[end:]
		ok = isToken(value)
	}
	if s = trim(s); !ok || (s != "" && s[0] != ';') {
		return "", "", "", false
	}
	return name, value, strings.TrimPrefix(s, ";"), true
}

// unquote reads the quoted-string that s begins with.
func unquote(s string) (value, rest string, ok bool) {
	var out []byte
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			if out == nil {
				return s[1:i], s[i+1:], true
			}
			return string(out), s[i+1:], true
		case c == '\\':
			if out == nil {
				out = append(make([]byte, 0, len(s)), s[1:i]...)
			}
			if i++; i == len(s) {
				return "", "", false
			}
			out = append(out, s[i])
		case out != nil:
			out = append(out, c)
		}
	}
	return "", "", false
}

// isToken says whether s is a token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
