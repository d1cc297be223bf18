package transcode

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// scratch is memory for what must be sorted before it is written.
type scratch struct {
	entries []entry
	found   []occurrence
	// groups has the ends of the groups that were met, by the offset of what is in
	// them: a group has no length, and looking for its end on every level would be
	// quadratic.
	groups map[uint32]uint32
}

// occurrence of a field: its value, or the content of a group, as part of state.wire.
type occurrence struct {
	f         *field
	at, until uint32
	wt        uint8
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// maxScratch is how many elements may be kept for the next call.
const maxScratch = 4096

func (s *state) scratchpad() *scratch {
	if s.scratch == nil {
		s.scratch = scratches.Get().(*scratch)
	}
	return s.scratch
}

// release gives the scratch back, without what it points to.
func (s *state) release() {
	sc := s.scratch
	if sc == nil {
		return
	}
	s.scratch = nil
	if cap(sc.entries) > maxScratch || cap(sc.found) > maxScratch {
		return
	}
	clear(sc.entries[:cap(sc.entries)])
	clear(sc.found[:cap(sc.found)])
	if len(sc.groups) > maxScratch {
		sc.groups = nil // To clear a large map takes as long as it is large.
	}
	clear(sc.groups)
	sc.entries, sc.found = sc.entries[:0], sc.found[:0]
	scratches.Put(sc)
}

// offset of a part of state.wire in it. No part has its capacity cut.
func (s *state) offset(b []byte) uint32 { return uint32(cap(s.wire) - cap(b)) }

func (s *state) whole(b []byte) occurrence {
	at := s.offset(b)
	return occurrence{at: at, until: at + uint32(len(b)), wt: bytesType}
}

func (s *state) bytes(o occurrence) []byte { return s.wire[o.at:o.until] }

// mergedMessage appends the message that the parts make together, in order.
func (s *state) mergedMessage(dst []byte, parts []occurrence, m *message, depth int) ([]byte, error) {
	if depth--; depth < 0 {
		return dst, errDepth
	}
	if len(dst) > s.limit {
		return dst, ErrTooLarge
	}
	if m.form != plainForm {
		return s.mergedWellKnown(dst, parts, m, depth)
	}
	start := len(dst)
	dst, err := s.mergedFields(dst, parts, m, depth)
	if err != nil {
		return dst, err
	}
	if m.bare {
		return dst, nil
	}
	return closeObject(dst, start), nil
}

// mergedFields is fields for any order: all that the parts hold is collected, sorted
// and then written.
func (s *state) mergedFields(dst []byte, parts []occurrence, m *message, depth int) ([]byte, error) {
	base, err := s.collect(parts, m, depth)
	if err != nil {
		return dst, err
	}
	next, required := 0, m.required
	for i, end := base, len(s.scratch.found); i < end; {
		f := s.scratch.found[i].f
		j := i + 1
		for j < end && s.scratch.found[j].f == f {
			j++
		}
		if f.required {
			required--
		}
		dst = append(dst, m.defaults[m.from[next]:m.from[f.index]]...)
		next = min(int(f.index)+1, len(m.fields))
		before := len(dst)
		dst = f.appendKey(dst)
		value := len(dst)
		if dst, err = s.merged(dst, s.scratch.found[i:j], f, depth); err != nil {
			return dst, err
		}
		if f.op == opNumbers && int(f.index) == len(m.fields) && len(dst) == value+2 {
			dst = dst[:before] // An extension that is an empty list is not there.
		}
		i = j
	}
	s.scratch.found = s.scratch.found[:base]
	if required > 0 && s.partial == 0 {
		return dst, errRequired
	}
	return append(dst, m.defaults[m.from[next]:]...), nil
}

// merged appends the value of a field from all its occurrences.
func (s *state) merged(dst []byte, found []occurrence, f *field, depth int) ([]byte, error) {
	var err error
	switch f.op {
	case opSkip:
		return dst, nil
	case opMessage, opGroup:
		return s.mergedMessage(dst, found, f.msg, depth)
	case opMap:
		return s.mergedEntries(dst, found, f, depth)
	case opString, opBytes:
		for _, o := range found[:len(found)-1] {
			if f.utf8 && !utf8.Valid(s.bytes(o)) {
				return dst, errUTF8
			}
		}
		return f.appendBytes(dst, s.bytes(found[len(found)-1]))
	case opMessages, opGroups, opStrings, opBytesList, opNumbers:
		start := len(dst)
		for i := range found {
			if dst, err = s.element(dst, found[i:i+1], f, depth); err != nil {
				return dst, err
			}
		}
		return closeArray(dst, start), nil
	}
	o := found[len(found)-1]
	u, _ := readNumber(s.bytes(o), o.wt)
	return f.appendNumber(dst, u), nil
}

// element appends what one occurrence adds to a list, with commas before.
func (s *state) element(dst []byte, found []occurrence, f *field, depth int) ([]byte, error) {
	if len(dst) > s.limit {
		return dst, ErrTooLarge
	}
	switch f.op {
	case opStrings, opBytesList:
		return f.appendBytes(append(dst, ','), s.bytes(found[0]))
	case opNumbers:
		if found[0].wt == bytesType {
			return s.packed(dst, s.bytes(found[0]), f)
		}
		u, _ := readNumber(s.bytes(found[0]), found[0].wt)
		return f.appendNumber(append(dst, ','), u), nil
	}
	return s.mergedMessage(append(dst, ','), found, f.msg, depth)
}

// collect puts what the parts hold on the stack, in the order of output, and returns
// where it begins.
func (s *state) collect(parts []occurrence, m *message, depth int) (int, error) {
	sc := s.scratchpad()
	base := len(sc.found)
	for _, p := range parts {
		if err := s.collectPart(s.bytes(p), m); err != nil {
			return base, err
		}
	}
	if m.oneofs > 0 {
		if err := s.choose(base, m, depth); err != nil {
			return base, err
		}
	}
	if found := sc.found[base:]; !slices.IsSortedFunc(found, compareOccurrences) {
		slices.SortFunc(found, compareOccurrences)
	}
	return base, nil
}

func compareOccurrences(a, b occurrence) int {
	if c := cmp.Compare(a.f.index, b.f.index); c != 0 {
		return c
	}
	if a.f != b.f { // Extensions, all behind the fields.
		return strings.Compare(string(a.f.fd.FullName()), string(b.f.fd.FullName()))
	}
	return cmp.Compare(a.at, b.at)
}

func (s *state) collectPart(b []byte, m *message) error {
	for len(b) > 0 {
		num, wt, n := readTag(b)
		if n == 0 {
			return errWire
		}
		b = b[n:]
		f := m.find(num)
		if f == nil && m.extended != nil && m.extends(num) {
			var err error
			if f, err = s.set.extension(m, num); err != nil {
				return err
			}
		}
		if f == nil || wt != f.wt && wt != f.alt {
			if n = skip(b, num, wt); n == 0 {
				return errWire
			}
			b = b[n:]
			continue
		}
		o := occurrence{f: f, at: s.offset(b), wt: wt}
		switch wt {
		case bytesType:
			v, size := readBytes(b)
			o.at, n = s.offset(v), size
			o.until = o.at + uint32(len(v))
		case startGroup:
			end, err := s.endOfGroup(o.at, num, len(b))
			if err != nil {
				return err
			}
			o.until = end
			_, _, tag := readTag(s.wire[end:])
			n = int(end-o.at) + tag
		default:
			_, n = readNumber(b, wt)
			o.until = o.at + uint32(n)
		}
		if n == 0 {
			return errWire
		}
		s.scratch.found = append(s.scratch.found, o)
		b = b[n:]
	}
	return nil
}
