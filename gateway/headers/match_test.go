package headers

import (
	"strings"
	"testing"
)

// TestNoneMatch is a table of If-None-Match (RFC 9110, 13.1.2) against one tag.
func TestNoneMatch(t *testing.T) {
	const tag = `W/"abc"`
	for _, test := range []struct {
		lines []string
		want  bool
	}{
		{[]string{`W/"abc"`}, true},
		{[]string{`"abc"`}, true}, // The comparison is weak.
		{[]string{`*`}, true},
		{[]string{` * `}, true},
		{[]string{`"x", W/"y" ,"abc"`}, true},
		{[]string{`"x"`, `W/"abc"`}, true},
		{[]string{`,, "abc",`}, true},
		{[]string{`"a,b", "abc"`}, true},
		{[]string{``}, false},
		{[]string{`"abcd"`, `"ab"`}, false},
		{[]string{`abc`}, false},
		{[]string{`w/"abc"`}, false}, // The W is upper case.
		{[]string{`"abc`}, false},
		{[]string{`"x" "abc"`}, false},
		{[]string{`*, "abc"`}, false},
		{[]string{`*`, `"x"`}, false},
		{[]string{`"x", *`}, false},
		{[]string{`"a bc"`, `"abc"`}, false},
		{[]string{`W/W/"abc"`}, false},
		{[]string{`"ABC"`}, false},
	} {
		if got := NoneMatch(test.lines, tag); got != test.want {
			t.Errorf("%q: %v", test.lines, got)
		}
	}
}

// FuzzNoneMatch: no list panics, a list without the tag never matches, and one that is
// well formed and has it always does.
func FuzzNoneMatch(f *testing.F) {
	for _, s := range []string{`*`, `"abc"`, `W/"x", "abc"`, `"`, `W/`, `,`, "\x7f", `"a`, `W/"abc"x`} {
		f.Add(s)
	}
	const tag = `W/"abc"`
	f.Fuzz(func(t *testing.T, line string) {
		got := NoneMatch([]string{line}, tag)
		if got && strings.Trim(line, " \t") != "*" && !strings.Contains(line, `"abc"`) {
			t.Errorf("%q matches", line)
		}
		if !strings.ContainsAny(line, "\"\x7f") && strings.IndexFunc(line, func(r rune) bool { return r <= ' ' }) < 0 &&
			!NoneMatch([]string{`"` + line + `", "abc"`}, tag) {
			t.Errorf("%q hides a tag that follows", line)
		}
		if opaque, rest, ok := entityTag(line); ok && !strings.HasSuffix(line, opaque+rest) {
			t.Errorf("%q was cut into %q and %q", line, opaque, rest)
		}
	})
}
