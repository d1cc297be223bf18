package route

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		template  string
		segments  string // joined by slashes
		variables []string
		verb      string
	}{
		{"/", "", nil, ""},
		{"/:", "", nil, ""},
		{"/:x", "", nil, "x"},
		{"/v1/users", "v1/users", nil, ""},
		{"/v1/users/{user_id}", "v1/users/*", []string{"user_id"}, ""},
		{"/v1/{a.b.c_9}/{_d=**}", "v1/*/**", []string{"a.b.c_9", "_d"}, ""},
		{"/v1/{name=users/*/x/**}/y", "v1/users/*/x/**/y", []string{"name"}, ""},
		{"/v1/orders/{id}:cancel", "v1/orders/*", []string{"id"}, "cancel"},
		{"/v1/{id}:a:b", "v1/*", []string{"id"}, "a:b"},
		{"/v1/{id}:", "v1/*", []string{"id"}, ""},
		{"/v1/a:b:c", "v1/a:b", nil, "c"},
		{"/v1/a:b/c", "v1/a:b/c", nil, ""},
		{"/v1/:b/c", "v1/:b/c", nil, ""},
		{"/v1/*:go", "v1/*", nil, "go"},
		{"/v1/*:a:b", "v1/*:a", nil, "b"},
		{"/***/a=b/{x=c=d:e}", "***/a=b/c=d:e", []string{"x"}, ""},
		{"/a%20b:%2f", "a%20b", nil, "%2f"},
		{"/{a.b}/{a.c}/{ab}", "*/*/*", []string{"a.b", "a.c", "ab"}, ""},
		{"/..", "..", nil, ""},
	}
	for _, tt := range tests {
		got, err := Parse(tt.template)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.template, err)
			continue
		}
		if got.String() != tt.template || joinSegments(got.segments) != tt.segments ||
			!slices.Equal(got.Variables(), tt.variables) || got.Verb() != tt.verb {
			t.Errorf("Parse(%q) = %q, segments %q, variables %q, verb %q", tt.template, got, joinSegments(got.segments), got.Variables(), got.Verb())
		}
		if err := newOracle().add(tt.template, 1); err != nil {
			t.Errorf("ServeMux refuses %q: %v", tt.template, err)
		}
	}
}

func TestParseErrorsSayWhereAndWhat(t *testing.T) {
	const segment, path = `"*", "**", a literal or a variable`, "a character of a path segment (RFC 3986 pchar)"
	const once = "a field that no other variable binds"
	tests := []struct {
		template        string
		position        int
		expected, found string
	}{
		{"", 0, `"/"`, "the end"},
		{"v1", 0, `"/"`, `"v"`},
		{"/v1/", 4, segment, "the end"},
		{"/v1/:x", 4, segment, `":"`},
		{"//", 1, segment, foundEmpty},
		{"/v1//x", 4, segment, foundEmpty},
		{"/v1/{a=x//y}", 9, segment, foundEmpty},
		{"/v1/{a=/}", 7, segment, foundEmpty},
		{"/v1/{a=}", 7, segment, `"}"`},
		{"/v1/a b", 5, path, `" "`},
		{"/v1/é", 4, path, `"\xc3"`},
		{"/v1/\x00", 4, path, `"\x00"`},
		{"/v1/a?b=c", 5, path, `"?"`},
		{"/v1/a}", 5, path, `"}"`},
		{"/v1/%2", 4, `"%" and two hexadecimal digits`, `"%"`},
		{"/v1/x{a}", 5, `"/", ":" or the end`, `"{"`},
		{"/v1/{a}b", 7, `"/", ":" or the end`, `"b"`},
		{"/v1/{a}{b}", 7, `"/", ":" or the end`, `"{"`},
		{"/v1/{a}:b/c", 9, path, `"/"`},
		{"/v1/{}", 5, "a field name", `"}"`},
		{"/v1/{9a}", 5, "a field name", `"9"`},
		{"/v1/{a.}", 7, "a field name", `"}"`},
		{"/v1/{a-b}", 6, `".", "=" or "}"`, `"-"`},
		{"/v1/{a", 6, `".", "=" or "}"`, "the end"},
		{"/v1/{a=b", 8, `"/" or "}"`, "the end"},
		{"/v1/{a=b{c}}", 8, path, `"{"`},
		{"/v1/{a={b}}", 7, path, `"{"`},
		{"/{a}/{a}", 6, once, `"a" beside "a"`},
		{"/{a}/{b}/{a=x/**}", 10, once, `"a" beside "a"`},
		{"/{a.b}/{a}", 8, once, `"a" beside "a.b"`},
		{"/{a}/x/{a.b}", 8, once, `"a.b" beside "a"`},
		{"/v1/**/{b=**}", 10, `at most one "**" in a template`, `a second "**"`},
	}
	for _, tt := range tests {
		_, err := Parse(tt.template)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("Parse(%q): error %v, want a *SyntaxError", tt.template, err)
			continue
		}
		if want := (SyntaxError{tt.template, tt.position, tt.expected, tt.found}); *syntax != want {
			t.Errorf("Parse(%q):\n got %v\nwant %v", tt.template, err, &want)
		}
	}
}

