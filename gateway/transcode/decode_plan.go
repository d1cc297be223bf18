package transcode

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// defaultMaxDepth is how deep messages nest in JSON where Options do not say.
const defaultMaxDepth = 64

func (o Options) maxDepth() int {
	if o.MaxDepth > 0 {
		return o.MaxDepth
	}
	return defaultMaxDepth
}

// decodePlans are the plans that JSON is read by, one a message, of a Set. Those
// of what an Any holds and of extensions come with the first document that has
// them: how many there are is up to the resolver, not to who sends.
type decodePlans struct {
	readers sync.Pool // of *reader

	mu    sync.RWMutex
	plans map[protoreflect.MessageDescriptor]*decodePlan
	exts  map[string]*decodeField
	seed  maphash.Seed
}

// decodePlan says how JSON becomes the wire form of one message.
type decodePlan struct {
	md     protoreflect.MessageDescriptor
	known  known
	fields []*decodeField // as the message declares them
	byName map[string]*decodeField
	words  int // of bits that an object of it needs
	// required are the bits of the fields that must be there; nil where none must.
	required []uint64
	// refused is why no JSON of this message is taken.
	refused string
}

// decodeField says how the value of one field is read and written.
type decodeField struct {
	fd    protoreflect.FieldDescriptor
	name  string // in paths
	quick string // the JSON name, where it stands between quotes as it is
	kind  protoreflect.Kind
	shape decodeShape
	tag   string // as the wire has it
	end   string // the tag that ends a group
	wire  protowire.Type

	bit      int // among the fields of the message
	oneof    int // the bit of the oneof; 0 where there is none
	always   bool
	nullable bool // null is a value
	required bool
	extends  bool // it is an extension

	message    *decodePlan  // of messages and groups
	enum       *decodeEnum  // of enums
	key, value *decodeField // of maps
}

type decodeShape uint8

const (
	shapeOne  decodeShape = iota
	shapeList             // of unpacked elements
	shapePacked
	shapeMap
)

// decodeEnum is the values of an enum by name.
type decodeEnum struct {
	numbers map[string]int32
	wanted  string // the names, for those who sent none of them
}

// of returns the plan of a message, compiled with all that it nests at the first
// call.
func (s *decodePlans) of(md protoreflect.MessageDescriptor) *decodePlan {
	s.mu.RLock()
	p := s.plans[md]
	s.mu.RUnlock()
	if p != nil {
		return p
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compile(md)
}

// compile returns the plan of a message; s is locked until all that hangs on it is
// complete.
func (s *decodePlans) compile(md protoreflect.MessageDescriptor) *decodePlan {
	if p := s.plans[md]; p != nil {
		return p
	}
	if s.plans == nil {
		s.plans = map[protoreflect.MessageDescriptor]*decodePlan{}
		s.exts = map[string]*decodeField{}
		s.seed = maphash.MakeSeed()
	}
	p := &decodePlan{md: md, known: knownOf(md)}
	s.plans[md] = p // Before its fields: a message may nest itself.
	fds := md.Fields()
	bit := fds.Len()
	oneofs := map[protoreflect.Name]int{}
	for i := range fds.Len() {
		f := s.field(fds.Get(i))
		f.bit = i
		if od := f.fd.ContainingOneof(); od != nil && !od.IsSynthetic() {
			if oneofs[od.Name()] == 0 {
				oneofs[od.Name()] = bit
				bit++
			}
			f.oneof = oneofs[od.Name()]
		}
		p.fields = append(p.fields, f)
	}
	p.words = (bit + 63) / 64
	p.names()
	for _, f := range p.fields {
		if f.required {
			if p.required == nil {
				p.required = make([]uint64, p.words)
			}
			p.required[f.bit/64] |= 1 << (f.bit % 64)
		}
	}
	p.refused = p.refusal()
	return p
}

// names fills byName as protojson looks names up: the JSON name first, then the
// name of the text format; those of groups also in lower case.
func (p *decodePlan) names() {
	p.byName = map[string]*decodeField{}
	fds := p.md.Fields()
	for _, f := range p.fields {
		json, text := f.fd.JSONName(), f.fd.TextName()
		for _, name := range []string{json, text, string(f.fd.Name()), strings.ToLower(json), strings.ToLower(text)} {
			if isExtensionName(name) {
				continue
			}
			fd := fds.ByJSONName(name)
			if fd == nil {
				fd = fds.ByTextName(name)
			}
			if fd != nil {
				p.byName[name] = p.fields[fd.Index()]
			}
		}
	}
	for _, f := range p.fields {
		if name := f.fd.JSONName(); p.byName[name] == f && name != typeName && unescaped(name) {
			f.quick = name
		}
	}
}

// unescaped says whether a name means itself between quotes.
func unescaped(name string) bool {
	for _, c := range []byte(name) {
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return false
		}
	}
	return name != ""
}

