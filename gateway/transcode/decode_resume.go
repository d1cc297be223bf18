package transcode

// finding is one error of several, with what goes between a name and its path so far.
type finding struct {
	*Error
	joint string
}

// resume is called for a part of an object, an array or a map that could not be read:
// it puts the name of the part before the paths of what is wrong in it, which are those
// from *from on. Where all errors are wanted it then moves behind the part, which begins
// at a place, and reading goes on; what is written no longer counts. It is false where
// reading is to end.
func (d *reader) resume(name, joint string, at int, from *int) bool {
	if d.err != nil {
		if name != "" {
			d.err.within(name, d.joint)
			d.joint = joint
		}
		if d.enough == 0 || d.err.syntax {
			return false
		}
		d.found = append(d.found, finding{d.err, d.joint})
		d.err = nil
		if d.pos = at; !d.skipPart() {
			return false
		}
	} else if name != "" {
		for i := *from; i < len(d.found); i++ {
			d.found[i].within(name, d.found[i].joint)
			d.found[i].joint = joint
		}
	}
	*from = len(d.found)
	return len(d.found) < d.enough
}

// skipPart moves behind a value, or behind a name with its value.
func (d *reader) skipPart() bool {
	if !d.skip() {
		return false
	}
	if d.next() == ':' {
		d.pos++
		return d.skip()
	}
	return true
}

// skip moves behind the next value, whatever it is; it is false where that is no JSON.
func (d *reader) skip() bool {
	var brackets []byte // that are to come
	for {
		switch c := d.next(); {
		case c == '{' || c == '[':
			d.pos++
			d.open++
			if closing := c + 2; !d.leave(closing) { // In ASCII, both stand two behind.
				brackets = append(brackets, closing)
				if c == '{' && !d.skipName() {
					return false
				}
				continue
			}
		case c == '"':
			if _, ok := d.text(); !ok {
				return false
			}
		case c == '-' || isDigit(c):
			_, n := splitNumber(d.in[d.pos:])
			if n == 0 {
				return d.notJSON(d.pos, "a number is wrong")
			}
			d.pos += n
		case d.literal("null") || d.literal("true") || d.literal("false"):
		default:
			return d.want("a value")
		}
		for again := false; !again; {
			last := len(brackets) - 1
			if last < 0 {
				return true
			}
			var ok bool
			if again, ok = d.more(brackets[last]); !ok {
				return false
			}
			if again && brackets[last] == '}' && !d.skipName() {
				return false
			}
			if !again {
				brackets = brackets[:last]
			}
		}
	}
}

func (d *reader) skipName() bool {
	if d.next() != '"' {
		return d.wantName()
	}
	_, ok := d.text()
	return ok && d.colon()
}
