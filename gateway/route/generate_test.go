package route

import (
	"fmt"
	"strings"
)

// choices turns bytes, random or a fuzzer's, into decisions; when they run out, every decision is 0.
type choices []byte

func (c *choices) below(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

func (c *choices) of(options ...string) string { return options[c.below(len(options))] }

// A small alphabet makes templates and paths meet: colons in every place where a verb could be, letters that
// are also verbs, and literals that look like wildcards.
var (
	someLiterals = []string{"a", "b", "c", "a:b", "a:b:c", ":b", "*:b", "***", "%41", "b=", "a.b", "~a@b", "%2f"}
	someVerbs    = []string{"b", "c", "b:c", "c:b:c", "%41", "v1.b", "b-c_d"}
)

// template returns a valid template of any form that the grammar has.
func (c *choices) template() string {
	n := c.below(6)
	if n == 5 {
		return "/" + c.of("", ":", ":b")
	}
	budget := 1
	segments := make([]string, 0, n+1)
	for i := range n + 1 {
		if c.below(3) == 0 {
			segments = append(segments, c.variable(i, &budget))
		} else {
			segments = append(segments, c.segment(&budget))
		}
	}
	s := "/" + strings.Join(segments, "/")
	switch last := segments[len(segments)-1]; {
	case c.below(3) == 0:
		return s + ":" + c.of(someVerbs...)
	case strings.Contains(last, ":") && !strings.HasSuffix(last, "}"):
		return s + ":" // or the last literal's colon would open a verb
	default:
		return s
	}
}

// segment returns a plain segment; budget is the number of ** that may still come.
func (c *choices) segment(budget *int) string {
	switch k := c.below(8); {
	case k == 0 && *budget > 0:
		*budget--
		return "**"
	case k < 3:
		return "*"
	default:
		return c.of(someLiterals...)
	}
}

func (c *choices) variable(number int, budget *int) string {
	name := fmt.Sprintf("v%d", number)
	if c.below(8) == 0 {
		name += ".of"
	}
	if c.below(2) == 0 {
		return "{" + name + "}"
	}
	segments := make([]string, 1+c.below(3))
	for i := range segments {
		segments[i] = c.segment(budget)
	}
	return "{" + name + "=" + strings.Join(segments, "/") + "}"
}

// path returns a decoded path: empty segments and bare verbs included, which Normalize would partly refuse.
func (c *choices) path() string {
	var b strings.Builder
	for range 1 + c.below(6) {
		b.WriteByte('/')
		switch c.below(8) {
		case 0:
		case 1:
			b.WriteString(c.of("*", "**", "x", "\u00e9", "A", ":"))
		default:
			b.WriteString(c.of(someLiterals...))
		}
	}
	if c.below(2) == 0 {
		b.WriteString(":" + c.of(someVerbs...))
	}
	return b.String()
}

// pathOf returns a path that has a good chance to match the template.
func (c *choices) pathOf(t Template) string {
	var parts []string
	for _, s := range t.segments {
		switch s.kind {
		case literal:
			parts = append(parts, s.literal)
		case star:
			parts = append(parts, c.of("a", "b", "", "a:b", ":b", "c"))
		default:
			for range c.below(4) {
				parts = append(parts, c.of("a", "b", "", "a:b", "c"))
			}
		}
	}
	p := "/" + strings.Join(parts, "/")
	if t.verb != "" {
		p += ":" + t.verb
	}
	return p
}

// near returns a path that is a step away from another: a segment more or less, a slash, a verb, a letter.
func (c *choices) near(path string) string {
	at := c.below(len(path))
	switch c.below(7) {
	case 0:
		return path + "/"
	case 1:
		return path + ":" + c.of(someVerbs...)
	case 2:
		return path + "/" + c.of(someLiterals...)
	case 3: // without its last segment
		return path[:strings.LastIndexByte(path, '/')]
	case 4: // cut short
		return path[:at]
	case 5:
		return path[:at] + c.of("/", ":", "a", "*") + path[at:]
	default: // a slash less
		return strings.Replace(path, "/", "", 1+c.below(2))
	}
}
