package transcode

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// typeName is the name in an Any of what it holds.
const typeName = "@type"

// any reads a google.protobuf.Any. Its type may stand behind the fields that it is
// the type of, so it is looked for first; then the object is read as that type.
func (d *reader) any() bool {
	if d.next() != '{' {
		return d.want("an object")
	}
	// protojson bounds what is nested in here by counting objects and arrays, too.
	openMax, partial, clears, enough := d.openMax, d.partial, d.clears, d.enough
	d.openMax, d.partial, d.clears, d.enough = min(d.openMax, d.open+1+d.depth), true, false, 0
	ok := d.anyHere()
	d.openMax, d.partial, d.clears, d.enough = openMax, partial, clears, enough
	return ok
}

func (d *reader) anyHere() bool {
	start := d.pos
	at, isEmpty, ok := d.typeOf(start)
	if !ok {
		return false
	}
	if isEmpty {
		return d.enter('{', "") && d.leave('}')
	}
	d.pos = at
	url, _, ok := d.string("the URL of a type in a string")
	if !ok {
		return d.within(typeName)
	}
	p := d.resolve(string(url))
	if p == nil {
		return d.failField(at, typeName, "must name a type that is known here")
	}
	d.out = append(d.out, anyURLTag)
	d.out = protowire.AppendVarint(d.out, uint64(len(url)))
	d.out = append(d.out, url...)
	tagged := len(d.out)
	d.out = append(d.out, anyValueTag)
	from := d.reserve(1)
	d.pos = start
	if !d.held(p) {
		return false
	}
	if len(d.out) == from {
		d.out = d.out[:tagged]
		return true
	}
	d.measure(from, 1)
	return true
}

// held reads the object that an Any is as the message that it holds. For protojson
// that message is one level more, unless it is well-known.
func (d *reader) held(p *decodePlan) bool {
	if p.known != knownNone {
		return d.wrapped(p)
	}
	if p.refused != "" {
		return d.fail(d.pos, p.refused)
	}
	if d.depth == 0 {
		return d.tooDeep()
	}
	d.depth--
	ok := d.object(p, true)
	d.depth++
	return ok
}

const (
	anyURLTag   = 1<<3 | byte(protowire.BytesType)
	anyValueTag = 2<<3 | byte(protowire.BytesType)
)

// resolve returns the plan of the type that a URL names, or nil.
func (d *reader) resolve(url string) *decodePlan {
	if url == "" {
		return nil
	}
	mt, err := d.types.FindMessageByURL(url)
	if err != nil || mt == nil {
		return nil
	}
	return d.plans.of(mt.Descriptor())
}

// wrapped reads an Any that holds a well-known type, whose JSON is its value.
func (d *reader) wrapped(p *decodePlan) bool {
	start := d.pos
	if !d.enter('{', "an object") {
		return false
	}
	typed, found := false, false
	var ok bool
	for again := true; again; {
		if d.next() != '"' {
			return d.wantName()
		}
		at := d.pos
		name, ok2 := d.text()
		if !ok2 {
			return false
		}
		switch {
		case string(name) == typeName:
			if !d.typeAgain(at, &typed) {
				return false
			}
		case string(name) != "value":
			return d.failField(at, shown(name), reasonUnknown)
		case found:
			return d.failField(at, "value", reasonTwice)
		default:
			found = true
			if !d.colon() || !d.body(p) {
				return d.within("value")
			}
		}
		if again, ok = d.more('}'); !ok {
			return false
		}
	}
	if !found && p.known != knownEmpty {
		return d.failField(start, "value", reasonRequired)
	}
	return true
}

// typeAgain reads the value of @type once more, and refuses a second one.
func (d *reader) typeAgain(at int, typed *bool) bool {
	if *typed {
		return d.failField(at, typeName, reasonTwice)
	}
	*typed = true
	if !d.colon() {
		return false
	}
	if _, _, ok := d.string("the URL of a type in a string"); !ok {
		return d.within(typeName)
	}
	return true
}

// typeOf returns where the value of @type is in the object at a place. Mostly that
// is its first member. Where it is not, one walk over the outermost Any finds those
// of all that are nested in it: a walk for each would be quadratic.
func (d *reader) typeOf(start int) (at int, isEmpty, ok bool) {
	d.pos = start + 1
	switch d.next() {
	case '}':
		d.pos = start
		return 0, true, true
	case '"':
		name, ok := d.text()
		if !ok {
			return 0, false, false
		}
		if string(name) == typeName {
			if !d.colon() {
				return 0, false, false
			}
			d.next()
			return d.pos, false, true
		}
	default:
		return 0, false, d.wantName()
	}
	if start >= d.typesAt.until {
		d.typesAt.walked = d.typesAt.walked[:0]
		if !d.walk(start) {
			return 0, false, false
		}
	}
	if at, ok = d.typesAt.find(start); !ok {
		return 0, false, d.failField(start, typeName, reasonRequired)
	}
	return at, false, true
}

// typeIndex is where objects have their @type, for all of a part of the document.
type typeIndex struct {
	until  int // the end of that part
	walked []typeAt
	stack  []int // the objects that are open, by where they begin; -1 is an array
}

type typeAt struct{ object, value int }

func (t *typeIndex) reset() { t.until, t.walked, t.stack = 0, t.walked[:0], t.stack[:0] }

func (t *typeIndex) release() {
	if cap(t.walked) > maxKept/16 {
		t.walked = nil
	}
}

// find returns where the value of the @type of an object is, the first if it has
// several.
func (t *typeIndex) find(object int) (int, bool) {
	i, ok := slices.BinarySearchFunc(t.walked, object, func(e typeAt, o int) int { return e.object - o })
	if !ok {
		return 0, false
	}
	return t.walked[i].value, true
}

// walk fills the index for the object at a place. It only follows strings and
// brackets: what it takes for JSON is read properly afterwards.
func (d *reader) walk(start int) bool {
	t := &d.typesAt
	t.stack = t.stack[:0]
	for d.pos = start; ; {
		switch c := d.next(); c {
		case '{', '[':
			object := d.pos
			if c == '[' {
				object = -1
			}
			t.stack = append(t.stack, object)
			if len(t.stack) > d.openMax-d.open {
				return d.tooDeep()
			}
			d.pos++
		case '}', ']':
			d.pos++
			if t.stack = t.stack[:len(t.stack)-1]; len(t.stack) == 0 {
				t.until = d.pos
				slices.SortFunc(t.walked, func(a, b typeAt) int {
					if a.object != b.object {
						return a.object - b.object
					}
					return a.value - b.value
				})
				return true
			}
		case '"':
			name, ok := d.text()
			if !ok {
				return false
			}
			if object := t.stack[len(t.stack)-1]; object >= 0 && string(name) == typeName && d.next() == ':' {
				d.pos++
				d.next()
				t.walked = append(t.walked, typeAt{object, d.pos})
			}
		default:
			if d.pos >= len(d.in) {
				return d.notJSON(d.pos, endsEarly)
			}
			d.pos++
		}
	}
}
