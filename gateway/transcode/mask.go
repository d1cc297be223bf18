package transcode

import (
	"errors"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bounds of a mask, for it comes from callers.
const (
	maxMaskBytes = 4 << 10
	maxMaskPaths = 100
)

// Mask is the fields that a caller asks for, compiled for one plan. It is safe for
// concurrent use.
type Mask struct {
	of   *message // what the plan writes
	root *message // of is pruned to
}

// UnknownPathsError names the paths of a mask that lead nowhere, as they were given.
type UnknownPathsError struct{ Paths []string }

func (e *UnknownPathsError) Error() string {
	return "transcode: unknown paths: " + strings.Join(e.Paths, ", ")
}

var (
	errMaskSize   = errors.New("transcode: a mask of more than 4096 bytes or 100 paths")
	errMaskSyntax = errors.New("transcode: a mask is a list of paths with commas between them, and dots between names")
)

// selection is what a mask leaves of a message: all if nil.
type selection map[protoreflect.FieldNumber]selection

// Mask compiles a list of field paths, separated by commas: names in JSON or proto
// form, dots between levels, * for all of a message. A path through a list applies to
// each element; maps and well-known types are taken whole. Of a path and one that it
// leads to, the shorter counts. For a plan that Field made, paths begin at the value.
// Its error is an *UnknownPathsError, or says what is wrong with the syntax or size.
func (p *Plan) Mask(paths string) (*Mask, error) {
	if len(paths) > maxMaskBytes || strings.Count(paths, ",") >= maxMaskPaths {
		return nil, errMaskSize
	}
	all, chosen := false, selection{}
	top := p.root
	if top.bare {
		top = &message{} // Only * can be chosen of what has no fields.
		if f := &p.root.fields[p.root.shown()]; f.nests() {
			top = f.msg
		}
	}
	var unknown []string
	for path := range strings.SplitSeq(paths, ",") {
		path = strings.Trim(path, " ")
		names := strings.Split(path, ".")
		for _, n := range names {
			if n == "" {
				return nil, errMaskSyntax
			}
		}
		switch {
		case path == "*":
			all = true
		case !chosen.add(top, names):
			unknown = append(unknown, path)
		}
	}
	if unknown != nil {
		return nil, &UnknownPathsError{Paths: unknown}
	}
	if all {
		return &Mask{of: p.root, root: p.root}, nil
	}
	if p.root.bare {
		fields := slices.Clone(p.root.fields)
		f := &fields[p.root.shown()]
		f.msg = chosen.prune(f.msg)
		return &Mask{of: p.root, root: p.root.only(fields)}, nil
	}
	return &Mask{of: p.root, root: chosen.prune(p.root)}, nil
}

// shown is the index of the one field that a bare message writes.
func (m *message) shown() int {
	return slices.IndexFunc(m.fields, func(f field) bool { return f.op != opSkip })
}

// nests says whether paths may lead into the field.
func (f *field) nests() bool {
	switch f.op {
	case opMessage, opMessages, opGroup, opGroups:
		return f.msg.form == plainForm
	}
	return false
}

// add adds a path; it says whether it leads anywhere.
func (s selection) add(m *message, names []string) bool {
	f := m.named(names[0])
	if f == nil {
		return false
	}
	rest := names[1:]
	if len(rest) == 1 && rest[0] == "*" && f.nests() {
		rest = nil
	}
	if len(rest) == 0 {
		s[f.num] = nil
		return true
	}
	if !f.nests() {
		return false
	}
	sub, chosen := s[f.num]
	if chosen && sub == nil { // Whole already; the path must be one all the same.
		return selection{}.add(f.msg, rest)
	}
	if sub == nil {
		sub = selection{}
	}
	if !sub.add(f.msg, rest) {
		return false
	}
	s[f.num] = sub
	return true
}

// named finds a field by its JSON name or its name.
func (m *message) named(name string) *field {
	var found *field
	for i := range m.fields {
		f := &m.fields[i]
		if f.op != opSkip && f.fd.JSONName() == name {
			return f
		}
		if f.op != opSkip && f.fd.TextName() == name {
			found = f
		}
	}
	return found
}

// prune compiles what is left of a message.
func (s selection) prune(m *message) *message {
	if s == nil {
		return m
	}
	oneofs := map[int32]bool{}
	for i := range m.fields {
		if _, ok := s[m.fields[i].num]; ok {
			oneofs[m.fields[i].oneofs] = true
		}
	}
	var fields []field
	for i := range m.fields {
		f := m.fields[i]
		sub, chosen := s[f.num]
		switch {
		case chosen:
			f.required = false
			if f.msg != nil {
				f.msg = sub.prune(f.msg)
			}
		case f.oneofs >= 0 && oneofs[f.oneofs]:
			f.skipped() // Which member is set still counts.
		default:
			continue
		}
		fields = append(fields, f)
	}
	return m.only(fields)
}

// skipped makes the field one that is read and not written.
func (f *field) skipped() {
	f.op, f.keyLen, f.long, f.key = opSkip, 0, nil, [keySize]byte{}
}

// only compiles the message with some of its fields; extensions are not among them.
func (m *message) only(fields []field) *message {
	p := &message{form: m.form, bare: m.bare, md: m.md}
	p.assemble(fields)
	return p
}