func isExtensionName(name string) bool {
	return strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]")
}

// refusal says why no JSON of the message is taken, if so.
func (p *decodePlan) refusal() string {
	if set, ok := p.md.(interface{ IsMessageSet() bool }); ok && set.IsMessageSet() && p.known == knownNone {
		return "is of a type that has no JSON form: a MessageSet"
	}
	if !p.known.fits(p.md) {
		return fmt.Sprintf("is of a type that is not the %s it is named after", p.md.FullName())
	}
	return ""
}

// field compiles a field, or an extension.
func (s *decodePlans) field(fd protoreflect.FieldDescriptor) *decodeField {
	f := &decodeField{fd: fd, name: string(fd.Name()), kind: fd.Kind(), required: fd.Cardinality() == protoreflect.Required}
	if f.extends = fd.IsExtension(); f.extends {
		f.name = "[" + string(fd.FullName()) + "]"
	}
	f.wire = wireType(f.kind)
	typ := f.wire
	switch {
	case fd.IsMap():
		f.shape = shapeMap
		f.key, f.value = s.field(fd.MapKey()), s.field(fd.MapValue())
		f.key.always, f.value.always = true, true
	case fd.IsPacked():
		f.shape, typ = shapePacked, protowire.BytesType
	case fd.IsList():
		f.shape = shapeList
	}
	f.always = fd.HasPresence() || f.shape != shapeOne
	f.tag = string(protowire.AppendTag(nil, fd.Number(), typ))
	switch f.kind {
	case protoreflect.EnumKind:
		f.enum = newDecodeEnum(fd.Enum())
		f.nullable = fd.Enum().FullName() == "google.protobuf.NullValue"
	case protoreflect.GroupKind:
		f.end = string(protowire.AppendTag(nil, fd.Number(), protowire.EndGroupType))
		f.message = s.compile(fd.Message())
		f.nullable = f.message.known == knownValue
	case protoreflect.MessageKind:
		if f.shape != shapeMap {
			f.message = s.compile(fd.Message())
			f.nullable = f.message.known == knownValue
		}
	}
	return f
}

// maxEnumNames is how many values of an enum an error lists.
const maxEnumNames = 10

func newDecodeEnum(ed protoreflect.EnumDescriptor) *decodeEnum {
	e := &decodeEnum{numbers: map[string]int32{}}
	vs := ed.Values()
	var names []string
	for i := range vs.Len() {
		name := string(vs.Get(i).Name())
		e.numbers[name] = int32(vs.ByName(vs.Get(i).Name()).Number())
		names = append(names, name)
	}
	e.wanted = "one of " + strings.Join(names[:min(len(names), maxEnumNames)], ", ")
	if more := len(names) - maxEnumNames; more > 0 {
		e.wanted += fmt.Sprintf(" and %d others", more)
	}
	return e
}

// wireType is how the wire carries a value of the kind by itself.
func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	default:
		return protowire.VarintType
	}
}

// extension returns the field of an extension by its full name; nil where the
// message has none of that name.
func (s *decodePlans) extension(types Resolver, p *decodePlan, name []byte) *decodeField {
	s.mu.RLock()
	f := s.exts[string(name)]
	s.mu.RUnlock()
	if f == nil {
		xt, err := types.FindExtensionByName(protoreflect.FullName(name))
		if err != nil || xt == nil {
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		f = s.field(xt.TypeDescriptor())
		s.exts[string(name)] = f
	}
	if !p.md.ExtensionRanges().Has(f.fd.Number()) || f.fd.ContainingMessage().FullName() != p.md.FullName() {
		return nil
	}
	return f
}

// missing is the first required field that an object has not had, or nil.
func (p *decodePlan) missing(seen []uint64) *decodeField {
	for i, want := range p.required {
		if lack := want &^ seen[i]; lack != 0 {
			return p.fields[i*64+bits.TrailingZeros64(lack)]
		}
	}
	return nil
}

// Requires says whether the message, or one nested in it, has required fields. What an
// Any holds is not looked at, for it may lack them.
func (p *Plan) Requires() bool { return p.in.requires(map[*decodePlan]bool{}) }

func (p *decodePlan) requires(seen map[*decodePlan]bool) bool {
	if p == nil || seen[p] {
		return false
	}
	seen[p] = true
	for _, f := range p.fields {
		if f.required || f.message.requires(seen) || f.value != nil && f.value.message.requires(seen) {
			return true
		}
	}
	return false
}
