package transcode

import (
	"slices"
	"unicode/utf8"
)

// choose drops what later members of the same oneof have replaced. A message that
// comes again after another member begins anew.
func (s *state) choose(base int, m *message, depth int) error {
	type chosen struct {
		f      *field
		closed bool // what comes before has been replaced
	}
	found := s.scratch.found[base:]
	var few [8]chosen
	last := few[:]
	if m.oneofs > len(few) {
		last = make([]chosen, m.oneofs)
	}
	dropped := false
	for i := len(found) - 1; i >= 0; i-- {
		o := &found[i]
		if o.f.oneofs < 0 {
			continue
		}
		c := &last[o.f.oneofs]
		switch {
		case c.f == nil:
			c.f = o.f
		case c.closed || c.f != o.f:
			c.closed = true
			if err := s.checkDropped(*o, depth); err != nil {
				return err
			}
			o.f, dropped = nil, true
		}
	}
	if !dropped {
		return nil
	}
	kept := found[:0]
	for _, o := range found {
		if o.f != nil {
			kept = append(kept, o)
		}
	}
	s.scratch.found = s.scratch.found[:base+len(kept)]
	return nil
}

// checkDropped refuses what parsing would have refused before it was replaced.
func (s *state) checkDropped(o occurrence, depth int) error {
	if o.f.op == opSkip {
		return nil
	}
	c := checker{set: s.set}
	return c.value(o.f, s.bytes(o), o.wt, depth)
}

// endOfGroup returns where the end tag of a group is whose content begins at at and
// lies within size bytes.
func (s *state) endOfGroup(at uint32, num uint64, size int) (uint32, error) {
	if end, ok := s.scratch.groups[at]; ok {
		return end, nil
	}
	if s.scratch.groups == nil {
		s.scratch.groups = map[uint32]uint32{}
	}
	if err := indexGroups(s.scratch.groups, s.wire[at:int(at)+size], at, num); err != nil {
		return 0, err
	}
	return s.scratch.groups[at], nil
}

// indexGroups notes where a group and all groups in it end.
func indexGroups(ends map[uint32]uint32, b []byte, at uint32, num uint64) error {
	type open struct {
		num uint64
		at  uint32
	}
	stack := append(make([]open, 0, 16), open{num, at})
	for len(b) > 0 {
		num, wt, n := readTag(b)
		if n == 0 {
			return errWire
		}
		switch wt {
		case startGroup:
			if len(stack) > maxNesting {
				return errDepth
			}
			stack = append(stack, open{num, at + uint32(n)})
		case endGroup:
			top := stack[len(stack)-1]
			if top.num != num {
				return errWire
			}
			ends[top.at] = at
			if stack = stack[:len(stack)-1]; len(stack) == 0 {
				return nil
			}
		default:
			size := skip(b[n:], num, wt)
			if size == 0 {
				return errWire
			}
			n += size
		}
		b, at = b[n:], at+uint32(n)
	}
	return errWire
}

// mergedEntries appends a map: of entries with the same key the last counts.
func (s *state) mergedEntries(dst []byte, found []occurrence, f *field, depth int) ([]byte, error) {
	if depth--; depth < 0 {
		return dst, errDepth
	}
	sc := s.scratch
	first, base, limit := len(sc.entries), len(sc.found), maxScratch
	for i := range found {
		e, err := s.mergedEntry(found[i:i+1], f, depth)
		if err != nil {
			return dst, err
		}
		sc.entries = append(sc.entries, e)
		if len(sc.entries)-first >= limit { // Keys that come again take no room.
			kept, err := s.lastOfKeys(sc.entries[first:], f, depth)
			if err != nil {
				return dst, err
			}
			sc.entries = sc.entries[:first+len(kept)]
			limit = max(maxScratch, 2*len(kept))
		}
	}
	entries := sc.entries[first:]
	if !f.sorted(entries) {
		var err error
		if entries, err = s.lastOfKeys(entries, f, depth); err != nil {
			return dst, err
		}
	}
	dst, err := s.writeEntries(dst, entries, f, depth)
	sc.entries, sc.found = sc.entries[:first], sc.found[:base]
	return dst, err
}

// mergedEntry leaves the occurrences of the value on the stack.
func (s *state) mergedEntry(part []occurrence, f *field, depth int) (entry, error) {
	var e entry
	key := &f.msg.fields[0]
	base, err := s.collect(part, f.msg, depth)
	if err != nil {
		return e, err
	}
	e.order(key, 0)
	found := s.scratch.found[base:]
	e.lo, e.hi = base, base+len(found)
	for _, o := range found {
		if o.f != key {
			break
		}
		e.lo++
		if key.op != opString {
			u, _ := readNumber(s.bytes(o), o.wt)
			e.order(key, u)
			continue
		}
		if e.text = s.bytes(o); key.utf8 && !utf8.Valid(e.text) {
			return e, errUTF8
		}
	}
	return e, nil
}

// lastOfKeys sorts entries and keeps the last of each key.
func (s *state) lastOfKeys(entries []entry, f *field, depth int) ([]entry, error) {
	slices.SortStableFunc(entries, compareEntries)
	kept := entries[:0]
	for i := range entries {
		if i+1 == len(entries) || compareEntries(entries[i], entries[i+1]) != 0 {
			kept = append(kept, entries[i])
			continue
		}
		for _, o := range s.scratch.found[entries[i].lo:entries[i].hi] {
			if err := s.checkDropped(o, depth); err != nil {
				return nil, err
			}
		}
	}
	return kept, nil
}