func TestPattern(t *testing.T) {
	tmpl := mustParse(t, "/v1/{name=users/*/**}/{id}")
	for variable, want := range map[string]string{"name": "users/*/**", "id": "*", "other": ""} {
		if got := tmpl.Pattern(variable); got != want {
			t.Errorf("Pattern(%q) = %q, want %q", variable, got, want)
		}
	}
}

// FuzzParse holds Parse against the mux's parser: the same templates are templates, but for the two accidents
// that Parse names. Where both accept, the template matches the path in the same way.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"/", "/v1/{a.b=c/*/**}/d:e", "/v1/{id}:a:b", "/v1/a:b:c", "//", "/v1//", "/{a=/}", "/{a=//}", "/\x00", "/{a}\x00/x:y",
		"/:x", "/{a", "/{a=b", "/{=}", "/%4", "/{a}:b/c", "/*:x", "/**/**", "/{a={b}}", "/a}", "/{}", "/{a}{b}", "/{a.b.}",
	} {
		f.Add(s, "/v1/a:b/c:d")
	}
	f.Fuzz(func(t *testing.T, s, path string) {
		tmpl, err := Parse(s)
		reference := newOracle().add(s, 1)
		var syntax *SyntaxError
		switch {
		case err == nil && reference != nil:
			t.Fatalf("Parse(%q) accepts what ServeMux refuses: %v", s, reference)
		case err == nil:
			if tmpl.String() != s || len(tmpl.Variables()) != len(tmpl.variables) {
				t.Fatalf("Parse(%q) = %q with %q", s, tmpl, tmpl.Variables())
			}
			agree(t, []string{s}, path)
			c := choices(path)
			agree(t, []string{s}, c.pathOf(tmpl))
		case !errors.As(err, &syntax) || syntax.Position < 0 || syntax.Position > len(s):
			t.Fatalf("Parse(%q): error %v without a position", s, err)
		case reference == nil && syntax.Found != foundEmpty && !strings.Contains(s, "\x00"):
			t.Fatalf("Parse(%q) refuses what ServeMux accepts: %v", s, err)
		}
	})
}

func TestExpand(t *testing.T) {
	tests := []struct {
		template string
		values   map[string]string
		want     string
	}{
		{"/", nil, "/"},
		{"/v1/users", nil, "/v1/users"},
		{"/v1/users/{id}", map[string]string{"id": "ada"}, "/v1/users/ada"},
		{"/v1/users/{id}:ban", map[string]string{"id": "a b%é"}, "/v1/users/a%20b%25%C3%A9:ban"},
		{"/v1/{name=users/*/x}/y", map[string]string{"name": "users/a?b/x"}, "/v1/users/a%3Fb/x/y"},
		{"/v1/{p=**}", map[string]string{"p": ""}, "/v1"},
		{"/v1/{p=**}", map[string]string{"p": "a/b"}, "/v1/a/b"},
		{"/{p=**}", map[string]string{"p": ""}, "/"},
		{"/{p=a/**}", map[string]string{"p": "a/"}, "/a/"},
		{"/v1/*/{a.b}/**:go", map[string]string{"a.b": "1"}, "/v1/-/1/-:go"},
		{"/v1/a%20b", nil, "/v1/a%2520b"},
	}
	for _, tt := range tests {
		if got, err := mustParse(t, tt.template).Expand(tt.values); got != tt.want || err != nil {
			t.Errorf("%q with %q = %q, %v, want %q", tt.template, tt.values, got, err, tt.want)
		}
	}
}

func TestExpandRefuses(t *testing.T) {
	tests := []struct {
		name, template string
		values         map[string]string
	}{
		{"a missing value", "/v1/{id}", nil},
		{"an unknown name", "/v1/{id}", map[string]string{"id": "1", "di": "2"}},
		{"two segments for *", "/v1/{id}", map[string]string{"id": "a/b"}},
		{"a value against its literals", "/v1/{name=users/*}", map[string]string{"name": "orders/1"}},
		{"an empty segment", "/v1/{id}/x", map[string]string{"id": ""}},
		{"dots", "/v1/{id}", map[string]string{"id": ".."}},
		{"dots before a verb", "/v1/{id}:go", map[string]string{"id": ".."}},
		{"a control character", "/v1/{id}", map[string]string{"id": "a\x00"}},
		{"nothing before a verb", "/{p=**}:go", map[string]string{"p": ""}},
		{"too much", "/v1/{id}", map[string]string{"id": strings.Repeat("a", MaxPath)}},
		{"a literal that no path can have", "/v1/..", nil},
	}
	for _, tt := range tests {
		if got, err := mustParse(t, tt.template).Expand(tt.values); err == nil || got != "" {
			t.Errorf("%s: %q with %q = %q, want an error", tt.name, tt.template, tt.values, got)
		}
	}
	if got, err := (Template{}).Expand(nil); err == nil {
		t.Errorf("the zero Template expands to %q", got)
	}
}

func TestVariablesBelongToTheCaller(t *testing.T) {
	var index Index[int]
	tmpl := mustParse(t, "/{a}/{b}")
	if err := index.Add("GET", tmpl, 1); err != nil {
		t.Fatal(err)
	}
	tmpl.Variables()[0] = "changed"
	_, p, _ := index.Lookup("GET", "/1/2")
	if want := map[string]string{"a": "1", "b": "2"}; !maps.Equal(p.Map(), want) || p.Len() != 2 {
		t.Errorf("params = %q, want %q", p.Map(), want)
	}
}
