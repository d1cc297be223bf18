package transcode

import (
	"bytes"
	"cmp"
	"slices"
)

// entry of a map: its key, and where its value is.
type entry struct {
	text   []byte // of string keys
	number uint64 // of others, so that they sort as unsigned
	value  []byte // of strings, bytes and messages
	raw    uint64 // of numbers
	found  uint8  // bits: the key, the value
	// In careful passes the value's occurrences.
	lo, hi int
}

const (
	foundKey   = 1
	foundValue = 2
)

// entries appends a map, the first entry of which b begins with.
func (s *state) entries(dst, b []byte, f *field, depth int) ([]byte, int, error) {
	if depth--; depth < 0 {
		return dst, 0, errDepth
	}
	sc := s.scratchpad()
	base, size, limit := len(sc.entries), len(b), maxScratch
	for {
		v, n := readBytes(b)
		if n == 0 {
			return dst, 0, errWire
		}
		b = b[n:]
		e, err := f.entry(v)
		if err != nil {
			return dst, 0, err
		}
		sc.entries = append(sc.entries, e)
		if k := len(sc.entries) - base; k >= limit {
			slices.SortFunc(sc.entries[base:], compareEntries)
			if !f.sorted(sc.entries[base:]) {
				return dst, 0, errUnusual
			}
			limit = 2 * k
		}
		n = f.again(b)
		if n == 0 {
			break
		}
		b = b[n:]
	}
	entries := sc.entries[base:]
	if !f.sorted(entries) {
		slices.SortFunc(entries, compareEntries)
		if !f.sorted(entries) {
			return dst, 0, errUnusual // A key twice.
		}
	}
	dst, err := s.writeEntries(dst, entries, f, depth)
	sc.entries = sc.entries[:base]
	return dst, size - len(b), err
}

// entry reads one, with its parts given at most once.
func (f *field) entry(b []byte) (e entry, err error) {
	key, value := &f.msg.fields[0], &f.msg.fields[1]
	for len(b) > 0 {
		num, wt, n := readTag(b)
		if n == 0 {
			return e, errWire
		}
		b = b[n:]
		switch {
		case num == 1 && wt == key.wt && e.found&foundKey == 0:
			e.found |= foundKey
			n = e.readKey(b, key)
		case num == 2 && wt == value.wt && e.found&foundValue == 0:
			e.found |= foundValue
			if wt == bytesType {
				e.value, n = readBytes(b)
			} else if wt == startGroup {
				return e, errUnusual
			} else {
				e.raw, n = readNumber(b, wt)
			}
		case num == 1 && wt == key.wt, num == 2 && wt == value.wt:
			return e, errUnusual
		default:
			n = skip(b, num, wt)
		}
		if n == 0 {
			return e, errWire
		}
		b = b[n:]
	}
	if e.found&foundKey == 0 {
		e.order(key, 0)
	}
	return e, nil
}

// readKey reads the key that b begins with.
func (e *entry) readKey(b []byte, key *field) (n int) {
	if key.wt == bytesType {
		e.text, n = readBytes(b)
		return n
	}
	u, n := readNumber(b, key.wt)
	e.order(key, u)
	return n
}

// order sets the number that the key sorts by.
func (e *entry) order(key *field, u uint64) {
	const sign = 1 << 63
	switch key.op {
	case opBool:
		e.number = min(u, 1)
	case opUint32, opFixed32:
		e.number = uint64(uint32(u))
	case opInt32, opSfixed32:
		e.number = uint64(int64(int32(u))) ^ sign
	case opSint32:
		e.number = uint64(int64(int32(unzigzag(u&0xffffffff)))) ^ sign
	case opInt64, opSfixed64:
		e.number = u ^ sign
	case opSint64:
		e.number = uint64(unzigzag(u)) ^ sign
	default:
		e.number = u
	}
}

// appendKey appends the key as a name.
func (e *entry) appendKey(dst []byte, key *field) ([]byte, error) {
	var err error
	dst = append(dst, ',')
	switch key.op {
	case opString:
		dst, err = appendString(dst, e.text)
	case opBool:
		if e.number != 0 {
			dst = append(dst, `"true"`...)
		} else {
			dst = append(dst, `"false"`...)
		}
	case opUint32, opFixed32, opUint64, opFixed64:
		dst = append(appendUint(append(dst, '"'), e.number), '"')
	default:
		dst = append(appendInt(append(dst, '"'), int64(e.number^1<<63)), '"')
	}
	return append(dst, ':'), err
}

// compareEntries orders keys as protojson does. Of string keys number is 0, of others
// text is nil.
func compareEntries(a, b entry) int {
	if c := cmp.Compare(a.number, b.number); c != 0 {
		return c
	}
	return bytes.Compare(a.text, b.text)
}

// sorted says whether the keys ascend, each once.
func (f *field) sorted(entries []entry) bool {
	for i := 1; i < len(entries); i++ {
		if compareEntries(entries[i-1], entries[i]) >= 0 {
			return false
		}
	}
	return true
}

func (s *state) writeEntries(dst []byte, entries []entry, f *field, depth int) ([]byte, error) {
	start := len(dst)
	key, value := &f.msg.fields[0], &f.msg.fields[1]
	for i := range entries {
		var err error
		e := &entries[i]
		if len(dst) > s.limit {
			return dst, ErrTooLarge
		}
		if dst, err = e.appendKey(dst, key); err != nil {
			return dst, err
		}
		switch {
		case s.careful:
			if e.lo == e.hi && value.op != opMessage && value.op != opGroup {
				dst = append(dst, value.zero...)
			} else {
				dst, err = s.merged(dst, s.scratch.found[e.lo:e.hi], value, depth)
			}
		case value.op == opMessage:
			dst, err = s.message(dst, e.value, value.msg, depth)
		case e.found&foundValue == 0:
			dst = append(dst, value.zero...)
		case value.wt == bytesType:
			dst, err = value.appendBytes(dst, e.value)
		default:
			dst = value.appendNumber(dst, e.raw)
		}
		if err != nil {
			return dst, err
		}
	}
	return closeObject(dst, start), nil
}
