package config

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// Locate gives what was found wrong with a configuration after it was read (by
// gateway.New or gateway.Check) its file, line and column. Errors that begin with the
// key they are about have a place: `upstreams: shop.T: target "x": …` and
// `http_routes: pay: match.regex: …`, keys with dots or `: ` between them, entries of
// lists by number, as in `a[0]`, or by their name. name is where the configuration was
// read from: it is read again. Without one, or when it cannot be read any more, the
// error stays as it is.
func Locate(name string, err error) error {
	if name == "" || err == nil {
		return err
	}
	f := &file{path: name}
	var failed error
	if f.data, failed = text(name); failed != nil || !f.syntax() || f.root == nil {
		return err
	}
	f.hideSecrets(f.root, (*configv1.Config)(nil).ProtoReflect().Descriptor())
	for _, e := range flat(err) {
		line, column := f.follow(e.Error())
		f.addf(line, column, "%s", e.Error())
	}
	return &located{f.err().Error(), err}
}

// located is an error with the text of Locate.
type located struct {
	text string
	err  error
}

func (l *located) Error() string { return l.text }
func (l *located) Unwrap() error { return l.err }

// text is what stands in a file, or under a key of etcd.
func text(name string) ([]byte, error) {
	if !inEtcd(name) {
		return read(name)
	}
	s, err := openEtcd(name, os.Getenv)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }() // Only read.
	ctx, cancel := context.WithTimeout(context.Background(), etcdTimeout)
	defer cancel()
	data, _, err := s.get(ctx)
	return data, err
}

// flat is every error that is joined in one.
func flat(err error) []error {
	all := parts(err)
	if len(all) == 1 && all[0] == err { //nolint:errorlint // The same, not alike.
		return all
	}
	var out []error
	for _, e := range all {
		out = append(out, flat(e)...)
	}
	return out
}

// follow finds the key that a text begins with, as far as it is in the file: line 0 if
// none of it is.
func (f *file) follow(text string) (line, column int) {
	at := f.root
	for word := range strings.SplitSeq(text, ": ") {
		next, key := step(at, word)
		if next == nil {
			break
		}
		at, line, column = next, key.Line, key.Column
	}
	return line, column
}

var keyParts = regexp.MustCompile(`[^.\[\]]+|\[[^\]]*\]`)

// step goes from a node to the one that a word names: a key, an entry's name, or a path
// of several with dots. key is where that is written.
func step(n yamlNode, word string) (next, key yamlNode) {
	if next, key = entry(n, word); next != nil {
		return next, key
	}
	for _, part := range keyParts.FindAllString(word, -1) { // None names nothing: key stays nil.
		if n, key = entry(n, strings.Trim(part, `[]"`)); n == nil {
			return nil, nil
		}
	}
	if key == nil {
		return nil, nil
	}
	return n, key
}

// entry is the value under a key, or an entry of a list by its number or name.
func entry(n yamlNode, word string) (value, key yamlNode) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k := n.Content[i].Value; k == word || k == camel(word) {
				return n.Content[i+1], n.Content[i]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(word); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
		for _, item := range n.Content {
			for _, id := range entryNames {
				if v := child(item, string(id)); v != nil && v.Value == word {
					return item, item
				}
			}
		}
	}
	return nil, nil
}

// UnknownName says that a name of the configuration is none of those that the gateway
// knows, and which is probably meant.
func UnknownName(what, name string, known []string) string {
	return unknown(what, name, slices.Sorted(slices.Values(known)))
}
