package route

import "strings"

// trie holds the templates of one HTTP method. A template's leaf is a number: its place in the index,
// counted from 1, so that 0 is "none".
//
// A walk visits a node at most once for a given path, whatever the path: before ** a node's depth is its
// path segment, and behind ** each length of tail has a trie of its own. Nothing a client sends makes
// backtracking cost more than the templates themselves allow.
type trie struct {
	root    node
	verbs   map[string]struct{}
	maxVerb int // bytes of the longest verb: bounds the search for colons in a path
}

type node struct {
	literals table[*node]
	star     *node
	tails    []tail // behind **, longest first
	plain    int    // the leaf without a verb
	verbs    table[int]
}

// tail is what follows ** in templates: exactly length segments.
type tail struct {
	length int
	root   *node
}

// insert adds a template as the given route, and returns the route that holds its place: another one where
// a template of the same shape came first.
func (t *trie) insert(tmpl Template, route int) (holder int) {
	n := &t.root
	for i, s := range tmpl.segments {
		n = n.child(s, len(tmpl.segments)-i-1)
	}
	if tmpl.verb == "" {
		if n.plain == 0 {
			n.plain = route
		}
		return n.plain
	}
	if n.verbs.get(tmpl.verb) == 0 {
		n.verbs.set(tmpl.verb, route)
	}
	if t.verbs == nil {
		t.verbs = map[string]struct{}{}
	}
	t.verbs[tmpl.verb] = struct{}{}
	t.maxVerb = max(t.maxVerb, len(tmpl.verb))
	return n.verbs.get(tmpl.verb)
}

// child returns the node behind one segment, remaining being the number of segments after it.
func (n *node) child(s segment, remaining int) *node {
	switch s.kind {
	case literal:
		c := n.literals.get(s.literal)
		if c == nil {
			c = &node{}
			n.literals.set(s.literal, c)
		}
		return c
	case star:
		if n.star == nil {
			n.star = &node{}
		}
		return n.star
	default:
		return n.tail(remaining)
	}
}

func (n *node) tail(length int) *node {
	at := 0
	for at < len(n.tails) && n.tails[at].length > length {
		at++
	}
	if at == len(n.tails) || n.tails[at].length != length {
		n.tails = append(n.tails, tail{})
		copy(n.tails[at+1:], n.tails[at:])
		n.tails[at] = tail{length: length, root: &node{}}
	}
	return n.tails[at].root
}

// find returns the route of the most specific template that matches path, or 0.
func (t *trie) find(path string) int {
	route, _ := t.search(path)
	return route
}

// search is find, and says how many steps it took: nodes visited, and cuts tried
// at them. Tests hold the walk to what the comment on trie promises.
func (t *trie) search(path string) (route, steps int) {
	if path == "" || path[0] != '/' {
		return 0, 0
	}
	w := walk{trie: t, path: path, firstCut: len(path)}
	// A verb needs text before its colon: "/v1/:verb" has none.
	if last := strings.LastIndexByte(path, '/') + 1; t.maxVerb > 0 && last < len(path) {
		w.firstCut = w.cut(max(last+1, len(path)-t.maxVerb-1))
	}
	return w.from(&t.root, 1), w.steps
}

// walk is one look-up. A position is the byte where a path segment starts. A cut is where the last segment
// ends and its verb begins: the byte of a colon with a known verb behind it, or the end of the path.
type walk struct {
	*trie
	path     string
	firstCut int
	steps    int
}

// from matches the path from pos on. Its order is the precedence that the package comment promises.
func (w *walk) from(n *node, pos int) int {
	w.steps++
	slash := strings.IndexByte(w.path[pos:], '/')
	if slash < 0 {
		return w.last(n, pos)
	}
	end := pos + slash
	if c := n.literals.get(w.path[pos:end]); c != nil {
		if r := w.from(c, end+1); r != 0 {
			return r
		}
	}
	if n.star != nil {
		if r := w.from(n.star, end+1); r != 0 {
			return r
		}
	}
	return w.behindDeep(n, pos)
}

// last matches the last path segment, with each way to cut a verb off it.
func (w *walk) last(n *node, pos int) int {
	if !n.literals.empty() {
		if r := w.lastLiteral(n, pos); r != 0 {
			return r
		}
	}
	if n.star != nil {
		if r := w.leaf(n.star); r != 0 {
			return r
		}
		if r := w.leaf(n.star.emptyTail()); r != 0 {
			return r
		}
	}
	return w.behindDeep(n, pos)
}

// lastLiteral prefers a template that ends here to one whose ** takes nothing, whatever their verbs.
func (w *walk) lastLiteral(n *node, pos int) int {
	second := 0
	for at := w.firstCut; ; at = w.cut(at + 1) {
		w.steps++
		if c := n.literals.get(w.path[pos:at]); c != nil {
			if r := c.route(w.verb(at)); r != 0 {
				return r
			}
			if second == 0 {
				second = c.emptyTail().route(w.verb(at))
			}
		}
		if at == len(w.path) {
			return second
		}
	}
}

// behindDeep lets ** take what precedes each known tail, the longest tail first.
func (w *walk) behindDeep(n *node, pos int) int {
	for _, t := range n.tails {
		if t.length == 0 {
			return w.leaf(t.root) // the shortest tail, hence the last
		}
		start := w.tailStart(t.length)
		if start < pos {
			continue
		}
		if r := w.from(t.root, start); r != 0 {
			return r
		}
	}
	return 0
}

// tailStart returns where the last length segments of the path start, 0 if it has fewer.
func (w *walk) tailStart(length int) int {
	slash := len(w.path)
	for range length {
		if slash <= 0 {
			return 0
		}
		slash = strings.LastIndexByte(w.path[:slash], '/')
	}
	return slash + 1
}

// leaf returns the route that ends at n, the longest verb first and no verb last.
func (w *walk) leaf(n *node) int {
	if n == nil {
		return 0
	}
	for at := w.firstCut; ; at = w.cut(at + 1) {
		w.steps++
		if r := n.route(w.verb(at)); r != 0 || at == len(w.path) {
			return r
		}
	}
}

// cut returns the first cut at or behind pos.
func (w *walk) cut(pos int) int {
	for {
		colon := strings.IndexByte(w.path[pos:], ':')
		if colon < 0 {
			return len(w.path)
		}
		pos += colon
		if _, known := w.verbs[w.path[pos+1:]]; known {
			return pos
		}
		pos++
	}
}

// verb returns what stands behind the colon of a cut.
func (w *walk) verb(cut int) string {
	if cut == len(w.path) {
		return ""
	}
	return w.path[cut+1:]
}

func (n *node) route(verb string) int {
	switch {
	case n == nil:
		return 0
	case verb == "":
		return n.plain
	default:
		return n.verbs.get(verb)
	}
}

// emptyTail returns the node where templates end that have ** next and nothing behind it, or nil.
func (n *node) emptyTail() *node {
	if len(n.tails) == 0 || n.tails[len(n.tails)-1].length != 0 {
		return nil
	}
	return n.tails[len(n.tails)-1].root
}
