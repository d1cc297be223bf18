package transcode

// messages appends a list of messages, the first of which b begins with, and returns
// the length of all that follow each other.
func (s *state) messages(dst, b []byte, f *field, depth int) ([]byte, int, error) {
	var err error
	start, size := len(dst), len(b)
	for {
		v, n := readBytes(b)
		if n == 0 {
			return dst, 0, errWire
		}
		b = b[n:]
		dst = append(dst, ',')
		if dst, err = s.message(dst, v, f.msg, depth); err != nil {
			return dst, 0, err
		}
		n = f.again(b)
		if n == 0 {
			return closeArray(dst, start), size - len(b), nil
		}
		b = b[n:]
	}
}

// strings is messages for strings and bytes.
func (s *state) strings(dst, b []byte, f *field) ([]byte, int, error) {
	var err error
	start, size := len(dst), len(b)
	for {
		v, n := readBytes(b)
		if n == 0 {
			return dst, 0, errWire
		}
		b = b[n:]
		if len(dst) > s.limit {
			return dst, 0, ErrTooLarge
		}
		dst = append(dst, ',')
		if dst, err = f.appendBytes(dst, v); err != nil {
			return dst, 0, err
		}
		n = f.again(b)
		if n == 0 {
			return closeArray(dst, start), size - len(b), nil
		}
		b = b[n:]
	}
}

// numbers is messages for numbers, packed or not.
func (s *state) numbers(dst, b []byte, f *field) ([]byte, int, error) {
	start, size := len(dst), len(b)
	if f.wt == bytesType {
		v, n := readBytes(b)
		if n == 0 {
			return dst, 0, errWire
		}
		dst, err := s.packed(dst, v, f)
		return closeArray(dst, start), n, err
	}
	for {
		u, n := readNumber(b, f.wt)
		if n == 0 {
			return dst, 0, errWire
		}
		b = b[n:]
		if len(dst) > s.limit {
			return dst, 0, ErrTooLarge
		}
		dst = f.appendNumber(append(dst, ','), u)
		n = f.again(b)
		if n == 0 {
			return closeArray(dst, start), size - len(b), nil
		}
		b = b[n:]
	}
}

// packed appends packed numbers with a comma before each.
func (s *state) packed(dst, b []byte, f *field) ([]byte, error) {
	wt := f.elem.wireType()
	for len(b) > 0 {
		u, n := readNumber(b, wt)
		if n == 0 {
			return dst, errWire
		}
		b = b[n:]
		if len(dst) > s.limit {
			return dst, ErrTooLarge
		}
		dst = room(dst, 40)
		dst = f.appendNumber(append(dst, ','), u)
	}
	return dst, nil
}
