package route

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/tools/effort"
)

// The shop's surface, and what it takes to confuse it.
func TestLookupMatchesAsServeMuxDoes(t *testing.T) {
	tests := []struct {
		template, path string
		match          bool
		params         map[string]string
	}{
		{"/", "/", true, nil},
		{"/", "/a", false, nil},
		{"/:go", "/:go", false, nil}, // a verb needs a segment before it
		{"/v1/users", "/v1/users", true, nil},
		{"/v1/users", "/v1/users/", false, nil},
		{"/v1/users", "/v1/Users", false, nil},
		{"/v1/users", "v1/users", false, nil},
		{"/v1/users", "", false, nil},
		{"/v1/users/{user_id}", "/v1/users/ada", true, map[string]string{"user_id": "ada"}},
		{"/v1/users/{user_id}", "/v1/users/", true, map[string]string{"user_id": ""}}, // the mux's rule: * takes an empty segment
		{"/v1/users/{user_id}", "/v1/users//", false, nil},
		{"/v1/users/{user_id}", "/v1/users", false, nil},
		{"/v1/users/{user_id}", "/v1/users/ada:x", true, map[string]string{"user_id": "ada:x"}},
		{"/v1/users:batchGet", "/v1/users:batchGet", true, nil},
		{"/v1/users:batchGet", "/v1/users:batchget", false, nil},
		{"/v1/orders/{id}:cancel", "/v1/orders/1:cancel", true, map[string]string{"id": "1"}},
		{"/v1/orders/{id}:cancel", "/v1/orders/:cancel", false, nil},
		{"/v1/orders/{id}:cancel", "/v1/orders/1:cancel:cancel", true, map[string]string{"id": "1:cancel"}},
		{"/v1/orders/{id}:a:b", "/v1/orders/1:a:b", true, map[string]string{"id": "1"}},
		{"/v1/a:b:c", "/v1/a:b:c", true, nil},
		{"/v1/a:b/c", "/v1/a:b/c", true, nil},
		{"/v1/{user.user_id}/profile", "/v1/ada/profile", true, map[string]string{"user.user_id": "ada"}},
		{"/v1/{name=users/*/orders/*}", "/v1/users/1/orders/2", true, map[string]string{"name": "users/1/orders/2"}},
		{"/v1/{name=users/*}/x", "/v1/users/1/x", true, map[string]string{"name": "users/1"}},
		{"/f/{p=**}", "/f", true, map[string]string{"p": ""}},
		{"/f/{p=**}", "/f/", true, map[string]string{"p": ""}},
		{"/f/{p=**}", "/f/a/b", true, map[string]string{"p": "a/b"}},
		{"/f/{p=**}:go", "/f/a/b:go", true, map[string]string{"p": "a/b"}},
		{"/f/{p=**}:go", "/f:go", true, map[string]string{"p": ""}},
		{"/{p=a/**}", "/a", true, map[string]string{"p": "a/"}},
		{"/{p=**/a}", "/a", true, map[string]string{"p": "/a"}},
		{"/{p=a/**/b}/{q}", "/a/b/c", true, map[string]string{"p": "a//b", "q": "c"}},
		{"/{p=**}/{q}/x", "/a/b/c/x", true, map[string]string{"p": "a/b", "q": "c"}},
		{"/{a}/{b}/{c}/{d}/{e}/{f}", "/1/2/3/4/5/6", true,
			map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5", "f": "6"}},
	}
	for _, tt := range tests {
		t.Run(tt.template+" on "+tt.path, func(t *testing.T) {
			var index Index[int]
			if err := index.Add("GET", mustParse(t, tt.template), 7); err != nil {
				t.Fatal(err)
			}
			v, params, ok := index.Lookup("GET", tt.path)
			if ok != tt.match || ok && v != 7 || !maps.Equal(params.Map(), tt.params) {
				t.Errorf("Lookup = %d, %q, %v, want match %v with %q", v, params.Map(), ok, tt.match, tt.params)
			}
			for name, want := range tt.params {
				if got, ok := params.Get(name); !ok || got != want {
					t.Errorf("Get(%q) = %q, %v, want %q", name, got, ok, want)
				}
			}
			if _, _, ok := index.Lookup("PUT", tt.path); ok {
				t.Error("found under another method")
			}
			agree(t, []string{tt.template}, tt.path)
		})
	}
}

func TestPrecedence(t *testing.T) {
	tests := []struct {
		name, path string
		order      []string // the most specific first; all match the path
	}{
		{"literal, *, **", "/v1/a", []string{"/v1/a", "/v1/{x}", "/v1/**", "/{x}/a", "/*/*", "/*/**", "/**/a", "/**"}},
		{"** that takes nothing", "/a/b", []string{"/a/b", "/a/b/**", "/a/*", "/a/**/b", "/a/**", "/**/a/b", "/**/b"}},
		{"verb before none", "/v1/1:go", []string{"/v1/{x}:go", "/v1/{x}", "/v1/**:go", "/v1/**"}},
		{"segments before verbs", "/v1/users/1:go", []string{"/v1/users/{x}", "/v1/{a}/{b}:go", "/{a=**}:go"}},
		{"the longer verb", "/v1/1:a:b", []string{"/v1/{x}:a:b", "/v1/{x}:b", "/v1/{x}"}},
		{"literals with colons", "/a:b:c", []string{"/{x=a}:b:c", "/a:b:c", "/a:b:c:", "/*:c", "/*"}},
		{"no verb on a literal before ** with one", "/a:b", []string{"/a:b:", "/a/**:b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i := range tt.order {
				rest := slices.Clone(tt.order[i:])
				for range len(rest) { // precedence must not depend on the order of registration
					rest = append(rest[1:], rest[0])
					var index Index[string]
					for _, s := range rest {
						if err := index.Add("GET", mustParse(t, s), s); err != nil {
							t.Fatal(err)
						}
					}
					if got, _, ok := index.Lookup("GET", tt.path); !ok || got != tt.order[i] {
						t.Errorf("of %q, Lookup found %q (%v), want %q", rest, got, ok, tt.order[i])
					}
				}
				agree(t, rest, tt.path)
			}
		})
	}
}

