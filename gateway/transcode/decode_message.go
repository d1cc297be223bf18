package transcode

import (
	"encoding/binary"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// message reads the JSON of a message and writes its fields, without a tag or a
// length.
func (d *reader) message(p *decodePlan) bool {
	if d.depth == 0 {
		return d.tooDeep()
	}
	d.depth--
	ok := d.body(p)
	d.depth++
	return ok
}

// body is message for one that an Any holds directly, which is no level more.
func (d *reader) body(p *decodePlan) bool {
	if p.refused != "" {
		return d.fail(d.pos, p.refused)
	}
	if p.known == knownNone {
		return d.object(p, false)
	}
	return d.knownMessage(p)
}

// object reads the fields of a message; inAny says that @type stands among them.
func (d *reader) object(p *decodePlan, inAny bool) bool {
	if !d.enter('{', "an object") {
		return false
	}
	base, baseExt := len(d.seen), len(d.seenExt)
	for range p.words {
		d.seen = append(d.seen, 0)
	}
	ok := d.members(p, base, baseExt, inAny)
	if ok && p.required != nil && !d.partial {
		if f := p.missing(d.seen[base:]); f != nil {
			ok = d.failField(d.pos-1, f.name, reasonRequired)
		}
	}
	d.seen, d.seenExt = d.seen[:base], d.seenExt[:baseExt]
	return ok
}

const (
	reasonRequired = "is required"
	reasonTwice    = "given twice"
	reasonUnknown  = "unknown field"
)

// members reads what stands between the braces. Bodies mostly name their fields in
// the order of the message, so each field is looked for behind the one before.
func (d *reader) members(p *decodePlan, base, baseExt int, inAny bool) bool {
	if d.leave('}') {
		return true
	}
	guess, typed := 0, false
	first := len(d.found)
	from := first
	for again := true; again; {
		if d.next() != '"' {
			return d.wantName()
		}
		at, name := d.pos, ""
		f, ok := d.guessed(p, guess), true
		if f == nil {
			f, ok = d.named(p, inAny)
		}
		switch {
		case !ok:
		case f == nil: // It is @type, which has been read before.
			ok = d.typeAgain(at, &typed)
		default:
			guess = f.bit + 1
			if ok = d.member(p, f, at, base, baseExt); !ok {
				name = f.name
			}
		}
		if !ok && !d.resume(name, ".", at, &from) {
			return false
		}
		if again, ok = d.more('}'); !ok {
			return false
		}
	}
	return from == first
}

func (d *reader) wantName() bool {
	if d.pos >= len(d.in) {
		return d.notJSON(d.pos, endsEarly)
	}
	return d.notJSON(d.pos, "a name in quotes is wanted here")
}

// guessed reads the name of one of the next fields of the message, if that is what
// comes.
func (d *reader) guessed(p *decodePlan, from int) *decodeField {
	rest := d.in[d.pos+1:]
	for i := from; i < len(p.fields) && i < from+3; i++ {
		f := p.fields[i]
		if n := len(f.quick); n > 0 && n < len(rest) && rest[n] == '"' && string(rest[:n]) == f.quick {
			d.pos += n + 2
			return f
		}
	}
	return nil
}

// named reads a name and finds its field; none where it is the @type of an Any.
func (d *reader) named(p *decodePlan, inAny bool) (*decodeField, bool) {
	at := d.pos
	name, ok := d.text()
	if !ok {
		return nil, false
	}
	if inAny && string(name) == typeName {
		return nil, true
	}
	if f := p.byName[string(name)]; f != nil {
		return f, true
	}
	if n := len(name); n > 1 && name[0] == '[' && name[n-1] == ']' {
		if f := d.plans.extension(d.types, p, name[1:n-1]); f != nil {
			return f, true
		}
	}
	return nil, d.failField(at, shown(name), reasonUnknown)
}

// member reads the value of a field, whose name has been read, and writes it.
func (d *reader) member(p *decodePlan, f *decodeField, at, base, baseExt int) bool {
	if !d.first(f, base, baseExt) {
		return d.fail(at, reasonTwice)
	}
	if !d.colon() {
		return false
	}
	if d.next() == 'n' && (!f.nullable || d.clears) && d.literal("null") { // As if it were not there.
		if f.required && !d.partial {
			return d.fail(d.pos-len("null"), reasonRequired)
		}
		return true
	}
	if f.oneof > 0 {
		word, bit := base+f.oneof/64, uint64(1)<<(f.oneof%64)
		if d.seen[word]&bit != 0 {
			return d.fail(at, p.oneofReason(f, d.seen[base:]))
		}
		d.seen[word] |= bit
	}
	return d.field(f)
}

// first notes that an object has a field, and is false where it has had it before.
func (d *reader) first(f *decodeField, base, baseExt int) bool {
	if f.extends {
		n := int32(f.fd.Number())
		for _, had := range d.seenExt[baseExt:] {
			if had == n {
				return false
			}
		}
		d.seenExt = append(d.seenExt, n)
		return true
	}
	word, bit := base+f.bit/64, uint64(1)<<(f.bit%64)
	if d.seen[word]&bit != 0 {
		return false
	}
	d.seen[word] |= bit
	return true
}

// field reads the value of a field and writes it, in whatever shape it has.
func (d *reader) field(f *decodeField) bool {
	if f.shape == shapeOne {
		return d.value(f, new(int))
	}
	clears := d.clears
	d.clears = false // An element is replaced whole, so null is a value in it.
	var ok bool
	if f.shape == shapeMap {
		ok = d.mapping(f)
	} else {
		ok = d.list(f)
	}
	d.clears = clears
	return ok
}

// value reads one value and writes it behind the field's tag. guess is how many
// bytes the length of the last one took; 0 is that there was none.
func (d *reader) value(f *decodeField, guess *int) bool {
	switch f.kind {
	case protoreflect.MessageKind:
		d.out = append(d.out, f.tag...)
		n := max(*guess, 1)
		start := d.reserve(n)
		if !d.message(f.message) {
			return false
		}
		*guess = d.measure(start, n)
		return true
	case protoreflect.GroupKind:
		d.out = append(d.out, f.tag...)
		if !d.message(f.message) {
			return false
		}
		d.out = append(d.out, f.end...)
		return true
	case protoreflect.StringKind:
		return d.stringValue(f)
	case protoreflect.BytesKind:
		return d.bytesValue(f)
	}
	v, ok := d.number(f)
	if !ok {
		return false
	}
	if v != 0 || f.always {
		d.out = append(d.out, f.tag...)
		d.appendNumber(f, v)
	}
	return true
}

func (d *reader) appendNumber(f *decodeField, v uint64) {
	switch f.wire {
	case protowire.Fixed32Type:
		d.out = binary.LittleEndian.AppendUint32(d.out, uint32(v))
	case protowire.Fixed64Type:
		d.out = binary.LittleEndian.AppendUint64(d.out, v)
	default:
		d.out = protowire.AppendVarint(d.out, v)
	}
}

// list reads an array and writes its elements.
func (d *reader) list(f *decodeField) bool {
	if !d.enter('[', "an array") {
		return false
	}
	if d.leave(']') {
		return true
	}
	var start, guess int
	if f.shape == shapePacked {
		d.out = append(d.out, f.tag...)
		start = d.reserve(1)
	}
	first := len(d.found)
	from := first
	for i, again := 0, true; again; i++ {
		var ok bool
		at := d.pos
		if f.shape == shapePacked {
			var v uint64
			if v, ok = d.number(f); ok {
				d.appendNumber(f, v)
			}
		} else {
			ok = d.value(f, &guess)
		}
		if !ok && !d.resume("["+strconv.Itoa(i)+"]", "", at, &from) {
			return false
		}
		if again, ok = d.more(']'); !ok {
			return false
		}
	}
	if f.shape == shapePacked {
		d.measure(start, 1)
	}
	return from == first
}

// mapping reads the object that is a map and writes its entries.
func (d *reader) mapping(f *decodeField) bool {
	if !d.enter('{', "an object") {
		return false
	}
	if d.leave('}') {
		return true
	}
	keys := d.keys.push()
	ok := d.entries(f, keys)
	d.keys.pop(keys)
	return ok
}

func (d *reader) entries(f *decodeField, keys keyFrame) bool {
	first := len(d.found)
	from := first
	guess, guessValue := 1, 0
	for again := true; again; {
		if d.next() != '"' {
			return d.wantName()
		}
		at := d.pos
		ok, keyed := d.entry(f, keys, &guess, &guessValue)
		if !ok {
			name := ""
			if keyed {
				name = d.keyName(at, f.key)
			}
			if !d.resume(name, "", at, &from) {
				return false
			}
		}
		if again, ok = d.more('}'); !ok {
			return false
		}
	}
	return from == first
}

// entry reads one entry of a map; keyed says that the key is right, whatever the value.
func (d *reader) entry(f *decodeField, keys keyFrame, guess, guessValue *int) (ok, keyed bool) {
	at := d.pos
	d.out = append(d.out, f.tag...)
	start := d.reserve(*guess)
	if !d.mapKey(f.key) {
		return false, false
	}
	key, fresh := d.keys.add(keys, d.out, start, d.plans.seed)
	if !fresh {
		return d.fail(at, reasonTwice), true
	}
	if !d.colon() || !d.value(f.value, guessValue) {
		return false, true
	}
	n := d.measure(start, *guess)
	d.keys.move(key, n-*guess)
	*guess = n
	return true, true
}

// mapKey reads a name as the key of a map and writes it.
func (d *reader) mapKey(f *decodeField) bool {
	if f.kind == protoreflect.StringKind {
		return d.stringValue(f)
	}
	at := d.pos
	s, ok := d.text()
	if !ok {
		return false
	}
	v, ok := keyNumber(f.kind, s)
	if !ok {
		return d.fail(at, "must have keys that are "+keyWanted(f.kind))
	}
	d.out = append(d.out, f.tag...)
	d.appendNumber(f, v)
	return true
}
