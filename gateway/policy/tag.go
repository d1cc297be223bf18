package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ResponseField is what a tag puts before the path of a response field.
const ResponseField = "response."

// Tag is a compiled name of kept answers (Cache.Tags, Rule.Invalidates): text, with
// fields of the request or the response.
type Tag struct {
	literals []string
	fields   []tagField
	open     bool
}

type tagField struct {
	path     *FieldPath
	response bool
}

// CompileTag resolves the fields of a tag against the method's messages.
func (m *Method) CompileTag(text string) (*Tag, error) {
	return compileTag(text, func(path string) (*FieldPath, bool, error) {
		in := m.Descriptor.Input()
		rest, response := strings.CutPrefix(path, ResponseField)
		if response {
			in, path = m.Descriptor.Output(), rest
		}
		f, err := CompileFieldPath(in, path)
		return f, response, err
	})
}

// CompileHTTPTag resolves a tag of a plain HTTP route, whose fields are variables of
// the path.
func CompileHTTPTag(text string, variables []string) (*Tag, error) {
	return compileTag(text, func(name string) (*FieldPath, bool, error) {
		if !slices.Contains(variables, name) {
			return nil, false, fmt.Errorf("%q is no variable of the path: use match.template with {%s}, or a named group of match.regex", name, name)
		}
		return &FieldPath{path: name, variable: true}, false, nil
	})
}

func compileTag(text string, resolve func(path string) (f *FieldPath, response bool, err error)) (*Tag, error) {
	t := &Tag{}
	if strings.ContainsAny(locationVariable.ReplaceAllString(text, ""), "{}") {
		return nil, fmt.Errorf("tag %q: braces hold the path of a field", text)
	}
	if text == "" || text[0] <= ' ' || text[0] == '{' {
		return nil, fmt.Errorf("tag %q: it begins with a word that says what it names, such as user/", text)
	}
	at := 0
	for _, v := range locationVariable.FindAllStringSubmatchIndex(text, -1) {
		t.literals = append(t.literals, text[at:v[0]])
		at = v[1]
		f, response, err := resolve(text[v[2]:v[3]])
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w", text, err)
		}
		t.fields, t.open = append(t.fields, tagField{f, response}), t.open || response
	}
	t.literals = append(t.literals, text[at:])
	return t, nil
}

// OfResponse says whether the tag has fields of the response.
func (t *Tag) OfResponse() bool { return t.open }

// Of fills in the fields. out is not looked at unless OfResponse.
func (t *Tag) Of(in, out Message) (string, error) {
	if len(t.fields) == 0 {
		return t.literals[0], nil
	}
	var b strings.Builder
	for i, lit := range t.literals {
		b.WriteString(lit)
		if i == len(t.fields) {
			break
		}
		from := in
		if t.fields[i].response {
			from = out
		}
		v, err := t.fields[i].path.Of(from)
		if err != nil {
			return "", err
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

// compileTags resolves tags only to say what is wrong with them.
func (m *Method) compileTags(option string, tags []string) error {
	var errs []error
	for _, text := range tags {
		if _, err := m.CompileTag(text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", option, err))
		}
	}
	return errors.Join(errs...)
}
