package proxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/rest/route"
)

// FuzzRewrite: whatever path comes, what is sent is one that the gateway itself would
// take, and a prefix takes whole segments only.
func FuzzRewrite(f *testing.F) {
	f.Add("/re/a/b")
	f.Add("/p/%2e%2e/x")
	f.Add("/p;x/..;/y")
	re, err := compileMatch(Match{Regex: "/re/(.*)/(.*)"})
	if err != nil {
		f.Fatal(err)
	}
	byRegex, err := compileRewrite(Rewrite{Regex: "/$2$1"}, re)
	if err != nil {
		f.Fatal(err)
	}
	prefix, err := compileMatch(Match{Prefix: "/p"})
	if err != nil {
		f.Fatal(err)
	}
	byPrefix, err := compileRewrite(Rewrite{Prefix: "/q"}, prefix)
	if err != nil {
		f.Fatal(err)
	}
	r := &http.Request{Header: http.Header{}}
	f.Fuzz(func(t *testing.T, sent string) {
		path, err := route.Normalize(sent)
		if err != nil || odd(path) {
			return
		}
		for _, c := range []struct {
			m *matcher
			w rewriter
		}{{re, byRegex}, {prefix, byPrefix}} {
			if !c.m.takes(r, "", path) {
				continue
			}
			out, err := c.w.path(path)
			if err != nil {
				continue
			}
			if !strings.HasPrefix(out, "/") || strings.Contains(out+"/", "/../") || strings.Contains(out, "//") || odd(out) {
				t.Errorf("%q becomes %q", path, out)
			}
		}
	})
}

// FuzzJSON: what rules make of a body is JSON, or an error; nothing that is taken away
// is left.
func FuzzJSON(f *testing.F) {
	f.Add(`{"a":{"b":1},"c":[1,2]}`)
	f.Add(`{"a":1,"a":2}`)
	f.Add(`[`)
	tr, err := compileJSON(JSONRules{Set: map[string]string{"x.y": "1"}, Remove: []string{"a.b", "secret"}, Rename: map[string]string{"c": "d.e"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		out, err := tr.apply([]byte(body))
		if err != nil {
			return
		}
		var back map[string]any
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("%q became %q: %v", body, out, err)
		}
		if _, there := back["secret"]; there {
			t.Errorf("%q became %q", body, out)
		}
	})
}
