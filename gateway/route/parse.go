package route

import (
	"fmt"
	"strconv"
	"strings"
)

// SyntaxError says where a path template stops being one. Templates are written by developers, so it is
// met at start-up, never while a request is served.
type SyntaxError struct {
	Template string
	Position int    // byte offset into Template
	Expected string // what the grammar allows there
	Found    string // what stands there instead
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("path template %q: at byte %d: expected %s, found %s", e.Template, e.Position, e.Expected, e.Found)
}

// foundEmpty is what SyntaxError.Found says of two slashes in a row.
const foundEmpty = "an empty segment"

// Parse reads a google.api.http path template; the package comment has the grammar. It accepts what
// protoc-gen-grpc-gateway and runtime.ServeMux.HandlePath accept, but for two accidents of their tokenizer
// that would open a route nobody wrote (an empty segment, which they read as "*", and a NUL byte, which
// they read as the end), and for a field that is bound twice, or beside a part of it: a reader who took
// the other value would check another owner than the one that is served. Errors are *SyntaxError.
func Parse(s string) (Template, error) {
	p := parser{in: s, out: Template{text: s, deep: -1}}
	if err := p.template(); err != nil {
		return Template{}, err
	}
	return p.out, nil
}

type parser struct {
	in  string
	pos int
	out Template
}

// template = "/" [ segment { "/" segment } ] [ ":" verb ]
func (p *parser) template() error {
	if !p.take('/') {
		return p.fail(`"/"`)
	}
	for {
		var done bool
		var err error
		if p.peek('{') {
			done, err = p.variableSegment()
		} else {
			done, err = p.plainSegment()
		}
		if err != nil || done {
			return err
		}
	}
}

// variableSegment reads a variable and what follows it. Behind a variable the first colon opens the verb,
// so that {id}:a:b has the verb "a:b".
func (p *parser) variableSegment() (done bool, err error) {
	if err := p.variable(); err != nil {
		return false, err
	}
	switch {
	case p.take(':'):
		p.out.verb = p.in[p.pos:]
		return true, p.checkText(p.out.verb)
	case p.take('/'):
		return false, nil
	case p.pos == len(p.in):
		return true, nil
	default:
		return false, p.fail(`"/", ":" or the end`)
	}
}

// plainSegment reads a literal or a wildcard. In the last one the last colon opens the verb, so that a:b:c
// is the literal "a:b" with the verb "c"; in any other, colons are ordinary characters.
func (p *parser) plainSegment() (done bool, err error) {
	start := p.pos
	text, next := p.until("/{")
	switch next {
	case '{':
		p.pos += len(text)
		return false, p.fail(`"/", ":" or the end`)
	case '/':
		if err := p.segment(text); err != nil {
			return false, err
		}
		p.pos = start + len(text) + 1
		return false, nil
	}
	name, verb := text, ""
	if colon := strings.LastIndexByte(text, ':'); colon >= 0 {
		name, verb = text[:colon], text[colon+1:]
	}
	if root := start == 1 && name == ""; root {
		p.out.segments = append(p.out.segments, segment{kind: literal})
	} else if err := p.segment(name); err != nil {
		return false, err
	}
	p.pos = len(p.in) - len(verb)
	p.out.verb = verb
	return true, p.checkText(verb)
}

// variable = "{" ident { "." ident } [ "=" segment { "/" segment } ] "}"
func (p *parser) variable() error {
	p.take('{')
	start, from := p.pos, len(p.out.segments)
	for {
		if err := p.ident(); err != nil {
			return err
		}
		if !p.take('.') {
			break
		}
	}
	name := p.in[start:p.pos]
	for _, bound := range p.out.names {
		if name == bound || strings.HasPrefix(name, bound+".") || strings.HasPrefix(bound, name+".") {
			p.pos = start
			return p.failFound("a field that no other variable binds", strconv.Quote(name)+" beside "+strconv.Quote(bound))
		}
	}
	switch {
	case p.take('}'):
		p.out.segments = append(p.out.segments, segment{kind: star})
	case p.take('='):
		if err := p.variablePattern(); err != nil {
			return err
		}
	default:
		return p.fail(`".", "=" or "}"`)
	}
	p.out.names = append(p.out.names, name)
	p.out.variables = append(p.out.variables, variable{name: name, from: from, to: len(p.out.segments)})
	return nil
}

func (p *parser) variablePattern() error {
	for {
		start := p.pos
		text, next := p.until("/}")
		if err := p.segment(text); err != nil {
			return err
		}
		p.pos = start + len(text)
		if next == 0 {
			return p.fail(`"/" or "}"`)
		}
		p.pos++
		if next == '}' {
			return nil
		}
	}
}

// segment appends one wildcard or literal, which starts at p.pos.
func (p *parser) segment(text string) error {
	const expected = `"*", "**", a literal or a variable`
	switch text {
	case "":
		if p.peek('/') {
			return p.failFound(expected, foundEmpty)
		}
		return p.fail(expected)
	case "*":
		p.out.segments = append(p.out.segments, segment{kind: star})
	case "**":
		if p.out.deep >= 0 {
			return p.failFound(`at most one "**" in a template`, `a second "**"`)
		}
		p.out.deep = len(p.out.segments)
		p.out.segments = append(p.out.segments, segment{kind: deep})
	default:
		if err := p.checkText(text); err != nil {
			return err
		}
		p.out.segments = append(p.out.segments, segment{kind: literal, literal: text})
	}
	return nil
}

// ident reads [A-Za-z_][A-Za-z0-9_]*, a field name.
func (p *parser) ident() error {
	start := p.pos
	for p.pos < len(p.in) && (isIdentStart(p.in[p.pos]) || p.pos > start && isDigit(p.in[p.pos])) {
		p.pos++
	}
	if p.pos == start {
		return p.fail("a field name")
	}
	return nil
}

// checkText holds literals and verbs, starting at p.pos, to RFC 3986 pchars.
func (p *parser) checkText(text string) error {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '%':
			if i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
				p.pos += i
				return p.fail(`"%" and two hexadecimal digits`)
			}
			i += 2
		case !isPathChar(c):
			p.pos += i
			return p.fail("a character of a path segment (RFC 3986 pchar)")
		}
	}
	return nil
}

// until returns the text up to the first of the delimiters and that delimiter, 0 at the end.
func (p *parser) until(delimiters string) (text string, next byte) {
	rest := p.in[p.pos:]
	if i := strings.IndexAny(rest, delimiters); i >= 0 {
		return rest[:i], rest[i]
	}
	return rest, 0
}

func (p *parser) peek(c byte) bool { return p.pos < len(p.in) && p.in[p.pos] == c }

func (p *parser) take(c byte) bool {
	if !p.peek(c) {
		return false
	}
	p.pos++
	return true
}

func (p *parser) fail(expected string) error {
	found := "the end"
	if p.pos < len(p.in) {
		found = strconv.QuoteToASCII(p.in[p.pos : p.pos+1])
	}
	return p.failFound(expected, found)
}

func (p *parser) failFound(expected, found string) error {
	return &SyntaxError{Template: p.in, Position: p.pos, Expected: expected, Found: found}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isIdentStart(c byte) bool { return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '_' }

func isHex(c byte) bool { return isDigit(c) || 'A' <= c && c <= 'F' || 'a' <= c && c <= 'f' }

func isPathChar(c byte) bool {
	return isIdentStart(c) || isDigit(c) || c != 0 && strings.IndexByte("-.~!$&'()*+,;=:@", c) >= 0
}
