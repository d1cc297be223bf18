package route

import (
	"fmt"
	"net/http"
	"testing"
)

var benchmarkSizes = []int{10, 100, 1000, 5000}

// apiOf returns n templates of a plausible API, five a resource, and for each a path that matches it.
func apiOf(n int) (templates, paths []string) {
	for i := range n {
		base := fmt.Sprintf("/v1/resources%d", i/5)
		forms := [][2]string{
			{"", ""}, {"/{id}", "/ada"}, {"/{id}:cancel", "/ada:cancel"}, {"/{id}/parts/{part_id}", "/ada/parts/7"}, {"/{name=**}/tags", "/a/b/tags"},
		}
		form := forms[i%5]
		templates = append(templates, base+form[0])
		paths = append(paths, base+form[1])
	}
	return templates, paths
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range benchmarkSizes {
		templates, paths := apiOf(n)
		var index Index[int]
		for i, s := range templates {
			if err := index.Add(http.MethodGet, mustParse(b, s), i); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("hit/routes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				want := i * 7 % n
				if got, _, ok := index.Lookup(http.MethodGet, paths[want]); !ok || got != want {
					b.Fatalf("%q: found %d (%v), want %d", paths[want], got, ok, want)
				}
			}
		})
		// The same route each time: what the size of the index costs beside the caches of the processor, which the
		// benchmark above drives through all of it.
		b.Run(fmt.Sprintf("hot/routes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			params := map[string]string{}
			for b.Loop() {
				_, p, ok := index.Lookup(http.MethodGet, "/v1/resources1/ada/parts/7")
				if !ok {
					b.Fatal("not found")
				}
				p.Fill(params)
			}
		})
		b.Run(fmt.Sprintf("405/routes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, ok := index.Lookup(http.MethodPut, "/v1/resources1/ada/parts/7"); ok {
					b.Fatal("found")
				}
				if len(index.Allowed("/v1/resources1/ada/parts/7")) != 1 {
					b.Fatal("not allowed")
				}
			}
		})
		b.Run(fmt.Sprintf("miss/routes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, ok := index.Lookup(http.MethodGet, "/v1/resources0/ada/nothing:here"); ok {
					b.Fatal("found")
				}
			}
		})
	}
}

// BenchmarkServeMux is what the index replaces, on the same routes and paths.
func BenchmarkServeMux(b *testing.B) {
	for _, n := range benchmarkSizes {
		templates, paths := apiOf(n)
		o := newOracle()
		for i, s := range templates {
			if err := o.add(s, i+1); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("hit/routes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if got, _ := o.match(paths[i*7%n]); got == 0 {
					b.Fatalf("%q: nothing found", paths[i*7%n])
				}
			}
		})
	}
}

func BenchmarkNormalize(b *testing.B) {
	for name, path := range map[string]string{
		"plain":   "/v1/users/ada/orders/0123456789abcdef:cancel",
		"escaped": "/v1/users/ada/orders/0123456789abcdef%3Acancel",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Normalize(path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
