package telemetry

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecent(t *testing.T) {
	r := NewRecent(3)
	ids := func() (out []string) {
		for _, f := range r.Last() {
			out = append(out, f.ID)
		}
		return out
	}
	for i, want := range [][]string{nil, {"1"}, {"2", "1"}, {"3", "2", "1"}, {"4", "3", "2"}, {"5", "4", "3"}, {"6", "5", "4"}, {"7", "6", "5"}} {
		if i > 0 {
			r.add(Failure{ID: fmt.Sprint(i)})
		}
		if diff := cmp.Diff(want, ids()); diff != "" {
			t.Errorf("after %d: %s", i, diff)
		}
	}
}
