package main

import (
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// keywords are the protovalidate rules that JSON Schema has a word for, by their
// field names in buf.validate. CEL expressions have none.
func keywords() map[protoreflect.Name]string {
	return map[protoreflect.Name]string{
		"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum",
		"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern",
		"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems",
		"min_pairs": "minProperties", "max_pairs": "maxProperties",
	}
}

// formats are the rules of strings that are formats of JSON Schema.
func formats() map[protoreflect.Name]string {
	return map[protoreflect.Name]string{
		"email": "email", "uri": "uri", "uri_ref": "uri-reference", "hostname": "hostname",
		"ipv4": "ipv4", "ipv6": "ipv6", "uuid": "uuid",
	}
}

// constrainComponents adds the fields' limits to the schemas of messages.
func constrainComponents(schemas map[string]schema) error {
	for name, s := range schemas {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return fmt.Errorf("schema %s: %w", name, err)
		}
		if md, ok := d.(protoreflect.MessageDescriptor); ok {
			if err := constrainProperties(s, md); err != nil {
				return fmt.Errorf("schema %s: %w", name, err)
			}
		}
	}
	return nil
}

func constrainProperties(s schema, md protoreflect.MessageDescriptor) error {
	for name, p := range properties(s) {
		fd, err := fieldAt(md, name)
		if err != nil {
			return err
		}
		if err := constrain(p, fd); err != nil {
			return err
		}
	}
	return nil
}

// properties is a schema's properties by name; they share their maps with it.
func properties(s schema) map[string]schema {
	out := map[string]schema{}
	props, _ := s["properties"].(map[string]any)
	for name, p := range props {
		if m, ok := p.(map[string]any); ok {
			out[name] = m
		}
	}
	return out
}

// fieldAt follows a path of proto or JSON names, as parameters have them.
func fieldAt(md protoreflect.MessageDescriptor, path string) (protoreflect.FieldDescriptor, error) {
	var fd protoreflect.FieldDescriptor
	for name := range strings.SplitSeq(path, ".") {
		if md == nil {
			return nil, fmt.Errorf("%s: nothing lies below %s", path, fd.FullName())
		}
		if fd = md.Fields().ByName(protoreflect.Name(name)); fd == nil {
			fd = md.Fields().ByJSONName(name)
		}
		if fd == nil {
			return nil, fmt.Errorf("%s has no field %q", md.FullName(), name)
		}
		md = fd.Message()
	}
	return fd, nil
}

// constrain adds a field's rules to its schema.
func constrain(s schema, fd protoreflect.FieldDescriptor) error {
	rules, _ := proto.GetExtension(fd.Options(), validate.E_Field).(*validate.FieldRules)
	if rules == nil || s["$ref"] != nil {
		return nil
	}
	if err := apply(s, rules); err != nil {
		return fmt.Errorf("%s: %w", fd.FullName(), err)
	}
	return nil
}

func apply(s schema, rules *validate.FieldRules) error {
	if rules.GetIgnore() == validate.Ignore_IGNORE_ALWAYS {
		return nil
	}
	m := rules.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("type"))
	if kind == nil {
		return nil
	}
	// 64-bit integers are strings in JSON, and strings have no minimum.
	if kind.Message().Name() != "StringRules" && s["type"] == "string" {
		return nil
	}
	skipZero := rules.GetIgnore() == validate.Ignore_IGNORE_IF_ZERO_VALUE
	words, names := keywords(), formats()
	m.Get(kind).Message().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch word, format := words[fd.Name()], names[fd.Name()]; {
		case word == "minLength" && skipZero, word == "uniqueItems" && !v.Bool():
		case word == "pattern" && skipZero:
			s[word] = "^$|" + v.String()
		case word != "":
			s[word] = v.Interface()
		case format != "":
			s["format"] = format
		}
		return true
	})
	return applyNested(s, rules)
}

// applyNested goes on with the items of a list, and the keys and values of a map.
func applyNested(s schema, rules *validate.FieldRules) error {
	if items := rules.GetRepeated().GetItems(); items != nil {
		sub, ok := s["items"].(map[string]any)
		if !ok {
			return fmt.Errorf("a list's schema has no items")
		}
		return apply(sub, items)
	}
	pairs := rules.GetMap()
	if keys := pairs.GetKeys(); keys != nil {
		names := schema{}
		if err := apply(names, keys); err != nil {
			return err
		}
		s["propertyNames"] = names
	}
	if values := pairs.GetValues(); values != nil {
		sub, ok := s["additionalProperties"].(map[string]any)
		if !ok {
			return fmt.Errorf("a map's schema has no additionalProperties")
		}
		return apply(sub, values)
	}
	return nil
}
