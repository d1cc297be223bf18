package headers

import "strings"

// NoneMatch says whether If-None-Match names the tag, or any, so that the answer is
// 304 (RFC 9110, 13.1.2). Tags are compared weakly: ours name what an answer says, not
// how it is encoded. What is malformed ends the list: the answer is sent then, which is
// never wrong.
func NoneMatch(lines []string, tag string) bool {
	opaque := strings.TrimPrefix(tag, "W/")
	for i, line := range lines {
		line = trimOWS(line)
		if line == "*" {
			return i == 0 && len(lines) == 1
		}
		for line != "" {
			if line[0] == ',' { // RFC 9110, 5.6.1.2
				line = trimOWS(line[1:])
				continue
			}
			t, rest, ok := entityTag(line)
			if !ok {
				return false
			}
			if t == opaque {
				return true
			}
			if line = trimOWS(rest); line != "" && line[0] != ',' {
				return false
			}
		}
	}
	return false
}

// entityTag cuts an entity tag off s (RFC 9110, 8.8.3), without its W/.
func entityTag(s string) (opaque, rest string, ok bool) {
	s = strings.TrimPrefix(s, "W/")
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], s[i+1:], true
		case c < 0x21 || c == 0x7f:
			return "", "", false
		}
	}
	return "", "", false
}

// trimOWS takes spaces and tabs off both ends (RFC 9110, 5.6.3).
func trimOWS(s string) string { return strings.Trim(s, " \t") }
