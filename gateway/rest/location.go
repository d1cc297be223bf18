package rest

import (
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// location is a compiled template of a Location header: literals and paths to
// string fields of the response, by turns.
type location struct {
	literals []string
	fields   []*policy.FieldPath
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
		if !closed {
			return nil, fmt.Errorf("%q: a brace is open", template)
		}
		path, err := policy.CompileFieldPath(md, name)
		if err != nil {
			return nil, err
		}
		l.fields = append(l.fields, path)
		template = after
	}
}

// of fills in the fields of a message, given in wire form; a slash in one does not make
// a segment.
func (l *location) of(message []byte) (string, error) {
	var b strings.Builder
	for i, lit := range l.literals {
		b.WriteString(lit)
		if i < len(l.fields) {
			value, err := l.fields[i].Of(policy.Message{Wire: message})
			if err != nil {
				return "", err
			}
			b.WriteString(url.PathEscape(value))
		}
	}
	return b.String(), nil
}
