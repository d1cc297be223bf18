package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

type yamlNode = *yaml.Node

// decode reads the file into m. Three readers look at it, and all that they
// find is told: yaml at the syntax, shape at keys and kinds of values, protoyaml
// with protovalidate at the values.
func (f *file) decode(m proto.Message) {
	if !f.characters() || !f.syntax() || f.root == nil {
		return
	}
	f.schema = m.ProtoReflect().Descriptor()
	f.hideSecrets(f.root, f.schema)
	f.shape(f.root, f.schema)
	err := protoyaml.UnmarshalOptions{Path: f.path, Validator: rules{}}.Unmarshal(f.data, m)
	for _, e := range parts(err) {
		f.foreign(e)
	}
}

// rules drops protovalidate's variadic options, which protoyaml's interface
// lacks.
type rules struct{}

func (rules) Validate(m proto.Message) error { return protovalidate.Validate(m) }

// characters refuses what YAML takes for a line break and other readers do
// not: lines would be counted differently.
func (f *file) characters() bool {
	if !utf8.Valid(f.data) {
		f.addf(0, 0, "not UTF-8 text")
		return false
	}
	line, column := 1, 0
	text := string(f.data)
	for i, r := range text {
		column++
		switch {
		case r == '\n':
			line, column = line+1, 0
		case r == '\r' && !strings.HasPrefix(text[i+1:], "\n"), r == '\u0085', r == '\u2028', r == '\u2029':
			f.addf(line, column, "character %U; lines end with a line feed", r)
			return false
		}
	}
	return true
}

// syntax parses the file into f.root, which stays nil for an empty one.
func (f *file) syntax() bool {
	dec := yaml.NewDecoder(bytes.NewReader(f.data))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return true
	}
	if err == nil {
		if err = dec.Decode(&more); err == nil {
			f.addf(more.Line, more.Column, "a second document; want one")
			return false
		}
	}
	if !errors.Is(err, io.EOF) {
		f.notYAML(err)
		return false
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		f.root = doc.Content[0]
	}
	return true
}

// quotedInYAML is what the reader of YAML repeats of the file: a password that
// begins with * or & is an anchor to it.
var quotedInYAML = regexp.MustCompile("(anchor|!![a-z]+) (?:'[^']*'|`[^`]*`)")

func (f *file) notYAML(err error) {
	for i, line := range strings.Split(string(f.data), "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if tab := strings.IndexByte(indent, '\t'); tab >= 0 && strings.TrimSpace(line) != "" {
			f.addf(i+1, tab+1, "a tab; YAML is indented with spaces")
			return
		}
	}
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	f.addf(line, 0, "not valid YAML: %s", quotedInYAML.ReplaceAllString(text, "$1"))
}

// foreign takes over an error of protoyaml, whose text starts with
// path:line:column.
func (f *file) foreign(err error) {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if strings.Contains(text, "is already set for oneof") { // shape names both keys.
		return
	}
	var line, column int
	rest, ok := strings.CutPrefix(text, f.path+":")
	if n, _ := fmt.Sscanf(rest, "%d:%d ", &line, &column); !ok || n != 2 {
		f.addf(0, 0, "%s", text)
		return
	}
	_, text, _ = strings.Cut(rest, " ")
	f.problems = append(f.problems, problem{line, column, plain(text, f.schema)})
}

// parts splits a joined error.
func parts(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // Only the outermost.
		return joined.Unwrap()
	}
	return []error{err}
}
