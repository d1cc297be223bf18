package route

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
)

// placeholder fills wildcards that no variable captures: any segment will do.
const placeholder = "-"

// Expand builds a path, percent-encoded and ready for a request line, from one value per variable; wildcards
// outside variables become "-". The path is proved before it is returned: normalized and matched against
// the template alone, it must give the same values back. So a value that its variable could not have
// captured, or that Normalize would refuse, is an error, as is a value that is missing or unknown.
func (t Template) Expand(values map[string]string) (string, error) {
	var path strings.Builder
	for i, next := 0, 0; i < len(t.segments); {
		if next < len(t.variables) && t.variables[next].from == i {
			v := t.variables[next]
			value, ok := values[v.name]
			if !ok {
				return "", fmt.Errorf("route: %q: no value for %q", t, v.name)
			}
			if onlyDeep := v.from == t.deep && v.to == t.deep+1; value != "" || !onlyDeep {
				writeSegments(&path, value)
			}
			i, next = v.to, next+1
			continue
		}
		text := t.segments[i].literal
		if t.segments[i].kind != literal {
			text = placeholder
		}
		writeSegments(&path, text)
		i++
	}
	if path.Len() == 0 {
		path.WriteByte('/')
	}
	if t.verb != "" {
		path.WriteString(":" + url.PathEscape(t.verb))
	}
	if err := t.prove(path.String(), values); err != nil {
		return "", err
	}
	return path.String(), nil
}

func writeSegments(b *strings.Builder, value string) {
	for part := range strings.SplitSeq(value, "/") {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(part))
	}
}

// prove checks that a path leads back to the values it was built from.
func (t Template) prove(escaped string, values map[string]string) error {
	path, err := Normalize(escaped)
	if err != nil {
		return fmt.Errorf("route: %q cannot carry these values: %w", t, err)
	}
	var alone Index[struct{}]
	if err := alone.Add("GET", t, struct{}{}); err != nil {
		return err
	}
	_, params, ok := alone.Lookup("GET", path)
	if !ok || !maps.Equal(params.Map(), values) {
		return fmt.Errorf("route: %q cannot carry these values: they make %q, which does not give them back", t, escaped)
	}
	return nil
}