func TestLookupBacktracks(t *testing.T) {
	templates := []string{"/a/b/c", "/a/*/d", "/*/b/e", "/**/f", "/a/**/g/*", "/a/b/*:v"}
	for path, want := range map[string]string{
		"/a/b/c": "/a/b/c", "/a/b/d": "/a/*/d", "/a/b/e": "/*/b/e", "/a/b/f": "/**/f", "/a/b/g/f": "/a/**/g/*",
		"/a/b/x:v": "/a/b/*:v", "/a/b/x": "", "/a/b": "",
	} {
		var index Index[string]
		for _, s := range templates {
			if err := index.Add("GET", mustParse(t, s), s); err != nil {
				t.Fatal(err)
			}
		}
		if got, _, ok := index.Lookup("GET", path); got != want || ok != (want != "") {
			t.Errorf("%q: found %q (%v), want %q", path, got, ok, want)
		}
		agree(t, templates, path)
	}
}

func TestAddRefusesCollisions(t *testing.T) {
	tests := []struct {
		taken, added string
		collide      bool
	}{
		{"/v1/{a}", "/v1/{b}", true},
		{"/v1/{a}", "/v1/*", true},
		{"/v1/{a}/{b}", "/v1/{c=*/*}", true},
		{"/v1/{a=x/*}", "/v1/x/{b}", true},
		{"/v1/{a=**}", "/v1/**", true},
		{"/v1/a", "/v1/a:", true},
		{"/v1/{a}:x", "/v1/{b}:x", true},
		{"/v1/{a}:x", "/v1/{b}:y", false},
		{"/v1/{a}:x", "/v1/{b}", false},
		{"/v1/{a}", "/v1/a", false},
		{"/v1/**", "/v1/*", false},
		{"/**/a", "/**/*/a", false},
		{"/", "/*", false},
	}
	for _, tt := range tests {
		var index Index[string]
		if err := index.Add("GET", mustParse(t, tt.taken), "taken"); err != nil {
			t.Fatal(err)
		}
		err := index.Add("GET", mustParse(t, tt.added), "added")
		var collision *CollisionError
		if errors.As(err, &collision) != tt.collide {
			t.Errorf("%q after %q: error %v, want a collision: %v", tt.added, tt.taken, err, tt.collide)
			continue
		}
		if tt.collide {
			if collision.Added.String() != tt.added || collision.Taken.String() != tt.taken || collision.Method != "GET" {
				t.Errorf("%q after %q: the error names %q", tt.added, tt.taken, err)
			}
			if err := index.Add("PUT", mustParse(t, tt.added), "other method"); err != nil {
				t.Errorf("%q under another method: %v", tt.added, err)
			}
		}
	}
}

