package transcode

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const endsEarly = "it ends too early"

// fail keeps what is wrong at a place, and is false.
func (d *reader) fail(at int, reason string) bool {
	d.err = &Error{Offset: at, Reason: reason}
	d.joint = ""
	return false
}

// notJSON is fail for what is no JSON at all, so that nothing behind it can be read.
func (d *reader) notJSON(at int, why string) bool {
	d.fail(at, "is not JSON: "+why)
	d.err.syntax = true
	return false
}

// failField is fail about a field of what is being read.
func (d *reader) failField(at int, name, reason string) bool {
	d.fail(at, reason)
	return d.within(name)
}

// want says what is wanted where something else is; it is false.
func (d *reader) want(what string) bool {
	c := d.next()
	at := d.pos
	switch {
	case at >= len(d.in):
		return d.notJSON(at, endsEarly)
	case c == '"' || c == '{' || c == '[' || c == '-' || isDigit(c) || d.literal("null") || d.literal("true") || d.literal("false"):
		return d.fail(at, "must be "+what)
	}
	return d.notJSON(at, "a value is wanted here")
}

func (d *reader) tooDeep() bool {
	return d.fail(d.pos, "is nested deeper than "+strconv.Itoa(d.most)+" messages")
}

// integerNames names the integers from -low to high.
func integerNames(low, high uint64) string {
	from := "0"
	if low > 0 {
		from = "-" + strconv.FormatUint(low, 10)
	}
	return "an integer from " + from + " to " + strconv.FormatUint(high, 10)
}

func (d *reader) wantInteger(at int, low, high uint64) bool {
	return d.fail(at, "must be "+integerNames(low, high))
}

// wantFloat says what is wrong with a number, or with what is none.
func (d *reader) wantFloat(at int, s []byte, size int) bool {
	_, n := splitNumber(s)
	if n == 0 || (n != len(s) && d.in[at] == '"') {
		return d.fail(at, "must be "+wantedFloat)
	}
	most := maxFloat64
	if size == 32 {
		most = maxFloat32
	}
	return d.fail(at, "must be a number from -"+most+" to "+most)
}

const wantedFloat = "a number, \"NaN\", \"Infinity\" or \"-Infinity\""

const (
	maxFloat32 = "3.4028234663852886e+38"
	maxFloat64 = "1.7976931348623157e+308"
)

// maxPath is how long a path grows, and maxSent how much of a name that was sent it
// shows, in bytes.
const (
	maxPath = 512
	maxSent = 64
)

// within puts the name of what the error is in before its path; it is false.
func (d *reader) within(name string) bool {
	d.err.within(name, d.joint)
	d.joint = "."
	return false
}

func (e *Error) within(name, joint string) {
	if e.Field == "" {
		joint = ""
	}
	switch path := e.Field; {
	case len(path) < maxPath:
		e.Field = name + joint + path
	case !strings.HasPrefix(path, "…"):
		e.Field = "…" + joint + path
	}
}

// shown is a name that was sent, as an error may show it: bounded and printable.
func shown(sent []byte) string {
	s := string(sent[:min(len(sent), maxSent)])
	if len(sent) > maxSent {
		for s != "" && !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}

// locate fills line and column in from the offset.
func (e *Error) locate(data []byte) {
	before := data[:min(e.Offset, len(data))]
	e.Line = bytes.Count(before, []byte{'\n'}) + 1
	e.Column = len(before) - bytes.LastIndexByte(before, '\n')
}

// oneofReason names the other fields of a oneof that an object has had. One that was null,
// and so did not count, is among them.
func (p *decodePlan) oneofReason(f *decodeField, seen []uint64) string {
	var names []string
	for _, other := range p.fields {
		if other != f && other.oneof == f.oneof && seen[other.bit/64]&(1<<(other.bit%64)) != 0 && len(names) < maxEnumNames {
			names = append(names, other.name)
		}
	}
	return "excludes " + strings.Join(names, ", ") + ", which is given, too: they are of one oneof"
}
