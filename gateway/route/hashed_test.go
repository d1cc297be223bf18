package route

import (
	"fmt"
	"net/http"
	"testing"
)

// Nodes with many literals share one table: the same words under each of them lead to each one's own routes, and a
// word of one of them is not found under another.
func TestManyLiterals(t *testing.T) {
	var index Index[string]
	word := func(i int) string { return fmt.Sprint("w", i) }
	for _, i := range []int{3, 0, 2, 1} { // A list first, then hashed: what was listed must still be found.
		for j := range 60 {
			if j%4 == i && j > 40 {
				continue
			}
			path := "/" + word(i) + "/" + word(j)
			for _, p := range []string{path, path + "/{x}/" + word(j)} {
				if err := index.Add(http.MethodGet, mustParse(t, p), p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i := range 5 {
		for j := range 61 {
			path := "/" + word(i) + "/" + word(j)
			want := i < 4 && j < 60 && (j%4 != i || j <= 40)
			if got, _, ok := index.Lookup(http.MethodGet, path); ok != want || ok && got != path {
				t.Errorf("%s: found %q (%v), want it: %v", path, got, ok, want)
			}
			got, params, ok := index.Lookup(http.MethodGet, path+"/v/"+word(j))
			if v, _ := params.Get("x"); ok != want || ok && (got != path+"/{x}/"+word(j) || v != "v") {
				t.Errorf("%s: found %q with %q (%v), want it: %v", path, got, v, ok, want)
			}
		}
	}
}

// Templates that are cut alike share what says how, and only they.
func TestSharedForms(t *testing.T) {
	var index Index[int]
	for i, c := range []string{"/a/{x}", "/b/{x}", "/g/{y}", "/c/{x}:v", "/d/{x}:w", "/d/{x=**}", "/e/{x=*/*}", "/f/*/{x}"} {
		if err := index.Add(http.MethodGet, mustParse(t, c), i); err != nil {
			t.Fatal(err)
		}
	}
	if len(index.forms) != 6 { // The first two share one, and the two with a verb.
		t.Errorf("%d forms, want 6", len(index.forms))
	}
	for path, want := range map[string]string{"/a/1": "x=1", "/b/1": "x=1", "/c/1:v": "x=1", "/d/1:w": "x=1", "/d/1/2": "x=1/2", "/e/1/2": "x=1/2", "/f/1/2": "x=2", "/g/1": "y=1"} {
		_, params, ok := index.Lookup(http.MethodGet, path)
		if !ok || params.Len() != 1 {
			t.Fatalf("%s: not found", path)
		}
		if name, value := params.At(0); name+"="+value != want {
			t.Errorf("%s: %s=%s, want %s", path, name, value, want)
		}
	}
}
