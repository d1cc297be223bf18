package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Index maps an HTTP method and a path to a value. Add everything first; from then on any number of
// goroutines may read it without locks. The zero Index is empty and ready for Add.
type Index[V any] struct {
	methods []methodTrie // sorted by method; a handful
	routes  []entry[V]
	// templates are those of routes: a look-up needs of them only their form.
	templates []Template
	forms     map[string]*form
}

type methodTrie struct {
	method string
	trie   *trie
}

type entry[V any] struct {
	form  *form
	value V
}

// CollisionError says that no path could tell two templates of one method apart.
type CollisionError struct {
	Method       string
	Added, Taken Template
}

func (e *CollisionError) Error() string {
	return fmt.Sprintf("route: %s %q collides with %q: they match the same paths with the same precedence",
		e.Method, e.Added, e.Taken)
}

// Add puts v under a method and a template. Methods are compared byte by byte, as HTTP does. A template of
// the same shape under the same method (variables count as the segments they capture) is refused by a
// *CollisionError, and the index stays as it was.
func (x *Index[V]) Add(method string, t Template, v V) error {
	if method == "" {
		return fmt.Errorf("route: %q has no method", t)
	}
	if len(t.segments) == 0 {
		return errors.New("route: the zero Template cannot be added: use Parse")
	}
	number := len(x.routes) + 1
	if holder := x.trie(method).insert(t, number); holder != number {
		return &CollisionError{Method: method, Added: t, Taken: x.templates[holder-1]}
	}
	x.routes, x.templates = append(x.routes, entry[V]{form: x.form(t), value: v}), append(x.templates, t)
	return nil
}

// form returns the one form that all templates share that are cut alike: it stays in the processor's cache,
// where thousands of equal ones would not.
func (x *Index[V]) form(t Template) *form {
	f := t.form()
	key := fmt.Sprintf("%+v %d %d %d", f.variables, f.segments, f.deep, f.verb)
	if shared := x.forms[key]; shared != nil {
		return shared
	}
	if x.forms == nil {
		x.forms = map[string]*form{}
	}
	x.forms[key] = &f
	return &f
}

// Lookup returns the value of the most specific template that matches a path made by Normalize, and the
// values of its variables. It allocates nothing on a miss, and on a hit only where a template has more
// variables than Params hold inline, or where ** takes nothing inside a longer variable.
func (x *Index[V]) Lookup(method, path string) (v V, params Params, ok bool) {
	for i := range x.methods {
		if x.methods[i].method != method {
			continue
		}
		number := x.methods[i].trie.find(path)
		if number == 0 {
			break
		}
		hit := &x.routes[number-1]
		return hit.value, hit.form.capture(path), true
	}
	return v, params, false
}

// Each calls take with the value of every template that matches a path made by Normalize, in no order that
// may be relied on. It allocates nothing.
func (x *Index[V]) Each(method, path string, take func(V)) {
	for i := range x.methods {
		if x.methods[i].method == method {
			x.methods[i].trie.each(path, func(number int32) { take(x.routes[number-1].value) })
			return
		}
	}
}

// Allowed returns the methods under which path would be found, sorted: what a 405's Allow header and the
// answer to OPTIONS name. It is nil, without an allocation, where there are none.
func (x *Index[V]) Allowed(path string) []string {
	var methods []string
	for i := range x.methods {
		if x.methods[i].trie.find(path) != 0 {
			methods = append(methods, x.methods[i].method)
		}
	}
	return methods
}

func (x *Index[V]) trie(method string) *trie {
	for i := range x.methods {
		if x.methods[i].method == method {
			return x.methods[i].trie
		}
	}
	added := methodTrie{method: method, trie: newTrie()}
	x.methods = append(x.methods, added)
	slices.SortFunc(x.methods, func(a, b methodTrie) int { return strings.Compare(a.method, b.method) })
	return added.trie
}
