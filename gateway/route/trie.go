package route

import "strings"

// trie holds the templates of one HTTP method. A template's leaf is a number: its place in the index,
// counted from 1, so that 0 is "none".
//
// A walk visits a node at most once for a given path, whatever the path: before ** a node's depth is its
// path segment, and behind ** each length of tail has a trie of its own. Nothing a client sends makes
// backtracking cost more than the templates themselves allow.
//
// Nodes, tails and verbs lie in one slice each, in the order of their templates, and refer to one another by
// number: with thousands of routes a look-up is as dear as the cache lines that it has to wait for. 0 is the
// root, which is nobody's child, and so means "none".
type trie struct {
	nodes   []node
	text    []byte           // of all literals, each once
	texts   map[string]int32 // where in text
	many    hashed
	tails   []tail           // from 1
	verbs   []verb           // from 1
	verbIDs map[string]int32 // from 1
	maxVerb int              // bytes of the longest verb: bounds the search for colons in a path
}

type node struct {
	parent   int32
	literal  int32 // where in text the path segment is that leads here from parent
	length   int32 // of literal
	next     int32 // next of the parent's literals
	literals int32 // the first literal behind this node; inHash: there are many
	star     int32
	tails    int32 // the first tail behind **: the longest
	plain    int32 // the leaf without a verb
	verbs    int32 // the first leaf with one
	empty    int32 // the node behind a ** that ends its templates
}

// tail is what follows ** in templates: exactly length segments.
type tail struct{ length, root, next int32 }

// verb is a leaf with a verb.
type verb struct{ id, route, next int32 }

// few is how many literals are looked through one by one; more are hashed.
const (
	few    = 4
	inHash = -1
)

func newTrie() *trie {
	return &trie{nodes: make([]node, 1), tails: make([]tail, 1), verbs: make([]verb, 1), verbIDs: map[string]int32{}, texts: map[string]int32{}}
}

// insert adds a template as the given route, and returns the route that holds its place: another one where
// a template of the same shape came first.
func (t *trie) insert(tmpl Template, route int) (holder int) {
	n := int32(0)
	for i, s := range tmpl.segments {
		n = t.child(n, s, len(tmpl.segments)-i-1)
	}
	if tmpl.verb == "" {
		if t.nodes[n].plain == 0 {
			t.nodes[n].plain = int32(route)
		}
		return int(t.nodes[n].plain)
	}
	id := t.verbIDs[tmpl.verb]
	if id == 0 {
		id = int32(len(t.verbIDs) + 1)
		t.verbIDs[tmpl.verb] = id
		t.maxVerb = max(t.maxVerb, len(tmpl.verb))
	}
	if held := t.route(n, id); held != 0 {
		return int(held)
	}
	t.verbs = append(t.verbs, verb{id: id, route: int32(route), next: t.nodes[n].verbs})
	t.nodes[n].verbs = int32(len(t.verbs) - 1)
	return route
}

// child returns the node behind one segment, remaining being the number of segments after it.
func (t *trie) child(n int32, s segment, remaining int) int32 {
	switch s.kind {
	case literal:
		if c := t.literal(n, s.literal); c != 0 {
			return c
		}
		return t.addLiteral(n, s.literal)
	case star:
		if t.nodes[n].star == 0 {
			c := t.add(node{parent: n})
			t.nodes[n].star = c
		}
		return t.nodes[n].star
	default:
		return t.tail(n, int32(remaining))
	}
}

func (t *trie) add(n node) int32 {
	t.nodes = append(t.nodes, n)
	return int32(len(t.nodes) - 1)
}

func (t *trie) addLiteral(n int32, text string) int32 {
	first := t.nodes[n].literals
	at, known := t.texts[text]
	if !known {
		at = int32(len(t.text))
		t.text, t.texts[text] = append(t.text, text...), at
	}
	c := t.add(node{parent: n, literal: at, length: int32(len(text)), next: max(first, 0)})
	if first == inHash {
		t.many.add(t, c)
		return c
	}
	t.nodes[n].literals = c
	count := 0
	for i := c; i != 0; i = t.nodes[i].next {
		count++
	}
	if count > few {
		for i := c; i != 0; i = t.nodes[i].next {
			t.many.add(t, i)
		}
		t.nodes[n].literals = inHash
	}
	return c
}

// literal returns the node behind a literal, or 0.
func (t *trie) literal(n int32, text string) int32 {
	c := t.nodes[n].literals
	if c == inHash {
		return t.many.get(t, n, text)
	}
	for c != 0 && !t.is(c, text) {
		c = t.nodes[c].next
	}
	return c
}

// is says whether the literal that leads to a node is text.
func (t *trie) is(n int32, text string) bool {
	c := &t.nodes[n]
	return int(c.length) == len(text) && string(t.text[c.literal:c.literal+c.length]) == text
}

