package route

import (
	"slices"
	"strings"
)

// Template is a parsed google.api.http path template. Parse makes it; it never changes afterwards, so it
// may be copied and shared between goroutines. The zero Template matches nothing, and Add refuses it.
type Template struct {
	text      string    // as written
	segments  []segment // variables flattened: {a=x/*} is the segments x and *
	deep      int       // index of ** in segments, -1 without one
	variables []variable
	names     []string // of variables, in order; Params share this slice
	verb      string
}

type segment struct {
	kind    kind
	literal string
}

// kind orders segments by how specific they are: the lower one wins.
type kind uint8

const (
	literal kind = iota
	star         // exactly one path segment, whatever it is
	deep         // any number of path segments, none included
)

// variable is a field path and the template segments [from, to) it captures.
type variable struct {
	name     string
	from, to int
}

// String returns the template as it was written, which is what logs and metrics name a route by.
func (t Template) String() string { return t.text }

// Variables returns the field paths bound by the template, in order of appearance. The caller owns the slice.
func (t Template) Variables() []string { return slices.Clone(t.names) }

// Verb returns the custom verb without its colon, or "".
func (t Template) Verb() string { return t.verb }

// Pattern returns the segments a variable stands for ("*" for {id}, "users/*" for {name=users/*}): whoever
// invents a value for Expand, or documents the parameter, needs its form. It is "" for an unknown name.
func (t Template) Pattern(variable string) string {
	for _, v := range t.variables {
		if v.name == variable {
			return joinSegments(t.segments[v.from:v.to])
		}
	}
	return ""
}

// Parts returns the template as text with variables between it: literals[i] stands before
// variables[i], and the last literal behind them all. Wildcards outside variables stand
// for themselves.
func (t Template) Parts() (literals, variables []string) {
	var text strings.Builder
	for i, next := 0, 0; i < len(t.segments); {
		text.WriteByte('/')
		if next < len(t.variables) && t.variables[next].from == i {
			literals = append(literals, text.String())
			text.Reset()
			i, next = t.variables[next].to, next+1
			continue
		}
		text.WriteString(t.segments[i].String())
		i++
	}
	if t.verb != "" {
		text.WriteString(":" + t.verb)
	}
	return append(literals, text.String()), t.Variables()
}

// Overlaps says whether some path may match both templates. It looks at literals alone,
// so it can say yes where there is none.
func (t Template) Overlaps(o Template) bool {
	if t.deep >= 0 || o.deep >= 0 {
		return true
	}
	return slices.EqualFunc(t.segments, o.segments, func(a, b segment) bool {
		return a.kind != literal || b.kind != literal || a.literal == b.literal
	})
}

func joinSegments(segments []segment) string {
	parts := make([]string, len(segments))
	for i, s := range segments {
		parts[i] = s.String()
	}
	return strings.Join(parts, "/")
}

func (s segment) String() string {
	switch s.kind {
	case star:
		return "*"
	case deep:
		return "**"
	default:
		return s.literal
	}
}
