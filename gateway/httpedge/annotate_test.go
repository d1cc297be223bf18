package httpedge

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAnnotate: it is Header.Add, also where a header is there already, has
// several values, or is one too many for the exchange's own space.
func TestAnnotate(t *testing.T) {
	x := &Exchange{reply: reply{w: httptest.NewRecorder()}}
	x.Header().Set("Vary", "Origin")
	want := http.Header{"Vary": {"Origin"}}
	for _, kv := range [][2]string{{"a", "1"}, {"vary", "Accept"}, {"B", "2"}, {"A", "3"}, {"ratelimit", "4"}, {"c", "5"}, {"C", "6"}, {"b", "7"}, {"RateLimit", "8"}} {
		x.Annotate(kv[0], kv[1])
		want.Add(kv[0], kv[1])
		if diff := cmp.Diff(want, x.Header()); diff != "" {
			t.Fatalf("after %v (-want +got):\n%s", kv, diff)
		}
	}
}
