package route

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/sluice-gateway/sluice/tools/effort"
)

// router is runtime.ServeMux with several methods, and what it answered last: the number of the route that
// took the path and its parameters, or the status of its refusal.
type router struct {
	mux    *runtime.ServeMux
	route  int
	params map[string]string
	status int
}

func newRouter() *router {
	r := &router{}
	r.mux = runtime.NewServeMux(runtime.WithRoutingErrorHandler(
		func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, _ http.ResponseWriter, _ *http.Request, status int) {
			r.status = status
		}))
	return r
}

func (r *router) add(t *testing.T, method, template string, number int) {
	t.Helper()
	err := r.mux.HandlePath(method, template, func(_ http.ResponseWriter, _ *http.Request, p map[string]string) {
		r.route, r.params = number, p
	})
	if err != nil {
		t.Fatalf("ServeMux refuses %q, which Parse accepts: %v", template, err)
	}
}

func (r *router) serve(method, path string) {
	r.route, r.params, r.status = 0, nil, 0
	r.mux.ServeHTTP(discardResponse{}, &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{}})
}

type routeOf struct {
	method   string
	template Template
}

// both is the same routes twice: in an Index, and in one ServeMux that was given the least specific first. Of the
// patterns that match the mux takes the one registered last: so the two must be the same router, but for the
// habit that the package comment names.
type both struct {
	index  Index[int]
	mux    *router
	routes []routeOf // by number, from 1
}

func newBoth(t *testing.T, routes []routeOf) *both {
	t.Helper()
	b := &both{mux: newRouter(), routes: []routeOf{{}}}
	for _, r := range routes {
		if b.index.Add(r.method, r.template, len(b.routes)) == nil { // else of the same shape as an earlier one
			b.routes = append(b.routes, r)
		}
	}
	order := make([]int, 0, len(b.routes))
	for i := range b.routes[1:] {
		order = append(order, i+1)
	}
	slices.SortStableFunc(order, func(i, j int) int { return morePrecise(b.routes[j].template, b.routes[i].template) })
	for _, i := range order {
		b.mux.add(t, b.routes[i].method, b.routes[i].template.String(), i)
	}
	return b
}

// bareVerb says whether the mux would give up on the path: its last segment is nothing but a verb of the method.
func (b *both) bareVerb(method, path string) bool {
	last := lastSegment(path)
	return slices.ContainsFunc(b.routes, func(r routeOf) bool {
		return r.method == method && r.template.Verb() != "" && last == ":"+r.template.Verb()
	})
}

func (b *both) agree(t *testing.T, method, path string) {
	t.Helper()
	got, params, ok := b.index.Lookup(method, path)
	if b.bareVerb(method, path) {
		return
	}
	b.mux.serve(method, path)
	if ok != (b.mux.route != 0) || got != b.mux.route {
		t.Fatalf("%s %q: Lookup found %v %v, ServeMux %v; routes %v", method, path, got, b.routes[got], b.routes[b.mux.route], b.routes[1:])
	}
	if ok {
		filled := map[string]string{"of an earlier request": "x"}
		params.Fill(filled)
		if !maps.Equal(filled, b.mux.params) || params.Len() > 0 && !maps.Equal(params.Map(), b.mux.params) {
			t.Fatalf("%s %q, %v: params %q, ServeMux has %q", method, path, b.routes[got], filled, b.mux.params)
		}
		return
	}
	want := http.StatusNotFound
	switch allowed := b.index.Allowed(path); {
	case !strings.HasPrefix(path, "/"):
		want = http.StatusBadRequest
	case slices.Contains(allowed, method):
		t.Fatalf("%s %q is not found, but allowed: %q", method, path, allowed)
	case len(allowed) > 0:
		want = http.StatusMethodNotAllowed
	}
	if b.mux.status != want {
		t.Fatalf("%s %q: ServeMux refuses with %d, Lookup and Allowed with %d; routes %v", method, path, b.mux.status, want, b.routes[1:])
	}
}

// sameRouter reads a set of routes and paths from bytes, and holds Index and ServeMux against each other.
func sameRouter(t *testing.T, data []byte) {
	t.Helper()
	c := choices(data)
	method := func() string { return c.of(http.MethodGet, http.MethodGet, http.MethodPut, http.MethodPost) }
	routes := make([]routeOf, 1+c.below(24))
	for i := range routes {
		routes[i] = routeOf{method(), mustParse(t, c.template())}
	}
	b := newBoth(t, routes)
	for _, r := range b.routes[1:] {
		path := c.pathOf(r.template)
		b.agree(t, r.method, path)
		b.agree(t, method(), c.near(path))
	}
	for range 4 {
		b.agree(t, method(), c.path())
	}
}

