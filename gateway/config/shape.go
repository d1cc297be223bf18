package config

import (
	"strconv"
	"time"

	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// shape checks a mapping against a message: keys that are unknown or come
// twice, values of another kind than the field's, aliases. protoyaml lets
// several of these pass: of two equal keys it takes the last, a number it takes
// for a string, a field's number for its name.
func (f *file) shape(n yamlNode, md protoreflect.MessageDescriptor) {
	if n.Tag == "!!null" && n.Kind == yaml.ScalarNode {
		return // A key with nothing under it.
	}
	if !f.is(n, yaml.MappingNode, wantMap) {
		return
	}
	seen := map[protoreflect.Name]int{}
	chosen := map[protoreflect.Name]yamlNode{} // by oneof
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !f.is(key, yaml.ScalarNode, wantKey) {
			continue
		}
		fd := md.Fields().ByName(protoreflect.Name(key.Value))
		if fd == nil {
			fd = md.Fields().ByJSONName(key.Value)
		}
		if fd == nil {
			f.unknownKey(key, md)
			continue
		}
		if line, twice := seen[fd.Name()]; twice {
			f.addf(key.Line, key.Column, "key %q comes twice; first on line %d", key.Value, line)
			continue
		}
		seen[fd.Name()] = key.Line
		if one := fd.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if other := chosen[one.Name()]; other != nil {
				f.addf(key.Line, key.Column, "%s and %s exclude each other; %s stands on line %d", other.Value, key.Value, other.Value, other.Line)
				continue
			}
			chosen[one.Name()] = key
		}
		f.field(value, fd)
	}
}

func (f *file) unknownKey(key yamlNode, md protoreflect.MessageDescriptor) {
	known := make([]string, md.Fields().Len())
	for i := range known {
		known[i] = string(md.Fields().Get(i).Name())
	}
	text := unknown("key", key.Value, known)
	if nearest(key.Value, known) == "" {
		if there := belongsAt(key.Value, f.schema); there != "" {
			text += "; " + there + " is a key"
		}
	}
	f.problems = append(f.problems, problem{key.Line, key.Column, text})
}

func (f *file) field(n yamlNode, fd protoreflect.FieldDescriptor) {
	switch {
	case fd.IsMap():
		f.mapping(n, fd)
	case fd.IsList():
		if f.is(n, yaml.SequenceNode, wantList) {
			seen := map[string]int{}
			for _, item := range n.Content {
				if line, twice := seen[item.Value]; twice && item.Kind == yaml.ScalarNode {
					f.addf(item.Line, item.Column, "the same value comes twice in this list; first on line %d", line)
				}
				seen[item.Value] = item.Line
				f.value(item, fd)
			}
		}
	default:
		f.value(n, fd)
	}
}

func (f *file) mapping(n yamlNode, fd protoreflect.FieldDescriptor) {
	if !f.is(n, yaml.MappingNode, wantMap) {
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !f.is(key, yaml.ScalarNode, wantKey) {
			continue
		}
		if line, twice := seen[key.Value]; twice {
			f.addf(key.Line, key.Column, "key %q comes twice; first on line %d", key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		if value.Tag == "!!null" && value.Kind == yaml.ScalarNode && fd.MapValue().Message() != nil {
			// Elsewhere it means the defaults. Here the key alone makes an entry, and
			// nobody means an empty one.
			f.addf(key.Line, key.Column, "nothing under %q; say what it is, or leave the key out", key.Value)
			continue
		}
		f.value(value, fd.MapValue())
	}
}

// value checks one value of the field's kind.
func (f *file) value(n yamlNode, fd protoreflect.FieldDescriptor) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		switch fd.Message().FullName() {
		case "google.protobuf.Duration":
			f.duration(n)
		case "google.protobuf.Timestamp":
			f.timestamp(n)
		default:
			f.shape(n, fd.Message())
		}
	case protoreflect.BoolKind:
		if f.is(n, yaml.ScalarNode, "true or false") && n.Tag != "!!bool" {
			f.wrong(n, "true or false")
		}
	case protoreflect.StringKind:
		if f.is(n, yaml.ScalarNode, "text") && n.Tag != "!!str" {
			f.wrong(n, "text (put it in quotes)")
		}
	case protoreflect.Int32Kind:
		f.integer(n, func(s string) error { _, err := strconv.ParseInt(s, 10, 32); return err })
	case protoreflect.Int64Kind:
		f.integer(n, func(s string) error { _, err := strconv.ParseInt(s, 10, 64); return err })
	case protoreflect.Uint32Kind:
		f.integer(n, func(s string) error { _, err := strconv.ParseUint(s, 10, 32); return err })
	default: // protoyaml alone looks at it.
		f.is(n, yaml.ScalarNode, "a "+fd.Kind().String())
	}
}

func (f *file) integer(n yamlNode, parse func(string) error) {
	const expected = "a whole number within its range"
	if f.is(n, yaml.ScalarNode, expected) && (n.Tag != "!!int" || parse(n.Value) != nil) {
		f.wrong(n, expected)
	}
}

func (f *file) duration(n yamlNode) {
	const expected = "a duration such as 500ms, 5s or 2m"
	if !f.is(n, yaml.ScalarNode, expected) {
		return
	}
	if d, err := protoyaml.ParseDuration(n.Value); err != nil || d.CheckValid() != nil && n.Value != "0" {
		f.wrong(n, expected)
	}
}

func (f *file) timestamp(n yamlNode) {
	const expected = "a time such as 2027-01-31T12:00:00Z (RFC 3339)"
	if !f.is(n, yaml.ScalarNode, expected) {
		return
	}
	if t, err := time.Parse(time.RFC3339, n.Value); err != nil || timestamppb.New(t).CheckValid() != nil {
		f.wrong(n, expected)
	}
}

// is says whether a node is of a kind, and tells if it is not.
func (f *file) is(n yamlNode, kind yaml.Kind, expected string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		f.addf(n.Line, n.Column, "an alias; write the value out")
	case n.Kind == kind && (kind != yaml.ScalarNode || n.Tag != "!!null"):
		return true
	default:
		f.wrong(n, expected)
	}
	return false
}

// wrong tells what stands where something else is expected. Where that is keys
// and values or a list, text is not repeated: it may be a key or a URL with a
// password that only needs a dash before it.
func (f *file) wrong(n yamlNode, expected string) {
	got := ""
	switch {
	case n.Kind == yaml.SequenceNode:
		got = wantList
	case n.Kind == yaml.MappingNode:
		got = wantMap
	case n.Tag == "!!null":
		got = "nothing"
	case expected == wantMap || expected == wantList || expected == wantKey || f.secretNodes[n]:
		got = "one value"
	default:
		f.addf(n.Line, n.Column, "expected %s, got %q", expected, n.Value)
		return
	}
	f.addf(n.Line, n.Column, "expected %s, got %s", expected, got)
}

const (
	wantMap  = "keys and values"
	wantList = "a list"
	wantKey  = "a key"
)
