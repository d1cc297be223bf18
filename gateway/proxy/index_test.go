package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// linear is what the index stands for: the first route that takes a request, and the methods of all.
func linear(routes []*compiled, r *http.Request, method, path string) (first *compiled, methods []string) {
	for _, c := range routes {
		if !c.matcher.takes(r, hostOf(r), path) {
			continue
		}
		methods = append(methods, c.matcher.methods...)
		if first == nil && c.matcher.takesMethod(method) {
			first = c
		}
	}
	return first, methods
}

func compact(methods []string) []string {
	slices.Sort(methods)
	return slices.Compact(methods)
}

// randomMatches makes routes of few words, so that many of them take the same paths.
type randomMatches struct{ *rand.Rand }

func (g randomMatches) of(words ...string) string { return words[g.IntN(len(words))] }

func (g randomMatches) word() string { return g.of("a", "b", "v1", "users", "x:go", "é", "a b") }

func (g randomMatches) path() string {
	var b strings.Builder
	for range g.IntN(5) {
		b.WriteString("/" + g.word())
	}
	if b.Len() == 0 || g.IntN(8) == 0 {
		b.WriteString("/")
	}
	return b.String()
}

func (g randomMatches) host() string {
	return g.of("a.test", "b.a.test", "c.b.a.test", "xa.test", "test", "other", "", "A.Test:80", "a.test.")
}

func (g randomMatches) match() (m Match) {
	for range g.IntN(3) {
		if h := g.of("a.test", "b.a.test", "*.a.test", "*.test", "other"); !slices.Contains(m.Hosts, h) {
			m.Hosts = append(m.Hosts, h)
		}
	}
	for range g.IntN(3) {
		if v := g.of("GET", "POST", "PURGE"); !slices.Contains(m.Methods, v) {
			m.Methods = append(m.Methods, v)
		}
	}
	if g.IntN(4) == 0 {
		m.Headers = []HeaderMatch{{Name: "X-Kind", Value: g.of("", "one", "two")}}
	}
	escaped := strings.NewReplacer("é", "%C3%A9", " ", "%20").Replace(g.path())
	switch g.IntN(4) {
	case 0:
		m.Prefix = escaped
	case 1:
		m.Exact = escaped
	case 2:
		m.Regex = g.of(`/a.*`, `/(?P<p>[a-z]+)/b`, `.*`, `/v1/[^/]+`)
	default:
		m.Template = g.template()
	}
	return m
}

func (g randomMatches) template() string {
	var b strings.Builder
	deep := false
	for i := range 1 + g.IntN(4) {
		s := g.of("a", "b", "v1", "users", "*", fmt.Sprintf("{v%d}", i), fmt.Sprintf("{v%d=a/*}", i), "**")
		if s == "**" {
			if deep {
				s = "*"
			}
			deep = true
		}
		b.WriteString("/" + s)
	}
	if g.IntN(4) == 0 {
		b.WriteString(":go")
	}
	return b.String()
}

// Whatever the routes, the index finds what a walk through all of them finds.
func TestIndexFindsWhatAWalkFinds(t *testing.T) {
	for seed := range uint64(40) {
		g := randomMatches{rand.New(rand.NewPCG(seed, 11))}
		var x routeIndex
		for len(x.routes) < 100<<(seed%6) {
			m, err := compileMatch(g.match())
			if err != nil {
				continue // A template that is none.
			}
			if err := x.add(&compiled{name: fmt.Sprint(len(x.routes)), matcher: m}); err != nil {
				t.Fatal(err)
			}
		}
		for range 400 {
			r := &http.Request{Host: g.host(), Header: http.Header{}}
			if g.IntN(2) == 0 {
				r.Header["X-Kind"] = []string{g.of("one", "two", "three")}
			}
			path, method := g.path(), g.of("GET", "HEAD", "POST", "PURGE", "DELETE", "TRACE", "OPTIONS")
			want, methods := linear(x.routes, r, method, path)
			if got := x.find(r, method, path); got != want {
				t.Fatalf("seed %d: %s %s%s: got %v, want %v", seed, method, r.Host, path, named(got), named(want))
			}
			if got := compact(x.methods(r, path)); !slices.Equal(got, compact(methods)) {
				t.Fatalf("seed %d: methods of %s%s: %v, want %v", seed, r.Host, path, got, methods)
			}
		}
	}
}

func named(c *compiled) string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("%s %+v", c.name, *c.matcher)
}

// BenchmarkFind: the cost does not grow with the routes.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		var x routeIndex
		for i := range n {
			for _, m := range []Match{
				{Prefix: fmt.Sprintf("/p%d/", i)}, {Exact: fmt.Sprintf("/e/%d", i)}, {Template: fmt.Sprintf("/t/{id}/of%d/*", i)},
				{Hosts: []string{fmt.Sprintf("h%d.test", i)}, Prefix: "/"},
			} {
				c, err := compileMatch(m)
				if err != nil {
					b.Fatal(err)
				}
				if err := x.add(&compiled{matcher: c}); err != nil {
					b.Fatal(err)
				}
			}
		}
		// The last is as long as goes: what no prefix is as long as must not be looked up.
		for _, path := range []string{"/p5/a/b/c", "/e/5", "/t/1/of5/x", "/", strings.Repeat("/a", 4<<10)} {
			r := &http.Request{Host: "h5.test:443", Header: http.Header{}}
			b.Run(fmt.Sprintf("%d%.12s", 4*n, path), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if x.find(r, http.MethodGet, path) == nil {
						b.Fatal("no route")
					}
				}
			})
		}
	}
}
