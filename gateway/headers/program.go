package headers

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// MaxValueBytes bounds a value, as it is written and as it comes out.
const MaxValueBytes = 4 << 10

// Rules are changes of headers, as the configuration writes them. Values are
// templates.
type Rules struct {
	// Set puts a header in the place of those of its name.
	Set map[string]string
	// Add puts a header beside those of its name.
	Add map[string]string
	// Remove takes headers away, first of all.
	Remove []string
}

// Scope says whose headers a program changes.
type Scope struct {
	// GRPC says that they are metadata: names in lower case, and values of
	// printable ASCII. Such headers are made anew for each call, so there is nothing
	// that could be taken away.
	GRPC bool
	// Response says that they are the answer's.
	Response bool
	// Secret are request headers that no template may name, beside those that are known
	// to carry credentials.
	Secret []string
	// PathVariables may be named by templates.
	PathVariables []string
}

// Header is what a program changes. http.Header is one. Names are canonical, or in
// lower case where the scope is gRPC's.
type Header interface {
	Set(name, value string)
	Add(name, value string)
	Del(name string)
}

// Program is compiled rules. It is immutable, and safe for concurrent use. A nil
// one changes nothing.
type Program struct {
	remove []string
	set    []field
	add    []field
	grpc   bool
	of     []part // the variables that say something of the caller
}

type field struct {
	name  string
	value template
}

// Compile checks rules; without any it returns nil. An error names the rule, and
// says what may stand there.
func Compile(r Rules, s Scope) (*Program, error) {
	if len(r.Set)+len(r.Add)+len(r.Remove) == 0 {
		return nil, nil //nolint:nilnil // No rules, no program.
	}
	p, c := &Program{grpc: s.GRPC}, compiler{scope: s}
	for _, name := range r.Remove {
		if s.GRPC {
			c.fail("remove", name, errors.New("there is nothing to take away: of a service's and a caller's metadata, nothing passes but what the gateway names"))
			continue
		}
		spelt := c.name("remove", name)
		if slices.Contains(p.remove, spelt) {
			c.fail("remove", name, errTwice)
		}
		p.remove = append(p.remove, spelt)
	}
	p.set = c.fields("set", r.Set)
	p.add = c.fields("add", r.Add)
	for _, f := range slices.Concat(p.set, p.add) {
		for _, v := range f.value.parts {
			if v.value != nil && !ofCall[v.label] {
				p.of = append(p.of, v)
			}
		}
	}
	return p, errors.Join(c.errs...)
}

var errTwice = errors.New("it is there twice, perhaps in two spellings")

// compiler collects what is wrong, so that all of it is told at once.
type compiler struct {
	scope Scope
	errs  []error
}

func (c *compiler) fail(rule, name string, err error) {
	c.errs = append(c.errs, fmt.Errorf("%s %q: %w", rule, name, err))
}

// fields compiles in the order of names, so that the order of a map does not show.
func (c *compiler) fields(rule string, from map[string]string) []field {
	var all []field
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		spelt := c.name(rule, name)
		if seen[spelt] {
			c.fail(rule, name, errTwice)
		}
		seen[spelt] = true
		t, err := parse(from[name], c.scope)
		if err != nil {
			c.fail(rule, name, err)
			continue
		}
		all = append(all, field{spelt, t})
	}
	return all
}

func (c *compiler) name(rule, name string) string {
	lower := strings.ToLower(name)
	switch {
	case strings.HasPrefix(name, ":"):
		c.fail(rule, name, errors.New("names that begin with a colon are HTTP's own"))
	case !httpguts.ValidHeaderFieldName(name):
		c.fail(rule, name, errors.New("a header's name has letters, digits and any of -_. only"))
	case c.scope.GRPC && strings.ContainsAny(name, "!#$%&'*+^`|~"):
		c.fail(rule, name, errors.New("a metadata key has letters, digits and any of -_. only"))
	case c.scope.GRPC && strings.HasSuffix(lower, "-bin"):
		c.fail(rule, name, errors.New("keys that end in -bin carry bytes, and templates make text"))
	case reserved(lower, c.scope):
		c.fail(rule, name, errors.New("HTTP, gRPC or the gateway need this header for themselves"))
	}
	if c.scope.GRPC {
		return lower
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// Apply changes dst. A value that comes out empty, too long, or with what no
// header may hold, is left out: what Set names is then taken away, for what a
// caller sent must not stand where the gateway should.
func (p *Program) Apply(dst Header, v Values) {
	if p == nil {
		return
	}
	for _, name := range p.remove {
		dst.Del(name)
	}
	for i := range p.set {
		if value, ok := p.render(&p.set[i], &v); ok {
			dst.Set(p.set[i].name, value)
		} else {
			dst.Del(p.set[i].name)
		}
	}
	for i := range p.add {
		if value, ok := p.render(&p.add[i], &v); ok {
			dst.Add(p.add[i].name, value)
		}
	}
}

// OfCaller says whether templates say something of the caller: by that, what a service
// makes of the headers may differ. {request_id}, {route} and {variant} do not.
func (p *Program) OfCaller() bool { return p != nil && len(p.of) > 0 }

// EachOfCaller yields what the templates say of the caller, each variable with its value.
func (p *Program) EachOfCaller(v Values, yield func(variable, value string)) {
	if p == nil {
		return
	}
	for i := range p.of {
		yield(p.of[i].label, p.of[i].render(&v))
	}
}

func (p *Program) render(f *field, v *Values) (string, bool) {
	if f.value.constant {
		return f.value.text, true
	}
	value := strings.TrimSpace(f.value.render(v))
	return value, value != "" && valid(value, p.grpc)
}

// valid says whether a value can be sent: RFC 9110 5.5 without tabs, and for
// metadata gRPC's printable ASCII.
func valid(value string, ascii bool) bool {
	if len(value) > MaxValueBytes {
		return false
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c == 0x7f || ascii && c > '~' {
			return false
		}
	}
	return true
}
