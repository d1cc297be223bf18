package transcode

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const reasonEnd = "is not JSON: it ends too early"

// fail keeps what is wrong at a place, and is false.
func (d *reader) fail(at int, reason string) bool {
	d.err = &Error{Offset: at, Reason: reason}
	d.joint = ""
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
		return d.fail(at, reasonEnd)
	case c == '"' || c == '{' || c == '[' || c == '-' || isDigit(c) || d.literal("null") || d.literal("true") || d.literal("false"):
		return d.fail(at, "must be "+what)
	}
	return d.fail(at, "is not JSON: a value is wanted here")
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
	d.prepend(name, d.joint)
	d.joint = "."
	return false
}

// element puts the position in a list before the path of the error; it is false.
func (d *reader) element(i int) bool {
	d.prepend("["+strconv.Itoa(i)+"]", d.joint)
	d.joint = ""
	return false
}

func (d *reader) prepend(name, joint string) {
	if d.err.Field == "" {
		joint = ""
	}
	switch path := d.err.Field; {
	case len(path) < maxPath:
		d.err.Field = name + joint + path
	case !strings.HasPrefix(path, "…"):
		d.err.Field = "…" + joint + path
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

// oneofReason names the fields of a oneof, of which two were given.
func oneofReason(f *decodeField) string {
	fds := f.fd.ContainingOneof().Fields()
	names := make([]string, 0, maxEnumNames)
	for i := range min(fds.Len(), maxEnumNames) {
		names = append(names, string(fds.Get(i).Name()))
	}
	what := strings.Join(names, ", ")
	if more := fds.Len() - maxEnumNames; more > 0 {
		what += " and " + strconv.Itoa(more) + " others"
	}
	return "only one may be given of " + what
}
