package transcode

import (
	"strconv"
)

// Error is what is wrong with JSON that a plan has been given.
type Error struct {
	// Field is the path of the field in proto names, as in BadRequest details;
	// empty where the whole is no JSON value of the message.
	Field string
	// Offset is the position in bytes, Line and Column count from 1, in bytes.
	Offset, Line, Column int
	// Reason says what is wrong; it quotes nothing of what was sent but names.
	Reason string

	syntax bool
}

// IsSyntax says that what was read is no JSON at all.
func (e *Error) IsSyntax() bool { return e.syntax }

func (e *Error) Error() string {
	where := ""
	if e.Line > 0 {
		where = " (line " + strconv.Itoa(e.Line) + ", column " + strconv.Itoa(e.Column) + ")"
	}
	if e.Field == "" {
		return e.Reason + where
	}
	return e.Field + ": " + e.Reason + where
}

// AppendWire appends the wire form of a message, given as JSON, to dst. Its error
// is an *Error; dst is then returned as it was. It keeps neither slice.
//
// It takes what protojson.Unmarshal takes, with a RecursionLimit of MaxDepth, save
// that an exponent must have digits (RFC 8259): protojson reads 1e as 1. Fields
// are written in the order in which they come; those without presence are left out
// where they are zero. Inside an Any, too: unlike protojson, it does not sort them.
func (p *Plan) AppendWire(dst, data []byte) ([]byte, error) {
	d := p.set.reader(dst, data)
	return d.end(d.whole(p), dst, data)
}

// reader returns one of the set's that is ready for a document.
func (s *Set) reader(dst, data []byte) *reader {
	d, ok := s.in.readers.Get().(*reader)
	if !ok {
		d = &reader{}
	}
	d.begin(&s.in, s, dst, data)
	return d
}

// end gives the reader back, and returns what it has written, or its error and dst.
func (d *reader) end(ok bool, dst, data []byte) ([]byte, error) {
	out, err, plans := d.out, d.err, d.plans
	d.release()
	plans.readers.Put(d)
	if !ok {
		if data != nil { // A text has no lines.
			err.locate(data)
		}
		return dst, err
	}
	return out, nil
}

// whole reads the one value of the document and what is behind it.
func (d *reader) whole(p *Plan) bool {
	if p.field == nil {
		if from := 0; !d.message(p.in) && !d.resume("", "", 0, &from) {
			return false
		}
	} else if f := p.in.fields[p.field.Index()]; !d.alone(f) {
		if from := 0; !d.resume(f.name, ".", 0, &from) {
			return false
		}
	}
	if d.next(); d.pos < len(d.in) {
		return d.notJSON(d.pos, "something follows the value")
	}
	return len(d.found) == 0
}

// alone reads the value of a field that is the whole document; null leaves it unset.
func (d *reader) alone(f *decodeField) bool {
	plain := d.request && f.nests() != nil && f.message.known == knownNone // A request without its message is no call.
	if d.next() == 'n' && (!f.nullable || d.clears) && !plain && d.literal("null") {
		return true
	}
	return d.field(f)
}

// reader turns one JSON document into wire bytes, in one pass: in is read from
// pos on, and out grows. What fails returns false and leaves err; on the way back
// each level puts its name before the path.
type reader struct {
	in  []byte
	pos int
	out []byte

	plans   *decodePlans
	types   Resolver
	depth   int  // messages that may still be entered
	most    int  // those there were at first
	open    int  // objects and arrays that are open
	openMax int  // what open may be: only inside an Any does protojson count them
	partial bool // required fields may be missing: inside an Any, and in a request
	request bool // of a REST call: see AppendRequest
	clears  bool // null leaves any field unset, be it a google.protobuf.Value
	err     *Error
	joint   string // what goes between a name and the path that err has so far

	// found is what is wrong, where all of it is wanted: at most enough errors, 0 where
	// the first one ends the reading.
	found  []finding
	enough int

	// Stacks that the levels share, so that none of them allocates.
	seen    []uint64 // the fields and oneofs that an object has had, a bit each
	seenExt []int32  // the extensions it has had, by number
	keys    keyStack // the keys that a map has had
	scratch []byte   // a string without its escapes
	quoted  []byte   // a text as JSON has it
	starts  []int    // of the messages that lead to a text's field
	typesAt typeIndex
}

// begin makes the reader ready for a document.
func (d *reader) begin(plans *decodePlans, s *Set, dst, data []byte) {
	d.in, d.pos, d.out = data, 0, dst
	d.plans, d.types = plans, s.types
	d.most = s.o.maxDepth()
	d.depth = d.most
	d.open, d.openMax = 0, int(^uint(0)>>1)
	d.partial, d.request, d.clears, d.enough = false, false, false, 0
	d.seen, d.seenExt = d.seen[:0], d.seenExt[:0]
	d.keys.reset()
	d.typesAt.reset()
}

// maxKept is how much of a stack, in bytes or so, waits for the next document.
const maxKept = 64 << 10

// release lets go of everything that is the caller's, and of what an unusual
// document has made large.
func (d *reader) release() {
	d.in, d.out, d.err, d.found, d.types, d.plans = nil, nil, nil, nil, nil, nil
	if cap(d.quoted) > maxKept {
		d.quoted = nil
	}
	if cap(d.scratch) > maxKept {
		d.scratch = nil
	}
	if cap(d.seen) > maxKept/8 {
		d.seen = nil
	}
	d.keys.release()
	d.typesAt.release()
}

// reserve leaves n bytes for a length and returns where what it measures begins.
func (d *reader) reserve(n int) int {
	for range n {
		d.out = append(d.out, 0)
	}
	return len(d.out)
}

// measure writes the length of what has been written since start into the n bytes
// before it; where it needs more or fewer than those, what was written moves. It
// returns how many it needed, which is a good guess for the next of its kind.
func (d *reader) measure(start, n int) int {
	size := len(d.out) - start
	if size < 1<<7 && n == 1 {
		d.out[start-1] = byte(size)
		return 1
	}
	need := 1
	for v := size; v >= 1<<7; v >>= 7 {
		need++
	}
	switch {
	case need > n:
		for range need - n {
			d.out = append(d.out, 0)
		}
		copy(d.out[start+need-n:], d.out[start:start+size])
	case need < n:
		copy(d.out[start+need-n:], d.out[start:])
		d.out = d.out[:len(d.out)-(n-need)]
	}
	at := start - n
	for v := size; ; at++ {
		if v < 1<<7 {
			d.out[at] = byte(v)
			return need
		}
		d.out[at] = byte(v) | 1<<7
		v >>= 7
	}
}