func TestAddRefusesMisuse(t *testing.T) {
	var index Index[int]
	if err := index.Add("", mustParse(t, "/a"), 1); err == nil {
		t.Error("an empty method was accepted")
	}
	if err := index.Add("GET", Template{}, 1); err == nil {
		t.Error("the zero Template was accepted")
	}
	if got := index.Allowed("/a"); got != nil {
		t.Errorf("Allowed = %q after nothing was added", got)
	}
}

func TestAllowed(t *testing.T) {
	var index Index[int]
	for i, r := range [][2]string{
		{"POST", "/v1/users"}, {"GET", "/v1/users"}, {"GET", "/v1/users/{id}"}, {"PATCH", "/v1/users/{user.id}"},
		{"DELETE", "/v1/users/*"}, {"POST", "/v1/users/{id}:ban"},
	} {
		if err := index.Add(r[0], mustParse(t, r[1]), i); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string][]string{
		"/v1/users":       {"GET", "POST"},
		"/v1/users/1":     {"DELETE", "GET", "PATCH"},
		"/v1/users/1:ban": {"DELETE", "GET", "PATCH", "POST"},
		"/v1/orders":      nil,
	} {
		if got := index.Allowed(path); !slices.Equal(got, want) {
			t.Errorf("Allowed(%q) = %q, want %q", path, got, want)
		}
	}
}

// Ten thousand random indexes against the reference. The seed is fixed: a failure must come again.
func TestIndexAgreesWithServeMux(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 32))
	for range effort.Rounds(1_000, 10_000) {
		data := make([]byte, 160)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		agreeOn(t, data)
	}
}

// agreeOn reads templates and paths from bytes, and holds them against the reference.
func agreeOn(t *testing.T, data []byte) {
	t.Helper()
	c := choices(data)
	templates := make([]string, 1+c.below(6))
	for i := range templates {
		templates[i] = c.template()
	}
	paths := []string{c.path(), c.path()}
	for _, s := range templates {
		paths = append(paths, c.pathOf(mustParse(t, s)))
	}
	for _, path := range paths {
		agree(t, templates, path)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 1, 2, 0, 1, 4, 2, 2, 0, 1, 3, 0, 0, 2, 1, 1, 0, 0, 5, 3, 2, 1})
	f.Add([]byte{1, 0, 0, 1, 2, 0, 3, 1, 0, 2, 4, 1, 7, 7, 7, 1, 0, 3, 3, 3})
	f.Fuzz(agreeOn)
}

func TestConcurrentReads(t *testing.T) {
	var index Index[string]
	for _, s := range []string{"/v1/{a}", "/v1/{a}:go", "/v1/**"} {
		if err := index.Add(http.MethodGet, mustParse(t, s), s); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if v, p, ok := index.Lookup(http.MethodGet, "/v1/x:go"); !ok || v != "/v1/{a}:go" || p.Map()["a"] != "x" {
					t.Errorf("found %q (%v)", v, ok)
					return
				}
				index.Allowed("/v1/x/y")
			}
		})
	}
	wg.Wait()
}

func TestLookupAllocates(t *testing.T) {
	var index Index[int]
	for i, s := range []string{"/v1/users/{id}", "/v1/users/{id}/orders/{order}", "/v1/users/{id}:ban", "/v1/f/{p=**}",
		"/v1/{a}/{b}/{c}/{d}/{e}", "/v1/{z=z/**}"} {
		if err := index.Add("GET", mustParse(t, s), i); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		path string
		want float64
	}{
		{"/v1/users/ada", 0},
		{"/v1/users/ada/orders/1", 0},
		{"/v1/users/ada:ban", 0},
		{"/v1/users/ada:ban:ban", 0},
		{"/v1/f/a/b/c/d/e/f", 0},
		{"/v1/1/2/3/4/5", 1}, // one more than fits inline
		{"/v1/z", 1},         // "z/" is not in the path
		{"/v1/users", 0},
		{"/nowhere/to/be/found", 0},
	} {
		got := testing.AllocsPerRun(100, func() { index.Lookup("GET", tt.path) })
		if got != tt.want {
			t.Errorf("Lookup(%q) allocates %v times, want %v", tt.path, got, tt.want)
		}
	}
	if got := testing.AllocsPerRun(100, func() { index.Allowed("/nowhere") }); got != 0 {
		t.Errorf("Allowed allocates %v times on a miss", got)
	}
}
