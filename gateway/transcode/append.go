package transcode

// state is one call of AppendJSON.
type state struct {
	set *Set
	// wire is the whole; what is being read is part of it.
	wire []byte
	// limit is how long dst may become. It is looked at before each message, element
	// and entry: what is written between two looks is in proportion to the wire.
	limit int
	// careful passes collect a message's fields before they write them: right for
	// every legal order, and slower.
	careful bool
	// partial counts the Any around: required fields inside one may be missing.
	partial int
	// scratch is nil until something must be sorted.
	scratch *scratch
}

// message appends a message that may be at most depth deep.
func (s *state) message(dst, b []byte, m *message, depth int) ([]byte, error) {
	if depth--; depth < 0 {
		return dst, errDepth
	}
	if len(dst) > s.limit {
		return dst, ErrTooLarge
	}
	if m.form != plainForm {
		return s.wellKnown(dst, b, m, depth)
	}
	start := len(dst)
	dst, err := s.fields(dst, b, m, depth)
	if err != nil {
		return dst, err
	}
	return closeObject(dst, start), nil
}

// closeObject ends what begins at start, where a comma stands in for the brace.
func closeObject(dst []byte, start int) []byte {
	if len(dst) == start {
		return append(dst, '{', '}')
	}
	dst[start] = '{'
	return append(dst, '}')
}

func closeArray(dst []byte, start int) []byte {
	if len(dst) == start {
		return append(dst, '[', ']')
	}
	dst[start] = '['
	return append(dst, ']')
}

// fields is the streaming pass: each name with a comma before it, as the fields come,
// and between them the defaults of those that did not. It knows only ascending numbers,
// each once; anything else is errUnusual.
func (s *state) fields(dst, b []byte, m *message, depth int) ([]byte, error) {
	var err error
	next, required, oneofs := 0, m.required, uint64(0)
	for len(b) > 0 {
		var f *field
		var n int
		// Usually the field after the last one, with a tag of one byte.
		if next < len(m.fields) && b[0] == m.fields[next].tag[0] && b[0] < 0x80 {
			f = &m.fields[next]
			next++
			b = b[1:]
		} else {
			if dst, f, n, err = m.seek(dst, b, &next); err != nil {
				return dst, err
			}
			b = b[n:]
			if f == nil {
				continue
			}
		}
		if f.counted {
			if oneofs&f.oneof != 0 {
				return dst, errUnusual
			}
			oneofs |= f.oneof
			if f.required {
				required--
			}
		}
		dst = f.name(dst)
		switch f.op {
		case opString:
			var v []byte
			v, n = readBytes(b)
			dst, err = appendString(dst, v)
		case opMessage:
			var v []byte
			v, n = readBytes(b)
			dst, err = s.message(dst, v, f.msg, depth)
		case opInt32, opInt64, opUint32, opUint64, opSint32, opSint64, opBool, opEnum, opNull:
			var u uint64
			u, n = readVarint(b)
			dst = f.appendNumber(dst, u)
		default:
			dst, n, err = s.rare(dst, b, f, depth)
		}
		if err != nil {
			return dst, err
		}
		if n == 0 {
			return dst, errWire
		}
		b = b[n:]
	}
	if required > 0 && s.partial == 0 {
		return dst, errRequired
	}
	return append(dst, m.defaults[m.from[next]:]...), nil
}

// name appends the field's key. That the whole array is copied, and dst then cut, is
// faster than to copy as many bytes as the key has.
func (f *field) name(dst []byte) []byte {
	dst = room(dst, keySize+32)
	at := len(dst)
	*(*[keySize]byte)(dst[at : at+keySize]) = f.key
	dst = dst[:at+int(f.keyLen)]
	if f.long != nil {
		dst = append(dst, f.long...)
	}
	return dst
}

// seek reads a tag and finds its field, the defaults before which it appends. next is
// the field after those that have been written or left out. Where there is no field, it
// passes by the value, too.
func (m *message) seek(dst, b []byte, next *int) ([]byte, *field, int, error) {
	num, wt, n := readTag(b)
	if n == 0 {
		return dst, nil, 0, errWire
	}
	f := m.find(num)
	if f == nil || wt != f.wt {
		if f == nil || wt != f.alt {
			size, err := m.pass(b[n:], num, wt)
			return dst, nil, n + size, err
		}
		f = f.other
	}
	switch i := int(f.index); {
	case i == *next:
		*next = i + 1
	case f.roams:
	case i > *next:
		dst = append(dst, m.defaults[m.from[*next]:m.from[i]]...)
		*next = i + 1
	default:
		return dst, nil, n, errUnusual
	}
	return dst, f, n, nil
}

// pass returns the length of a value that is not written: of a field that is unknown
// or has another wire type than it should.
func (m *message) pass(b []byte, num uint64, wt uint8) (int, error) {
	if m.extended != nil && m.extends(num) {
		return 0, errUnusual // Extensions are written behind the others.
	}
	n := skip(b, num, wt)
	if n == 0 {
		return 0, errWire
	}
	return n, nil
}

// rare appends a value of a field that is no singular string, message or varint; it
// returns the length of what it has read.
func (s *state) rare(dst, b []byte, f *field, depth int) ([]byte, int, error) {
	switch f.op {
	case opMessages:
		return s.messages(dst, b, f, depth)
	case opStrings, opBytesList:
		return s.strings(dst, b, f)
	case opNumbers:
		return s.numbers(dst, b, f)
	case opMap:
		return s.entries(dst, b, f, depth)
	case opBytes:
		v, n := readBytes(b)
		if n == 0 {
			return dst, 0, errWire
		}
		return appendBase64(dst, v), n, nil
	case opSkip:
		n := skip(b, uint64(f.num), f.wt)
		if n == 0 {
			return dst, 0, errWire
		}
		return dst, n, nil
	case opGroup, opGroups:
		return dst, 0, errUnusual // They have no length: see groups.
	}
	u, n := readNumber(b, f.wt)
	if n == 0 {
		return dst, 0, errWire
	}
	return f.appendNumber(dst, u), n, nil
}