func (t *trie) tail(n, length int32) int32 {
	before := int32(0)
	i := t.nodes[n].tails
	for i != 0 && t.tails[i].length > length {
		before, i = i, t.tails[i].next
	}
	if i != 0 && t.tails[i].length == length {
		return t.tails[i].root
	}
	root := t.add(node{parent: n})
	t.tails = append(t.tails, tail{length: length, root: root, next: i})
	added := int32(len(t.tails) - 1)
	if before == 0 {
		t.nodes[n].tails = added
	} else {
		t.tails[before].next = added
	}
	if length == 0 {
		t.nodes[n].empty = root
	}
	return root
}

// find returns the route of the most specific template that matches path, or 0.
func (t *trie) find(path string) int {
	route, _ := t.search(path)
	return route
}

// search is find, and says how many steps it took: nodes visited, and cuts tried
// at them. Tests hold the walk to what the comment on trie promises.
func (t *trie) search(path string) (route, steps int) {
	w := walk{trie: t, path: path}
	return int(w.start()), w.steps
}

// each visits every route whose template matches path: what the walk finds is taken for nothing, so that it
// looks on everywhere.
func (t *trie) each(path string, visit func(route int32)) {
	w := walk{trie: t, path: path, visit: visit}
	w.start()
}

// start matches the whole path.
func (w *walk) start() int32 {
	path := w.path
	if path == "" || path[0] != '/' {
		return 0
	}
	w.firstCut = len(path)
	// A verb needs text before its colon: "/v1/:verb" has none.
	if last := strings.LastIndexByte(path, '/') + 1; w.maxVerb > 0 && last < len(path) {
		w.firstCut = w.cut(max(last+1, len(path)-w.maxVerb-1))
	}
	return w.from(0, 1)
}

// walk is one look-up. A position is the byte where a path segment starts. A cut is where the last segment
// ends and its verb begins: the byte of a colon with a known verb behind it, or the end of the path.
type walk struct {
	*trie
	path     string
	firstCut int
	steps    int
	visit    func(route int32) // of each
}

// from matches the path from pos on. Its order is the precedence that the package comment promises.
func (w *walk) from(n int32, pos int) int32 {
	w.steps++
	slash := strings.IndexByte(w.path[pos:], '/')
	if slash < 0 {
		return w.last(n, pos)
	}
	end := pos + slash
	if c := w.literal(n, w.path[pos:end]); c != 0 {
		if r := w.from(c, end+1); r != 0 {
			return r
		}
	}
	if c := w.nodes[n].star; c != 0 {
		if r := w.from(c, end+1); r != 0 {
			return r
		}
	}
	return w.behindDeep(n, pos)
}

// last matches the last path segment, with each way to cut a verb off it.
func (w *walk) last(n int32, pos int) int32 {
	at := &w.nodes[n]
	if at.literals != 0 {
		if r := w.lastLiteral(n, pos); r != 0 {
			return r
		}
	}
	if at.star != 0 {
		if r := w.leaf(at.star); r != 0 {
			return r
		}
		if c := w.nodes[at.star].empty; c != 0 {
			if r := w.leaf(c); r != 0 {
				return r
			}
		}
	}
	return w.behindDeep(n, pos)
}

// lastLiteral prefers a template that ends here to one whose ** takes nothing, whatever their verbs.
func (w *walk) lastLiteral(n int32, pos int) int32 {
	second := int32(0)
	for at := w.firstCut; ; at = w.cut(at + 1) {
		w.steps++
		if c := w.literal(n, w.path[pos:at]); c != 0 {
			id := w.verb(at)
			if r := w.ending(c, id); r != 0 {
				return r
			}
			if tail := w.nodes[c].empty; second == 0 && tail != 0 {
				second = w.ending(tail, id)
			}
		}
		if at == len(w.path) {
			return second
		}
	}
}

// behindDeep lets ** take what precedes each known tail, the longest tail first.
func (w *walk) behindDeep(n int32, pos int) int32 {
	for i := w.nodes[n].tails; i != 0; i = w.tails[i].next {
		t := w.tails[i]
		if t.length == 0 {
			return w.leaf(t.root) // the shortest tail, hence the last
		}
		start := w.tailStart(int(t.length))
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
func (w *walk) leaf(n int32) int32 {
	for at := w.firstCut; ; at = w.cut(at + 1) {
		w.steps++
		if r := w.ending(n, w.verb(at)); r != 0 || at == len(w.path) {
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
		if _, known := w.verbIDs[w.path[pos+1:]]; known {
			return pos
		}
		pos++
	}
}

// verb returns the number of what stands behind the colon of a cut; 0 is no verb.
func (w *walk) verb(cut int) int32 {
	if cut == len(w.path) {
		return 0
	}
	return w.verbIDs[w.path[cut+1:]]
}

// ending is route, or a visit.
func (w *walk) ending(n, verb int32) int32 {
	r := w.route(n, verb)
	if r != 0 && w.visit != nil {
		w.visit(r)
		return 0
	}
	return r
}

// route returns the route that ends at n with the verb, or 0.
func (t *trie) route(n, verb int32) int32 {
	if verb == 0 {
		return t.nodes[n].plain
	}
	for i := t.nodes[n].verbs; i != 0; i = t.verbs[i].next {
		if t.verbs[i].id == verb {
			return t.verbs[i].route
		}
	}
	return 0
}
