package rest

import (
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// location is a compiled template of a Location header: literals and string
// fields of the response, by turns.
type location struct {
	literals []string
	fields   []protoreflect.FieldDescriptor
}

func newLocation(md protoreflect.MessageDescriptor, template string) (*location, error) {
	l := &location{}
	for {
		lit, rest, found := strings.Cut(template, "{")
		l.literals = append(l.literals, lit)
		if !found {
			return l, nil
		}
		name, after, closed := strings.Cut(rest, "}")
		fd := md.Fields().ByName(protoreflect.Name(name))
		if !closed || fd == nil || fd.Kind() != protoreflect.StringKind || fd.Cardinality() == protoreflect.Repeated {
			return nil, fmt.Errorf("%s has no string field %q", md.FullName(), name)
		}
		l.fields = append(l.fields, fd)
		template = after
	}
}

func (l *location) of(m protoreflect.Message) string {
	var b strings.Builder
	for i, lit := range l.literals {
		b.WriteString(lit)
		if i < len(l.fields) {
			b.WriteString(url.PathEscape(m.Get(l.fields[i]).String()))
		}
	}
	return b.String()
}
