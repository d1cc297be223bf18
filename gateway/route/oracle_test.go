package route

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/grpclog"
)

// TestMain silences grpc-gateway's complaints about the templates it refuses.
func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	os.Exit(m.Run())
}

// oracle is runtime.ServeMux, the reference for what a template matches.
type oracle struct {
	mux     *runtime.ServeMux
	matched int
	params  map[string]string
}

func newOracle() *oracle {
	noMatch := func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, int) {}
	return &oracle{mux: runtime.NewServeMux(runtime.WithRoutingErrorHandler(noMatch))}
}

// add registers a template as the given number.
func (o *oracle) add(template string, number int) error {
	return o.mux.HandlePath(http.MethodGet, template, func(_ http.ResponseWriter, _ *http.Request, p map[string]string) {
		o.matched, o.params = number, p
	})
}

// match returns the number of the template that took the path, 0 for none, and its parameters.
func (o *oracle) match(path string) (int, map[string]string) {
	o.matched, o.params = 0, nil
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}}
	o.mux.ServeHTTP(discardResponse{}, r)
	return o.matched, o.params
}

// alone answers for one template in a mux of its own.
func alone(t *testing.T, template, path string) (bool, map[string]string) {
	t.Helper()
	o := newOracle()
	if err := o.add(template, 1); err != nil {
		t.Fatalf("ServeMux refuses %q, which Parse accepts: %v", template, err)
	}
	n, params := o.match(path)
	return n == 1, params
}

type discardResponse struct{}

func (discardResponse) Header() http.Header         { return http.Header{} }
func (discardResponse) Write(p []byte) (int, error) { return len(p), nil }
func (discardResponse) WriteHeader(int)             {}

// agree holds one index over all the templates against the oracle, on one path. Which templates match is
// decided by a mux a template; which of them wins, by morePrecise, that knows nothing of the trie.
func agree(t *testing.T, templates []string, path string) {
	t.Helper()
	var index Index[string]
	whole := newOracle()
	var matching []Template
	params := map[string]map[string]string{}
	verbAlone := false
	for i, s := range templates {
		tmpl := mustParse(t, s)
		if err := index.Add(http.MethodGet, tmpl, s); err != nil {
			continue // same shape as an earlier one
		}
		if err := whole.add(s, i+1); err != nil {
			t.Fatalf("ServeMux refuses %q, which Parse accepts: %v", s, err)
		}
		verbAlone = verbAlone || lastSegment(path) == ":"+tmpl.Verb()
		if ok, p := alone(t, s, path); ok {
			matching = append(matching, tmpl)
			params[s] = p
		}
	}
	got, p, ok := index.Lookup(http.MethodGet, path)
	if ok != (len(matching) > 0) {
		t.Fatalf("path %q: Lookup found %v (%q), ServeMux matches %v", path, ok, got, matching)
	}
	if allowed := index.Allowed(path); slices.Equal(allowed, []string{http.MethodGet}) != ok {
		t.Fatalf("path %q: Lookup found %v, Allowed returns %q", path, ok, allowed)
	}
	if !ok {
		return
	}
	want := slices.MinFunc(matching, morePrecise).String()
	if got != want {
		t.Fatalf("path %q: Lookup found %q, want %q of %v", path, got, want, matching)
	}
	if !maps.Equal(p.Map(), params[got]) {
		t.Fatalf("path %q, template %q: params %q, ServeMux has %q", path, got, p.Map(), params[got])
	}
	// With one candidate, order cannot matter, and one mux of everything must say the same: but for a path
	// that ends in a bare verb, at which the mux gives up before it has tried every pattern.
	if len(matching) == 1 && !verbAlone {
		if n, p := whole.match(path); n == 0 || templates[n-1] != got || !maps.Equal(p, params[got]) {
			t.Fatalf("path %q: a mux of all templates takes route %d with %q, want %q with %q", path, n, p, got, params[got])
		}
	}
}

// morePrecise is the precedence of the package comment, over templates instead of tries.
func morePrecise(a, b Template) int {
	for i := 0; ; i++ {
		aEnds, bEnds := i == len(a.segments), i == len(b.segments)
		switch {
		case aEnds && bEnds:
			return len(b.verb) - len(a.verb)
		case aEnds:
			return -1
		case bEnds:
			return 1
		case a.segments[i].kind != b.segments[i].kind:
			return int(a.segments[i].kind) - int(b.segments[i].kind)
		case a.segments[i].kind == deep && len(a.segments) != len(b.segments):
			return len(b.segments) - len(a.segments)
		}
	}
}

func mustParse(t testing.TB, s string) Template {
	t.Helper()
	tmpl, err := Parse(s)
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return tmpl
}

func lastSegment(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}
