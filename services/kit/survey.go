package kit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A survey is the cheap look at a message before its rules are asked. It refuses
// what would make asking them expensive, and counts what they will be asked of:
// protovalidate gathers a violation for every wrong value, and 1 MiB of a request
// has room for 349,000 empty lines of an order.
type survey struct {
	// values counts list elements, map entries and nested messages.
	values int
	depth  int
}

// maxDepth is how deep messages may nest, as in the C++ and Java protobuf
// runtimes: the paths of what is wrong grow with the depth.
const maxDepth = 100

// flaw is what a survey refuses a message for.
type flaw struct{ path, reason, text string }

// message returns the first flaw of m, or nil: a list or map longer than its rule
// allows, a string with a NUL character, or nesting too deep. PostgreSQL cannot
// store a NUL and SQLite can: the engines must agree, and the caller must not get
// an INTERNAL for its own mistake.
func (s *survey) message(m protoreflect.Message, sh *shape) *flaw {
	s.depth++
	for i := range sh.fields {
		f := &sh.fields[i]
		if !m.Has(f.desc) {
			continue
		}
		var bad *flaw
		switch v := m.Get(f.desc); {
		case f.desc.IsMap():
			bad = s.pairs(f, v.Map())
		case f.desc.IsList():
			bad = s.items(f, v.List())
		default:
			s.values++
			bad = s.value(f, v)
		}
		if bad != nil {
			bad.path = f.name + bad.path
			return bad
		}
	}
	s.depth--
	return nil
}

func (s *survey) items(f *fieldShape, list protoreflect.List) *flaw {
	n := list.Len()
	if uint64(n) > f.most {
		return &flaw{reason: "repeated.max_items", text: fmt.Sprintf("must contain no more than %d item(s)", f.most)}
	}
	s.values += n
	if !f.text && f.sub == nil {
		return nil
	}
	for i := range n {
		if bad := s.value(f, list.Get(i)); bad != nil {
			bad.path = "[" + strconv.Itoa(i) + "]" + bad.path
			return bad
		}
	}
	return nil
}

func (s *survey) pairs(f *fieldShape, pairs protoreflect.Map) (bad *flaw) {
	n := pairs.Len()
	if uint64(n) > f.most {
		return &flaw{reason: "map.max_pairs", text: fmt.Sprintf("map must be at most %d entries", f.most)}
	}
	s.values += n
	if !f.textKey && !f.text && f.sub == nil {
		return nil
	}
	pairs.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		if f.textKey && hasNUL(k.String()) {
			bad = nulFlaw()
		} else if bad = s.value(f, v); bad != nil {
			bad.path = subscript(f, k) + bad.path
		}
		return bad == nil
	})
	return bad
}

// subscript is how a path names an entry, as protovalidate does.
func subscript(f *fieldShape, k protoreflect.MapKey) string {
	if f.textKey {
		return "[" + strconv.Quote(shortened(k.String(), maxKeyBytes)) + "]"
	}
	return "[" + k.String() + "]"
}

// value looks at a single value, an element or the value of an entry.
func (s *survey) value(f *fieldShape, v protoreflect.Value) *flaw {
	switch {
	case f.text && hasNUL(v.String()):
		return nulFlaw()
	case f.sub == nil:
		return nil
	case s.depth == maxDepth:
		return &flaw{reason: "message.depth", text: fmt.Sprintf("is nested deeper than %d messages", maxDepth)}
	}
	bad := s.message(v.Message(), f.sub)
	if bad != nil {
		bad.path = "." + bad.path
	}
	return bad
}

func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }

func nulFlaw() *flaw {
	return &flaw{reason: "string.nul", text: "must not hold a NUL character"}
}

// shapes holds the shape of every message type that was surveyed, compiled once.
// It is safe for concurrent use.
type shapes struct {
	known sync.Map // protoreflect.MessageDescriptor -> *shape
}

func (s *shapes) of(md protoreflect.MessageDescriptor) *shape {
	if sh, ok := s.known.Load(md); ok {
		return sh.(*shape)
	}
	sh, _ := s.known.LoadOrStore(md, newShape(md, true, make(map[shapeKey]*shape)))
	return sh.(*shape)
}

// shape is what a survey needs to know of a message type: its fields but those in
// which nothing can be wrong. Extensions, which proto3 has not, are left out.
type shape struct {
	fields []fieldShape
	built  bool
}

type fieldShape struct {
	desc protoreflect.FieldDescriptor
	name string
	// most is how many elements or entries the rules allow.
	most uint64
	// text and textKey say whether the values and the keys are strings.
	text, textKey bool
	// sub is the shape of the values, nil where they are no messages to look into.
	sub *shape
}

// shapeKey tells a type whose rules are asked from the same type below a field
// with IGNORE_ALWAYS: there, no limit may be enforced that protovalidate would not.
type shapeKey struct {
	desc  protoreflect.MessageDescriptor
	ruled bool
}

// newShape compiles a type and those below it; seen ends the recursion of types
// that hold themselves.
func newShape(md protoreflect.MessageDescriptor, ruled bool, seen map[shapeKey]*shape) *shape {
	key := shapeKey{md, ruled}
	if sh, ok := seen[key]; ok {
		return sh
	}
	sh := &shape{}
	seen[key] = sh
	for i := range md.Fields().Len() {
		if f := newFieldShape(md.Fields().Get(i), ruled, seen); f.text || f.sub != nil || f.desc.Cardinality() == protoreflect.Repeated {
			sh.fields = append(sh.fields, f)
		}
	}
	sh.built = true
	return sh
}

func newFieldShape(fd protoreflect.FieldDescriptor, ruled bool, seen map[shapeKey]*shape) fieldShape {
	f := fieldShape{desc: fd, name: string(fd.Name()), most: math.MaxUint64}
	// Rules that cannot be read are the validator's to report.
	rules, _ := protovalidate.ResolveFieldRules(fd)
	ruled = ruled && rules.GetIgnore() != validate.Ignore_IGNORE_ALWAYS
	values, valueRules := fd, (*validate.FieldRules)(nil)
	switch {
	case fd.IsMap():
		values, valueRules = fd.MapValue(), rules.GetMap().GetValues()
		f.textKey = fd.MapKey().Kind() == protoreflect.StringKind
		if ruled && rules.GetMap().HasMaxPairs() {
			f.most = rules.GetMap().GetMaxPairs()
		}
	case fd.IsList():
		valueRules = rules.GetRepeated().GetItems()
		if ruled && rules.GetRepeated().HasMaxItems() {
			f.most = rules.GetRepeated().GetMaxItems()
		}
	}
	f.text = values.Kind() == protoreflect.StringKind
	if values.Message() != nil {
		ruled = ruled && valueRules.GetIgnore() != validate.Ignore_IGNORE_ALWAYS
		if sub := newShape(values.Message(), ruled, seen); !sub.built || len(sub.fields) > 0 {
			f.sub = sub
		}
	}
	return f
}
