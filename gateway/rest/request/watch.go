package request

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// watch is a place in the body that a variable of the path must not meet. Of a scalar the
// path's value counts, as it comes behind the body's; but another member of a oneof would
// be lost, and of a message that both give parsers make a mixture.
type watch struct {
	variable string
	lead     []transcode.Field // to the message that holds the fields
	// forbidden are fields of that message, and why the body must not have them.
	forbidden map[protowire.Number]FieldError
}

// watch notes what the body must not have beside the i-th field of a variable's path.
func (p *Program) watch(b Binding, v variable, i int) {
	if p.body != bodyJSON || p.bodyField.Exists() && (i == 0 || v.fields[0] != p.bodyField) {
		return
	}
	f := v.fields[i]
	prefix := ""
	for _, lead := range v.fields[:i] {
		prefix += lead.Name() + "."
	}
	w := watch{variable: v.name, lead: v.fields[:i], forbidden: map[protowire.Number]FieldError{}}
	if od := f.Descriptor().ContainingOneof(); f.Oneof() != 0 {
		for j := range od.Fields().Len() {
			if fd := od.Fields().Get(j); fd.Number() != f.Descriptor().Number() {
				w.forbidden[fd.Number()] = FieldError{prefix + string(fd.Name()), "excludes " + v.name + ", which the path gives: they are of one oneof"}
			}
		}
	}
	if i == len(v.fields)-1 && f.IsMessage() {
		w.forbidden[f.Descriptor().Number()] = FieldError{v.name, "is taken from the path"}
	}
	if len(w.forbidden) > 0 {
		p.watches = append(p.watches, w)
	}
}

// compare refuses what the body's wire form has and may not have beside the path.
func (p *Program) compare(b *builder, wire []byte) {
	for i := range p.watches {
		w := &p.watches[i]
		seen := map[protowire.Number]bool{}
		walk(wire, w.lead, func(num protowire.Number, _ []byte) {
			if bad, ok := w.forbidden[num]; ok && !seen[num] {
				seen[num] = true
				b.refuse(bad.Field, bad.Reason)
			}
		})
	}
}

// walk visits the fields of the message that a path of messages leads to, wherever the
// wire has them. value is that of a field with a length, else nil. It ends where bytes
// are no message.
func walk(wire []byte, lead []transcode.Field, visit func(num protowire.Number, value []byte)) {
	for len(wire) > 0 {
		num, typ, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(num, typ, wire[n:])
		if size < 0 {
			return
		}
		var value []byte
		switch field := wire[n : n+size]; typ {
		case protowire.BytesType:
			value, _ = protowire.ConsumeBytes(field)
		case protowire.StartGroupType:
			value, _ = protowire.ConsumeGroup(num, field)
		}
		switch {
		case len(lead) == 0:
			visit(num, value)
		case protoreflect.FieldNumber(num) == lead[0].Descriptor().Number():
			walk(value, lead[1:], visit)
		}
		wire = wire[n+size:]
	}
}