// Sets of up to 24 routes of three methods, against one ServeMux. The seed is fixed: a failure must come again.
func TestIndexIsServeMux(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2026))
	data := make([]byte, 400)
	for range 5_000 {
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		sameRouter(t, data)
	}
}

func FuzzIndexIsServeMux(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{5, 0, 1, 1, 2, 3, 0, 0, 2, 4, 1, 1, 0, 7, 2, 2, 5, 1, 0, 3, 1, 6, 2, 8, 3, 1, 1})
	random := rand.New(rand.NewPCG(4, 4))
	for range 4 {
		data := make([]byte, 300)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(sameRouter)
}

// What the generator has to write for the tests above to mean anything.
func TestGeneratorWritesEveryForm(t *testing.T) {
	forms := map[string]func(Template) bool{
		"several *":                     func(t Template) bool { return strings.Count(joinSegments(t.segments)+"/", "*/") > 2 },
		"** first":                      func(t Template) bool { return t.deep == 0 },
		"** in the middle":              func(t Template) bool { return t.deep > 0 && t.deep < len(t.segments)-1 },
		"** last":                       func(t Template) bool { return t.deep >= 0 && t.deep == len(t.segments)-1 },
		"** with a verb":                func(t Template) bool { return t.deep >= 0 && t.verb != "" },
		"{a}":                           func(t Template) bool { return strings.Contains(t.text, "{v0}") },
		"{a=*}":                         func(t Template) bool { return strings.Contains(t.text, "=*}") },
		"{a=**}:verb":                   func(t Template) bool { return strings.Contains(t.text, "=**}:") },
		"a variable of a literal":       func(t Template) bool { return strings.Contains(t.text, "=a}") },
		"a variable of several":         func(t Template) bool { return len(t.variables) > 0 && t.variables[0].to-t.variables[0].from == 3 },
		"* in a variable's middle":      func(t Template) bool { return strings.Contains(t.text, "/*/") && strings.Contains(t.text, "=a/*/") },
		"** in a variable's middle":     func(t Template) bool { return strings.Contains(t.text, "=b/**/") },
		"more variables than inline":    func(t Template) bool { return len(t.variables) > inlineParams },
		"a field of a message":          func(t Template) bool { return strings.Contains(t.text, "{v0.of") },
		"a verb with a dot":             func(t Template) bool { return t.verb == "v1.b" },
		"a verb with a colon":           func(t Template) bool { return t.verb == "b:c" },
		"an escape":                     func(t Template) bool { return strings.Contains(t.text, "/%2f") },
		"a colon in a literal":          func(t Template) bool { return strings.Contains(t.text, "a:b/") },
		"a literal that ends in colon":  func(t Template) bool { return strings.HasSuffix(t.text, "b:") },
		"the root":                      func(t Template) bool { return t.text == "/" },
		"the root with a verb":          func(t Template) bool { return t.text == "/:b" },
		"a literal like a wildcard":     func(t Template) bool { return strings.Contains(t.text, "/***") },
		"a literal like a verb":         func(t Template) bool { return strings.Contains(t.text, "/:b/") },
		"a wildcard and then a literal": func(t Template) bool { return strings.HasPrefix(t.text, "/*/a/") },
	}
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 64)
	for range effort.Rounds(5_000, 50_000) {
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		c := choices(data)
		tmpl := mustParse(t, c.template())
		maps.DeleteFunc(forms, func(_ string, is func(Template) bool) bool { return is(tmpl) })
	}
	for form := range forms {
		t.Errorf("no template has %s", form)
	}
}

// Where the two differ on purpose.
func TestDifferencesFromServeMux(t *testing.T) {
	get := func(templates ...string) (*Index[int], *router) {
		index, mux := &Index[int]{}, newRouter()
		for i, s := range templates {
			if err := index.Add(http.MethodGet, mustParse(t, s), i+1); err != nil {
				t.Fatal(err)
			}
			mux.add(t, http.MethodGet, s, i+1)
		}
		return index, mux
	}
	for _, c := range []struct {
		name        string
		templates   []string
		path        string
		index, mux  int
		muxAnswered int
	}{
		{"the mux goes by the order of registration", []string{"/v1/users", "/v1/{x}"}, "/v1/users", 1, 2, 0},
		{"a more specific one that comes last is the same to both", []string{"/v1/{x}", "/v1/users"}, "/v1/users", 2, 2, 0},
		{"the mux gives up at a bare verb", []string{"/v1/{x}", "/v2/{x}:go"}, "/v1/:go", 1, 0, http.StatusNotFound},
	} {
		index, mux := get(c.templates...)
		got, _, _ := index.Lookup(http.MethodGet, c.path)
		mux.serve(http.MethodGet, c.path)
		if got != c.index || mux.route != c.mux || mux.status != c.muxAnswered {
			t.Errorf("%s: index %d, mux %d (status %d)", c.name, got, mux.route, mux.status)
		}
	}
}
