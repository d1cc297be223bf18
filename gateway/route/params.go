package route

import "strings"

// inlineParams is how many values Params hold without an allocation. Resource names nest two or three deep;
// more is legal and costs one allocation.
const inlineParams = 4

// Params are the values of a matched template's variables. The values are cut from the looked-up path, and
// the names belong to the template: a copy is cheap, and nothing here changes after Lookup.
type Params struct {
	names  []string
	inline [inlineParams]string
	more   []string
}

// Len returns the number of variables.
func (p Params) Len() int { return len(p.names) }

// At returns the i-th variable in the template's order.
func (p Params) At(i int) (name, value string) {
	if i < inlineParams {
		return p.names[i], p.inline[i]
	}
	return p.names[i], p.more[i-inlineParams]
}

// Get returns a variable by its field path.
func (p Params) Get(name string) (value string, ok bool) {
	for i := range p.names {
		if p.names[i] == name {
			_, value = p.At(i)
			return value, true
		}
	}
	return "", false
}

// Map returns the values by field path, in the form generated handlers take. The map is the caller's own; it
// is nil where the template has no variables.
func (p Params) Map() map[string]string {
	if len(p.names) == 0 {
		return nil
	}
	m := make(map[string]string, len(p.names))
	p.Fill(m)
	return m
}

// Fill is Map into a map of the caller's, which it empties first: whoever keeps the map between requests pays
// for no new one. A map that has held as many names before is filled without an allocation.
func (p Params) Fill(m map[string]string) {
	clear(m)
	for i := range p.names {
		name, value := p.At(i)
		m[name] = value
	}
}

// form is what of a template cuts the variables out of a path. Most templates of an API share a few of them.
type form struct {
	names          []string
	variables      []variable
	segments, deep int // number of segments, and the place of ** among them or -1
	verb           int // bytes
}

func (t *Template) form() form {
	return form{names: t.names, variables: t.variables, segments: len(t.segments), deep: t.deep, verb: len(t.verb)}
}

// capture cuts the variables out of a path that the template is known to match. A template matches a path in one
// way only, because ** occurs once: so the walk need not carry captures through its backtracking.
func (t *form) capture(path string) Params {
	p := Params{names: t.names}
	if len(t.variables) == 0 {
		return p
	}
	if t.verb > 0 {
		path = path[:len(path)-t.verb-1]
	}
	c := cursor{path: path, offset: 1}
	if t.deep >= 0 {
		c.taken = strings.Count(path, "/") - t.segments + 1
	}
	if len(t.variables) > inlineParams {
		p.more = make([]string, len(t.variables)-inlineParams)
	}
	for i, v := range t.variables {
		value := c.value(t, v)
		if i < inlineParams {
			p.inline[i] = value
		} else {
			p.more[i-inlineParams] = value
		}
	}
	return p
}

// cursor walks once along the segments of a matched path, without its verb.
type cursor struct {
	path   string
	taken  int // path segments that ** takes, where the template has one
	at     int // number of the path segment that starts at offset
	offset int
}

// value returns the segments of one variable, joined by slashes. Variables come in order, so the cursor only
// ever moves on.
func (c *cursor) value(t *form, v variable) string {
	holdsDeep := v.from <= t.deep && t.deep < v.to
	if !holdsDeep || c.taken > 0 {
		return c.between(c.number(t, v.from), c.number(t, v.to))
	}
	// ** takes nothing here. It still stands between the slashes of a longer variable: {a=x/**} is "x/" on
	// the path "/x". That text is not in the path, hence the allocation.
	left := c.between(v.from, t.deep)
	right := c.between(t.deep, c.number(t, v.to))
	switch hasLeft, hasRight := v.from < t.deep, t.deep+1 < v.to; {
	case hasLeft && hasRight:
		return left + "//" + right
	case hasLeft:
		return left + "/"
	case hasRight:
		return "/" + right
	default:
		return ""
	}
}

// number turns the number of a template segment into that of the path segment it takes, or starts with.
func (c *cursor) number(t *form, segment int) int {
	if t.deep < 0 || segment <= t.deep {
		return segment
	}
	return segment + c.taken - 1
}

// between returns the text of the path segments [from, to), and leaves the cursor at to.
func (c *cursor) between(from, to int) string {
	c.seek(from)
	if from == to {
		return ""
	}
	start := c.offset
	c.seek(to)
	return c.path[start : c.offset-1]
}

func (c *cursor) seek(number int) {
	for ; c.at < number; c.at++ {
		slash := strings.IndexByte(c.path[c.offset:], '/')
		if slash < 0 {
			c.offset = len(c.path) + 1
			continue
		}
		c.offset += slash + 1
	}
}
