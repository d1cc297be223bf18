package transcode

import (
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Check says whether proto.Unmarshal would take the bytes, without keeping
// anything of them.
func (p *Plan) Check(wire []byte) error {
	c := checker{set: p.set}
	if _, err := c.message(wire, p.whole, 0, maxNesting); err != nil {
		return err
	}
	if !c.partial {
		return nil
	}
	// What one part of a message lacks another may have, which only merging tells.
	_, err := p.parse(wire, false)
	return err
}

// parse parses into the generated type, or a dynamic one where none is known: its
// parser panics on keys of maps that come again with another wire type.
func (p *Plan) parse(wire []byte, partial bool) (m proto.Message, err error) {
	defer func() {
		if recover() != nil {
			err = errWire
		}
	}()
	var mt protoreflect.MessageType = dynamicpb.NewMessageType(p.md)
	if known, ferr := p.set.types.FindMessageByName(p.md.FullName()); ferr == nil && known.Descriptor() == p.md {
		mt = known
	}
	m = mt.New().Interface()
	return m, proto.UnmarshalOptions{Resolver: p.set.types, AllowPartial: partial}.Unmarshal(wire, m)
}

// checker reads wire bytes as a parser would, and keeps nothing.
type checker struct {
	set *Set
	// request is for bytes that parsers of every language must take: CheckRequest.
	request bool
	// partial is set where a required field was missing.
	partial bool
	// path is where an error is, from the outermost message on.
	path string
}

// message checks a message and returns its length; that of a group ends with its
// tag, else group is 0.
func (c *checker) message(b []byte, m *message, group uint64, depth int) (int, error) {
	if depth--; depth < 0 {
		return 0, errDepth
	}
	size, required := len(b), uint64(0)
	missing := m.required
	for len(b) > 0 {
		num, wt, n := readTag(b)
		if n == 0 || c.request && n > maxTag {
			return 0, errWire
		}
		b = b[n:]
		if wt == endGroup {
			if num != group {
				return 0, errWire
			}
			c.partial = c.partial || missing > 0
			return size - len(b), nil
		}
		f, err := c.set.fieldOf(m, num)
		if err != nil {
			return 0, err
		}
		if f == nil || wt != f.wt && wt != f.alt {
			n, err = c.skip(b, num, wt, depth)
		} else {
			if f.required {
				// Beyond 64 fields, or for one given twice, merging decides.
				if bit := uint64(1) << min(f.index, 63); required&bit == 0 {
					required |= bit
					missing--
				}
			}
			if n, err = c.field(b, f, wt, depth); err != nil {
				c.within(f)
			}
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, errWire
		}
		b = b[n:]
	}
	if group != 0 {
		return 0, errWire
	}
	c.partial = c.partial || missing > 0
	return size, nil
}

// fieldOf finds a field or an extension; nil if there is none.
func (s *Set) fieldOf(m *message, num uint64) (*field, error) {
	f := m.find(num)
	if f == nil && m.extended != nil && m.extends(num) {
		return s.extension(m, num)
	}
	return f, nil
}

// field checks the value that b begins with, and returns its length.
func (c *checker) field(b []byte, f *field, wt uint8, depth int) (int, error) {
	switch wt {
	case startGroup:
		return c.message(b, f.msg, uint64(f.num), depth)
	case bytesType:
		v, n := readBytes(b)
		if n == 0 || c.request && n-len(v) > maxTag {
			return 0, errWire
		}
		return n, c.value(f, v, wt, depth)
	}
	_, n := readNumber(b, wt)
	return n, nil
}

// skip returns the length of a value that no field is for; 0 if it is malformed.
func (c *checker) skip(b []byte, num uint64, wt uint8, depth int) (int, error) {
	switch {
	case !c.request:
		return skip(b, num, wt), nil
	case wt == startGroup:
		return c.message(b, &message{}, num, depth)
	case wt == bytesType:
		if v, n := readBytes(b); n-len(v) <= maxTag {
			return n, nil
		}
		return 0, nil
	}
	return skip(b, num, wt), nil
}

// value checks a value without its length, or the content of a group.
func (c *checker) value(f *field, b []byte, wt uint8, depth int) error {
	switch f.op {
	case opString, opStrings:
		if f.utf8 && !utf8.Valid(b) {
			return errUTF8
		}
	case opMessage, opMessages, opGroup, opGroups:
		_, err := c.message(b, f.msg, 0, depth)
		return err
	case opMap:
		_, err := c.message(b, f.msg, 0, depth)
		return err
	case opNumbers:
		for wt == bytesType && len(b) > 0 {
			_, n := readNumber(b, f.elem.wireType())
			if n == 0 {
				return errWire
			}
			b = b[n:]
		}
	}
	return nil
}
