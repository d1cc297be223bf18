package route

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Each visits the templates that match, and no other.
func TestEachVisitsWhatMatches(t *testing.T) {
	words := []string{"a", "b", "*", "**", "{x=a/*}"}
	r := rand.New(rand.NewPCG(11, 11))
	for range 300 {
		var x Index[int]
		var alone []*Index[struct{}]
		for range 60 {
			var b strings.Builder
			for range 1 + r.IntN(4) {
				b.WriteString("/" + words[r.IntN(len(words))])
			}
			if r.IntN(3) == 0 {
				b.WriteString([]string{":go", ":a"}[r.IntN(2)])
			}
			tmpl, err := Parse(b.String())
			if err != nil || x.Add("*", tmpl, len(alone)) != nil {
				continue
			}
			one := &Index[struct{}]{}
			if err := one.Add("*", tmpl, struct{}{}); err != nil {
				t.Fatal(err)
			}
			alone = append(alone, one)
		}
		for range 50 {
			path := ""
			for range 1 + r.IntN(5) {
				path += "/" + []string{"a", "b", "c", "", "a:go", "b:a:go"}[r.IntN(6)]
			}
			var got, want []int
			x.Each("*", path, func(i int) { got = append(got, i) })
			for i, one := range alone {
				if _, _, ok := one.Lookup("*", path); ok {
					want = append(want, i)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: %v, want %v", path, got, want)
			}
		}
	}
}
