package route

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A look-up takes as many steps among 5,000 routes as among 10: hits, misses, and paths of another method.
func TestStepsDoNotGrow(t *testing.T) {
	steps := map[string]int{}
	for _, n := range benchmarkSizes {
		templates, paths := apiOf(n)
		var index Index[int]
		for i, s := range templates {
			if err := index.Add(http.MethodGet, mustParse(t, s), i); err != nil {
				t.Fatal(err)
			}
		}
		trie := index.trie(http.MethodGet)
		count := func(name, path string, hit bool) {
			route, got := trie.search(path)
			if (route != 0) != hit {
				t.Fatalf("%d routes, %s: %q found %v", n, name, path, route)
			}
			if want, known := steps[name]; known && got != want {
				t.Errorf("%d routes, %s: %q takes %d steps, among 10 it takes %d", n, name, path, got, want)
			}
			steps[name] = got
		}
		for i, path := range paths {
			count(fmt.Sprintf("hit %d", i%5), path, true)
		}
		for i := range n / 5 {
			count("miss behind a resource", fmt.Sprintf("/v1/resources%d/ada/nothing:here", i), false)
		}
		count("miss", "/v1/nothing", false)
		count("miss at once", "/nothing/at/all", false)
	}
}

// Templates and paths made to have a walk go back as often as it can: it visits no node twice, and tries at
// each no more cuts than there are colons within the longest verb.
func TestStepsAreBounded(t *testing.T) {
	var doubled, deep, verbs []string
	for i := range 1 << 10 { // Each of ten segments is a or *: without bounds, 1,024 ways at each path.
		s := ""
		for bit := range 10 {
			s += []string{"/a", "/*"}[i>>bit&1]
		}
		doubled = append(doubled, s+"/end")
	}
	for i := range 30 {
		deep = append(deep, strings.Repeat("/a", i)+"/**"+strings.Repeat("/a", 30-i)+"/end", strings.Repeat("/*", i+1)+"/**/end")
	}
	for i := range 20 {
		verbs = append(verbs, "/*/a:x"+strings.Repeat(":x", i), "/a/**:x"+strings.Repeat(":x", i), "/**/*:y"+strings.Repeat(":x", i))
	}
	for name, templates := range map[string][]string{"doubled": doubled, "deep": deep, "verbs": verbs} {
		var index Index[int]
		longest := 0
		for i, s := range templates {
			tmpl := mustParse(t, s)
			if err := index.Add(http.MethodGet, tmpl, i); err != nil {
				t.Fatal(err)
			}
			longest = max(longest, len(tmpl.verb))
		}
		trie := index.trie(http.MethodGet)
		nodes := len(trie.nodes)
		for _, path := range []string{
			strings.Repeat("/a", 10), strings.Repeat("/a", 11), strings.Repeat("/a", MaxPath/2), strings.Repeat("/", MaxPath),
			strings.Repeat("/a", 10) + "/en", strings.Repeat("/a", 31) + "/x", strings.Repeat("/a", 4000) + "/END",
			"/a/" + strings.Repeat(":x", MaxPath/3), "/a/a" + strings.Repeat(":x", 30) + ":z", "/" + strings.Repeat(":", MaxPath-1), strings.Repeat("/:x", MaxPath/3),
		} {
			if _, steps := trie.search(path); steps > nodes*(2+longest) {
				t.Errorf("%s: %.40q (%d bytes) takes %d steps over %d nodes", name, path, len(path), steps, nodes)
			}
		}
	}
	// The numbers themselves, where there is one way and no verb.
	var index Index[int]
	if err := index.Add(http.MethodGet, mustParse(t, "/a/*/b/{c=d/*}"), 1); err != nil {
		t.Fatal(err)
	}
	if _, steps := index.trie(http.MethodGet).search("/a/x/b/d/y"); steps != 6 { // five nodes, one leaf
		t.Errorf("a plain hit takes %d steps", steps)
	}
}

// A server that keeps its map between requests matches, and fills it, without an allocation.
func TestLookupAndFillAllocateNothing(t *testing.T) {
	templates, paths := apiOf(5000)
	var index Index[int]
	for i, s := range templates {
		if err := index.Add(http.MethodGet, mustParse(t, s), i); err != nil {
			t.Fatal(err)
		}
	}
	kept := map[string]string{"name": "", "id": "", "part_id": ""}
	i := 0
	n := testing.AllocsPerRun(10_000, func() {
		_, params, ok := index.Lookup(http.MethodGet, paths[i%len(paths)])
		if !ok {
			t.Fatalf("%q is not found", paths[i%len(paths)])
		}
		params.Fill(kept)
		i++
	})
	if n != 0 {
		t.Errorf("a match allocates %v times", n)
	}
}
