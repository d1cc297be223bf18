package rest

// jsonDepth follows how deep JSON nests, byte by byte and over any number of
// values, without building anything: it runs before the parser, whose work on
// nested messages is more than linear. On valid JSON its count is exact; on
// what is not, the parser stops no later than where the count goes wrong.
type jsonDepth struct {
	depth    int
	inString bool
	escaped  bool
}

// scan reads on, and returns the index of the byte that goes deeper than most,
// or -1.
func (d *jsonDepth) scan(data []byte, most int) int {
	for i, c := range data {
		if d.inString {
			switch {
			case d.escaped:
				d.escaped = false
			case c == '\\':
				d.escaped = true
			case c == '"':
				d.inString = false
			}
			continue
		}
		switch c {
		case '"':
			d.inString = true
		case '{', '[':
			if d.depth++; d.depth > most {
				return i
			}
		case '}', ']':
			d.depth = max(0, d.depth-1)
		}
	}
	return -1
}
