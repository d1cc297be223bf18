package proxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/route"
)

// FuzzRewrite: whatever path comes, what is sent is one that the gateway itself would
// take, a prefix takes whole segments only, and what no rewrite touches is sent as it came.
func FuzzRewrite(f *testing.F) {
	f.Add("/re/a/b")
	f.Add("/p/%2e%2e/x")
	f.Add("/p;x/..;/y")
	f.Add("/%70/Products('1')%2B")
	f.Add("/re/%61(/b%2e/é%C3%A9")
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
		if err != nil || odd(path) != nil {
			return
		}
		if out, err := (&rewriter{}).path(path, sent); out != sent || err != nil {
			t.Errorf("%q becomes %q, %v", sent, out, err)
		}
		for _, c := range []struct {
			m *matcher
			w rewriter
		}{{re, byRegex}, {prefix, byPrefix}} {
			if !c.m.takes(r, "", path) {
				continue
			}
			out, err := c.w.path(path, sent)
			if err != nil {
				continue
			}
			again, err := route.Normalize(out)
			if err != nil || odd(again) != nil {
				t.Errorf("%q becomes %q: %v, %v", sent, out, err, odd(again))
			}
			want := "/q" + path[len("/p"):]
			if c.m.regex != nil {
				want = c.m.regex.ReplaceAllString(path, "/$2$1")
			} else if !strings.HasSuffix(sent, out[len("/q"):]) {
				t.Errorf("%q becomes %q, whose end is not as it was sent", sent, out)
			}
			if again != want {
				t.Errorf("%q becomes %q, which is %q decoded, want %q", sent, out, again, want)
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
