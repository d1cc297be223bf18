package route

import (
	"slices"
	"strings"
	"testing"
)

// TestParts: a template is put together from its parts, whatever its variables hold.
func TestParts(t *testing.T) {
	for text, want := range map[string]string{
		"/v1/users": "/v1/users", "/v1/users/{user_id}": "/v1/users/<user_id>", "/v1/{name=shelves/*/books/**}": "/v1/<name>",
		"/v1/users/{user.user_id}/orders/{order_id}:cancel": "/v1/users/<user.user_id>/orders/<order_id>:cancel",
		"/v1/*/x/{a=**}": "/v1/*/x/<a>", "/v1/{a}/{b=x/*}/y:z": "/v1/<a>/<b>/y:z",
	} {
		parsed, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		literals, variables := parsed.Parts()
		var got strings.Builder
		for i, l := range literals {
			got.WriteString(l)
			if i < len(variables) {
				got.WriteString("<" + variables[i] + ">")
			}
		}
		if got.String() != want || !slices.Equal(variables, parsed.Variables()) || len(literals) != len(variables)+1 {
			t.Errorf("%s: %s of %q and %q", text, got.String(), literals, variables)
		}
	}
}

// TestOverlaps: two templates overlap where a path can match both.
func TestOverlaps(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"/v1/users/{id}", "/v1/users/{user.user_id}", true}, {"/v1/users/{id}", "/v1/users/me", true}, {"/v1/users/{id}", "/v1/orders/{id}", false},
		{"/v1/users/{id}", "/v1/users", false}, {"/v1/users/{id}", "/v1/users/{id}/profile", false}, {"/v1/{name=**}", "/v1/users/{id}/profile", true},
		{"/v1/{name=users/*}", "/v1/users/{id}", true}, {"/v1/{name=users/*}", "/v1/orders/{id}", false}, {"/v1/users/{id}", "/v1/users/{id}:cancel", true},
	} {
		a, err := Parse(tc.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse(tc.b)
		if err != nil {
			t.Fatal(err)
		}
		if a.Overlaps(b) != tc.want || b.Overlaps(a) != tc.want {
			t.Errorf("%s and %s: %v", tc.a, tc.b, !tc.want)
		}
	}
}
