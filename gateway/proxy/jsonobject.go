package proxy

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// object is a JSON object of which members can be changed. All else stays as it was
// written: names, values, and their order.
type object struct{ members []member }

type member struct {
	name  string // without its escapes
	key   json.RawMessage
	value json.RawMessage
	inner *object // the value, where a rule has looked into it
}

// openObject reads the members of valid JSON. Path is where it stands, for the error, a
// *BodyError.
func openObject(data []byte, path string) (*object, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, &BodyError{path, notObject}
	}
	o, seen := &object{}, map[string]bool{}
	for d.More() {
		start := d.InputOffset()
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, &BodyError{path, notObject}
		}
		if seen[name] {
			return nil, &BodyError{strings.TrimPrefix(path+"."+name, "."), "is there twice"}
		}
		seen[name] = true
		m := member{name: name, key: bytes.TrimLeft(data[start:d.InputOffset()], ", \t\r\n")}
		if err := d.Decode(&m.value); err != nil {
			return nil, &BodyError{path, notObject}
		}
		o.members = append(o.members, m)
	}
	return o, nil
}

func (o *object) find(name string) int {
	return slices.IndexFunc(o.members, func(m member) bool { return m.name == name })
}

// take takes a member away and returns it.
func (o *object) take(name string) (member, bool) {
	i := o.find(name)
	if i < 0 {
		return member{}, false
	}
	m := o.members[i]
	o.members = slices.Delete(o.members, i, i+1)
	return m, true
}

// put puts m's value under a name, in the place of what is there.
func (o *object) put(name string, m member) {
	if i := o.find(name); i >= 0 {
		o.members[i].value, o.members[i].inner = m.value, m.inner
		return
	}
	m.name = name
	m.key, _ = json.Marshal(name) // A string always can be.
	o.members = append(o.members, m)
}

// parent is the object that holds the last name of a path: nil where there is none,
// unless it is to be made.
func (o *object) parent(path []string, create bool) (*object, error) {
	for i, name := range path[:len(path)-1] {
		at := o.find(name)
		if at < 0 {
			if !create {
				return nil, nil //nolint:nilnil // Nothing is there to take away.
			}
			o.put(name, member{inner: &object{}})
			at = o.find(name)
		}
		m := &o.members[at]
		if m.inner == nil {
			var err error
			if m.inner, err = openObject(m.value, strings.Join(path[:i+1], ".")); err != nil {
				return nil, err
			}
		}
		o = m.inner
	}
	return o, nil
}

func (o *object) appendTo(b []byte) []byte {
	b = append(b, '{')
	for i := range o.members {
		if i > 0 {
			b = append(b, ',')
		}
		m := &o.members[i]
		b = append(append(b, m.key...), ':')
		if m.inner != nil {
			b = m.inner.appendTo(b)
		} else {
			b = append(b, m.value...)
		}
	}
	return append(b, '}')
}
