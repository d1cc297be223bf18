package transcode

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Resolver finds the messages inside google.protobuf.Any, and extensions.
type Resolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// Options of a Set.
type Options struct {
	// Types is what Any and extensions are looked up in; nil means that there are none.
	Types Resolver
	// MaxDepth bounds the nesting of JSON that is read; 0 means 64.
	MaxDepth int
	// MaxJSON bounds the JSON that AppendJSON and AppendMasked write, in bytes: that of
	// a list of empty messages is many times its wire form. 0 means no bound.
	MaxJSON int
}

// Set compiles plans, which share those of the messages they nest. It is safe for
// concurrent use.
type Set struct {
	o     Options
	types Resolver
	urls  atomic.Pointer[map[string]*message] // types of Any that were met
	in    decodePlans                         // of AppendWire

	mu       sync.Mutex // over what follows; calls take it where they meet a new type in an Any
	plans    map[protoreflect.MessageDescriptor]*Plan
	messages map[protoreflect.MessageDescriptor]*message
	enums    map[protoreflect.EnumDescriptor]*enum
}

// New returns an empty Set.
func New(o Options) *Set {
	s := &Set{
		o: o, types: o.Types,
		plans:    map[protoreflect.MessageDescriptor]*Plan{},
		messages: map[protoreflect.MessageDescriptor]*message{},
		enums:    map[protoreflect.EnumDescriptor]*enum{},
	}
	if s.types == nil {
		s.types = (*protoregistry.Types)(nil)
	}
	return s
}

// Plan returns the plan of a message, compiled at the first call.
func (s *Set) Plan(md protoreflect.MessageDescriptor) (*Plan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.plans[md]; p != nil {
		return p, nil
	}
	if md.IsPlaceholder() {
		return nil, fmt.Errorf("transcode: the descriptor of %s is not there", md.FullName())
	}
	m := s.message(md)
	p := &Plan{set: s, md: md, whole: m, root: m, in: s.in.of(md)}
	s.plans[md] = p
	return p, nil
}

// Plan turns one type of message into JSON and back. It is safe for concurrent use.
type Plan struct {
	set *Set
	md  protoreflect.MessageDescriptor
	// whole is the message; root is what is written of it.
	whole, root *message
	field       protoreflect.FieldDescriptor // of a plan that Field made
	in          *decodePlan                  // of AppendWire
}

// Field returns a plan that writes the value of one top-level field of the
// message in place of the whole: google.api.HttpRule.response_body. A message that is
// not set is written as if it were empty, as grpc-gateway does; a google.protobuf.Value
// and scalars that know presence are null.
func (p *Plan) Field(name protoreflect.Name) (*Plan, error) {
	fd := p.md.Fields().ByName(name)
	if fd == nil || p.whole.form != plainForm {
		return nil, fmt.Errorf("transcode: %s has no field %q", p.md.FullName(), name)
	}
	root := selection{fd.Number(): nil}.prune(p.whole)
	fields := append([]field(nil), root.fields...)
	for i := range fields {
		fields[i].keyLen, fields[i].long, fields[i].key = 0, nil, [keySize]byte{}
	}
	bare := &message{form: plainForm, bare: true, md: p.md}
	bare.assemble(fields)
	return &Plan{set: p.set, md: p.md, whole: p.whole, root: bare, field: fd, in: p.in}, nil
}

// AppendJSON appends the JSON of a message, given in wire form, to dst. On an
// error dst is returned as it was. It keeps neither slice.
//
// Fields come in the order of their numbers, save that members of oneofs stand where
// the wire has them; extensions behind them by name; keys of maps sorted. The same
// wire is always the same JSON.
func (p *Plan) AppendJSON(dst, wire []byte) ([]byte, error) {
	return p.append(dst, wire, p.root)
}

var errOtherMask = errors.New("transcode: the mask was compiled for another plan")

// AppendMasked is AppendJSON with only the fields of the mask; a nil one is all.
// Fields that are left out are skipped, whatever is in them.
func (p *Plan) AppendMasked(dst, wire []byte, m *Mask) ([]byte, error) {
	if m == nil {
		return p.append(dst, wire, p.root)
	}
	if m.of != p.root {
		return dst, errOtherMask
	}
	return p.append(dst, wire, m.root)
}

// append makes a streaming pass, and where that fails, for whatever reason, a careful
// one, whose word counts. So the cost is linear: no message is tried more than twice.
func (p *Plan) append(dst, wire []byte, m *message) ([]byte, error) {
	s := state{set: p.set, wire: wire}
	out, err := s.document(dst, m)
	if err != nil {
		s.release()
		s = state{set: p.set, wire: wire, careful: true}
		out, err = s.document(dst, m)
	}
	s.release()
	if err != nil {
		return dst, err
	}
	return out, nil
}

var (
	errSize = errors.New("transcode: more than 4 GiB")
	// ErrTooLarge is for JSON beyond Options.MaxJSON.
	ErrTooLarge = errors.New("transcode: the JSON is larger than the bound")
)

// document appends the whole.
func (s *state) document(dst []byte, m *message) ([]byte, error) {
	var err error
	if cap(s.wire) > math.MaxUint32 {
		return dst, errSize
	}
	start := len(dst)
	s.limit = math.MaxInt
	if n := s.set.o.MaxJSON; n > 0 {
		s.limit = start + min(n, math.MaxInt-start)
	}
	switch {
	case s.careful:
		dst, err = s.mergedMessage(dst, []occurrence{s.whole(s.wire)}, m, maxNesting)
	case m.bare:
		dst, err = s.fields(dst, s.wire, m, maxNesting-1)
	default:
		dst, err = s.message(dst, s.wire, m, maxNesting)
	}
	if err == nil && m.bare && len(dst) == start {
		dst, err = s.unset(dst, &m.fields[m.shown()])
	}
	if err == nil && len(dst) > s.limit {
		err = ErrTooLarge
	}
	return dst, err
}

// unset appends the value of a plan of Field that is not there.
func (s *state) unset(dst []byte, f *field) ([]byte, error) {
	if f.msg == nil || f.msg.form == valueForm {
		return append(dst, "null"...), nil
	}
	s.partial++ // There is no message that could lack something.
	return s.embedded(dst, nil, f.msg, maxNesting)
}
