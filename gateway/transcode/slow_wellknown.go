package transcode

// mergedWellKnown is wellKnown for a message given in parts.
func (s *state) mergedWellKnown(dst []byte, parts []occurrence, m *message, depth int) ([]byte, error) {
	switch m.form {
	case timestampForm, durationForm:
		var secs, nanos int64
		for _, p := range parts {
			if err := readTime(s.bytes(p), m, &secs, &nanos); err != nil {
				return dst, err
			}
		}
		return appendTime(dst, m.form, secs, nanos)
	case anyForm:
		var a anyValue
		for _, p := range parts {
			if err := a.read(s.bytes(p), m); err != nil {
				return dst, err
			}
		}
		return s.any(dst, a, depth)
	case wrapperForm, structForm, listForm, valueForm:
		return s.mergedOnlyField(dst, parts, m, depth)
	case fieldMaskForm:
		var err error
		dst = append(dst, '"')
		start := len(dst)
		for _, p := range parts {
			if dst, err = appendPaths(dst, s.bytes(p), m, start); err != nil {
				return dst, err
			}
		}
		return append(dst, '"'), nil
	}
	return dst, errMessageSet
}

func (s *state) mergedOnlyField(dst []byte, parts []occurrence, m *message, depth int) ([]byte, error) {
	base, err := s.collect(parts, m, depth)
	if err != nil {
		return dst, err
	}
	found := s.scratch.found[base:]
	if len(found) == 0 {
		return m.appendEmpty(dst)
	}
	f, last := found[0].f, found[len(found)-1]
	if m.form == valueForm && f.op == opDouble {
		if u, _ := readNumber(s.bytes(last), last.wt); notFinite(u) {
			return dst, errNotFinite
		}
	}
	dst, err = s.merged(dst, found, f, depth)
	s.scratch.found = s.scratch.found[:base]
	return dst, err
}
