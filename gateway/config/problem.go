package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// file is what is being read, and what was found wrong with it.
type file struct {
	path     string
	data     []byte
	root     yamlNode
	schema   protoreflect.MessageDescriptor
	problems []problem
	// secret are the nodes and lines of values that are secrets by the schema
	// (debug_redact): no error repeats them.
	secretNodes map[yamlNode]bool
	secretLines map[int]bool
}

// problem is one thing that is wrong. Lines and columns count from 1, columns
// in characters; 0 means unknown.
type problem struct {
	line, column int
	text         string
}

// addf adds a problem. The format is ours; what args hold may come from the file
// and loses its secrets, before it is quoted.
func (f *file) addf(line, column int, format string, args ...any) {
	f.problems = append(f.problems, problem{line, column, fmt.Sprintf(format, masked(args)...)})
}

// err joins the problems in the order of the file. Of several at one place the
// first that was found is told: what follows from it would only confuse.
func (f *file) err() error {
	slices.SortStableFunc(f.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	told := slices.CompactFunc(f.problems, func(a, b problem) bool {
		return a.line == b.line && a.column == b.column && a.line > 0
	})
	errs := make([]error, len(told))
	for i, p := range told {
		errs[i] = errors.New(f.render(p))
	}
	return errors.Join(errs...)
}

const maxSnippet = 160 // Characters of a line that are shown.

func (f *file) render(p problem) string {
	if p.line == 0 {
		return f.path + ": " + p.text
	}
	if p.column == 0 {
		return fmt.Sprintf("%s:%d: %s", f.path, p.line, p.text)
	}
	head := fmt.Sprintf("%s:%d:%d: %s", f.path, p.line, p.column, p.text)
	lines := strings.Split(string(f.data), "\n")
	if p.line > len(lines) || f.secretLines[p.line] {
		return head
	}
	// Masked whole: of a secret that is cut off nobody would know that it is one.
	line := []rune(mask(strings.ReplaceAll(strings.TrimRight(lines[p.line-1], "\r"), "\t", " ")))
	if p.column > min(len(line)+1, maxSnippet) {
		return head
	}
	if len(line) > maxSnippet {
		line = append(line[:maxSnippet], '…')
	}
	return fmt.Sprintf("%s\n%6d | %s\n       | %s^", head, p.line, string(line), strings.Repeat(" ", p.column-1))
}
